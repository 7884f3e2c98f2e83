/**
 * Typed look-ups in config.json or GGUF metadata. Where several names are given, the first that is present
 * counts. A wrong value is an error that names its key.
 */
import { show } from '../arguments/kinds.ts';
import { FormatError } from './format-error.ts';

/** More layers than any model has. It bounds the lists with one entry per layer. */
const MAX_LAYERS = 65_536;

export class KeyReader {
  readonly file: string;
  readonly #get: (key: string) => unknown;
  /** Every key looked up so far, present or not. */
  readonly asked: Set<string>;

  /**
   * @param get returns the value of a key, or undefined; null counts as absent
   * @param asked the set of another reader of the same file, to add to
   */
  constructor(file: string, get: (key: string) => unknown, asked: Set<string> = new Set()) {
    this.file = file;
    this.#get = get;
    this.asked = asked;
  }

  /** A reader of the same file with other values for some keys. */
  with(overrides: Readonly<Record<string, unknown>>): KeyReader {
    const get = (key: string) => (Object.hasOwn(overrides, key) ? overrides[key] : this.#get(key));
    return new KeyReader(this.file, get, this.asked);
  }

  /** @returns an error about `key` */
  fail(key: string, detail: string): FormatError {
    return new FormatError(this.file, undefined, `${key}: ${detail}`);
  }

  /** The value as it is; null and undefined are both undefined. */
  raw(key: string): unknown {
    this.asked.add(key);
    return this.#get(key) ?? undefined;
  }

  /** Whether the key is present with the value null. */
  isNull(key: string): boolean {
    return this.#get(key) === null;
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  /**
   * The first of `keys` that is present. All of them count as looked up, since they are names of one thing.
   */
  find(keys: readonly string[]): string | undefined {
    return keys.filter((key) => this.has(key))[0];
  }

  /** A positive integer; undefined when no key is present. @throws FormatError for another value */
  int(...keys: string[]): number | undefined {
    const key = this.find(keys);
    return key === undefined ? undefined : this.#checked(key, this.raw(key), 1);
  }

  /** A positive integer. @throws FormatError also when no key is present */
  needInt(...keys: string[]): number {
    const value = this.int(...keys);
    if (value === undefined) {
      const empty = keys.find((key) => this.isNull(key));
      if (empty !== undefined) throw this.fail(empty, 'expected an integer >= 1, got null');
      const names = keys.length === 1 ? keys[0] : `one of ${keys.join(', ')}`;
      throw this.fail(names, 'expected an integer >= 1, got no such key');
    }
    return value;
  }

  /** A positive number of layers, at most 65,536. */
  layerCount(...keys: string[]): number {
    const layers = this.needInt(...keys);
    if (layers > MAX_LAYERS) {
      throw this.fail(this.find(keys) ?? keys[0], `expected at most ${MAX_LAYERS} layers, got ${layers}`);
    }
    return layers;
  }

  /** A non-negative integer, of a list the first; undefined when no key is present. */
  count(...keys: string[]): number | undefined {
    return this.perLayer(1, ...keys)?.[0];
  }

  /**
   * A non-negative integer per layer, from one number or a list of at least `layers`; undefined when absent.
   */
  perLayer(layers: number, ...keys: string[]): readonly number[] | undefined {
    const key = this.find(keys);
    if (key === undefined) return undefined;
    const list = this.list(key);
    if (list === undefined) return new Array<number>(layers).fill(this.#checked(key, this.raw(key), 0));
    if (list.length < layers) throw this.fail(key, `expected ${layers} layers, got ${list.length}`);
    return list.slice(0, layers).map((item) => this.#checked(key, item, 0));
  }

  flag(key: string): boolean | undefined {
    const value = this.raw(key);
    if (value !== undefined && typeof value !== 'boolean') {
      throw this.fail(key, `expected true or false, got ${show(value)}`);
    }
    return value;
  }

  /** An array or typed array as an array; undefined when the key is absent or has another value. */
  list(key: string): readonly unknown[] | undefined {
    const value = this.raw(key);
    if (Array.isArray(value)) return value;
    if (ArrayBuffer.isView(value) && 'length' in value)
      return Array.from(value as unknown as ArrayLike<unknown>);
    return undefined;
  }

  #checked(key: string, value: unknown, least: number): number {
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least) return value;
    const isLarge = Number.isInteger(value) && (value as number) >= least;
    throw this.fail(key, `expected an integer ${isLarge ? 'below 2^53' : `>= ${least}`}, got ${show(value)}`);
  }
}
