/** Typed look-ups in a bag of keys (config.json, GGUF metadata): the first name that is there wins, a wrong value is an error that names the key. */
import { show } from '../arguments/kinds.ts';
import { FormatError } from './format-error.ts';

/** More layers than any model has; a bound before a list of that length is built. */
const MAX_LAYERS = 65_536;

export class KeyReader {
  readonly file: string;
  readonly #get: (key: string) => unknown;
  /** Every key asked for so far, there or not. */
  readonly asked: Set<string>;

  /**
   * @param get returns the value of a key, or undefined; null counts as absent
   * @param asked a set to share with another reader of the same file
   */
  constructor(file: string, get: (key: string) => unknown, asked: Set<string> = new Set()) {
    this.file = file;
    this.#get = get;
    this.asked = asked;
  }

  /** The same file with some keys of other values, as one layer has them. */
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

  /** True when the key is there with the value null. */
  isNull(key: string): boolean {
    return this.#get(key) === null;
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  /** The name of the first of `keys` that is there; the others count as asked for, since they are other names of it. */
  find(keys: readonly string[]): string | undefined {
    return keys.filter((key) => this.has(key))[0];
  }

  /** A positive integer, or undefined when none of the keys is there. @throws FormatError for anything else */
  int(...keys: string[]): number | undefined {
    const key = this.find(keys);
    return key === undefined ? undefined : this.#checked(key, this.raw(key), 1);
  }

  /** As `int`, but one of the keys must be there. */
  needInt(...keys: string[]): number {
    const value = this.int(...keys);
    if (value === undefined) {
      const names = keys.length === 1 ? keys[0] : `one of ${keys.join(', ')}`;
      throw this.fail(names, 'expected a positive integer, got no such key');
    }
    return value;
  }

  /** A positive number of layers below 65,536. */
  layerCount(...keys: string[]): number {
    const layers = this.needInt(...keys);
    if (layers > MAX_LAYERS) {
      throw this.fail(this.find(keys) ?? keys[0], `expected at most ${MAX_LAYERS} layers, got ${layers}`);
    }
    return layers;
  }

  /** A non-negative integer per layer from one number or a list of at least `layers`; undefined when absent. */
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

  /** An array or typed array as an array; undefined when the key is absent or holds something else. */
  list(key: string): readonly unknown[] | undefined {
    const value = this.raw(key);
    if (Array.isArray(value)) return value;
    if (ArrayBuffer.isView(value) && 'length' in value)
      return Array.from(value as unknown as ArrayLike<unknown>);
    return undefined;
  }

  #checked(key: string, value: unknown, least: number): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) {
      throw this.fail(key, `expected an integer >= ${least}, got ${show(value)}`);
    }
    return value;
  }
}
