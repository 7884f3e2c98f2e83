/**
 * Streams of random keys as in Flax NNX: a stream has a key and a counter, and its n-th call returns
 * `foldIn(key, n)`. So a model's parameters depend on the seed and the order in which its modules are
 * created.
 *
 * Source: flax/nnx/rnglib.py (RngStream, Rngs).
 */
import { foldIn, type KeyWords, key, keyOf, keyWords } from '../random/key.ts';
import { Tensor } from '../tensor/tensor.ts';

/** A seed, or a key to start from. */
export type Seed = number | bigint | Tensor;

/** Call it for the next key. */
export interface RngStream {
  (): Tensor;
  /** The stream's name. */
  readonly tag: string;
  /** The key it started from. */
  readonly key: Tensor;
  /** Number of keys returned so far. */
  readonly count: number;
  /** A new stream that starts from this one's next key. */
  fork(): RngStream;
}

/** The part of `Rngs` that initialising parameters uses. */
export interface ParamKeys {
  /** The next key. */
  readonly params: () => Tensor;
}

/** A stream of keys from a seed. */
export function rngStream(seed: Seed, tag = 'default'): RngStream {
  const start = seed instanceof Tensor ? seed : key(seed);
  return streamOf(keyWords('rngStream', start), tag);
}

function streamOf(words: KeyWords, tag: string): RngStream {
  let count = 0;
  const next = () => {
    const start = keyOf(words);
    const made = foldIn(start, count++);
    start.dispose();
    return made;
  };
  const fork = () => streamOf(keyWords('fork', next()), tag);
  const stream = Object.assign(next, { tag, fork });
  Object.defineProperty(stream, 'key', { get: () => keyOf(words) });
  Object.defineProperty(stream, 'count', { get: () => count });
  return stream as typeof stream & Pick<RngStream, 'key' | 'count'>;
}

/**
 * Named streams. Any other name uses the stream `default`.
 * @example
 * new Rngs(0); // every stream from seed 0
 * new Rngs(0, { dropout: 1 }); // dropout from seed 1, the others from 0
 * new Rngs({ params: 0, dropout: 1 }); // these two only
 */
export class Rngs {
  readonly #streams = new Map<string, RngStream>();

  constructor(
    seed?: Seed | Readonly<Record<string, Seed | RngStream>>,
    named: Readonly<Record<string, Seed | RngStream>> = {},
  ) {
    const isSeed = seed instanceof Tensor || typeof seed !== 'object';
    const all = isSeed ? named : { ...seed, ...named };
    // The default stream comes last in iteration order, as in Flax.
    for (const [name, value] of Object.entries(all)) this.#add(name, value);
    if (isSeed && seed !== undefined) this.#add('default', seed);
  }

  #add(name: string, seed: Seed | RngStream): void {
    const isStream = typeof seed === 'function';
    this.#streams.set(name, isStream ? streamOf(keyWords('Rngs', seed.key), name) : rngStream(seed, name));
  }

  /** The stream of that name, or the default one. @throws RangeError when there is neither. */
  stream(name: string): RngStream {
    const stream = this.#streams.get(name) ?? this.#streams.get('default');
    if (!stream) throw new RangeError(`No RngStream named '${name}' found in Rngs.`);
    return stream;
  }

  /** The stream of all other names. */
  get default(): RngStream {
    return this.stream('default');
  }

  /** The stream of initial parameters. */
  get params(): RngStream {
    return this.stream('params');
  }

  /** The stream of dropout masks. */
  get dropout(): RngStream {
    return this.stream('dropout');
  }

  /** Names of the given streams. */
  names(): string[] {
    return [...this.#streams.keys()];
  }

  /**
   * New streams of the same names, each started from the next key of its stream, so both continue with
   * different keys.
   */
  fork(): Rngs {
    const forked: Record<string, RngStream> = {};
    for (const [name, stream] of this.#streams) forked[name] = stream.fork();
    return new Rngs(forked);
  }
}
