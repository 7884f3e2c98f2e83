/**
 * A JSON reader for headers. JSON.parse gives no position of a value and accepts a key given twice; both
 * matter when the text decides which bytes of a file are read. Values are read where they are needed and
 * skipped elsewhere, so that no tree of objects is built. RFC 8259 with limited nesting and unique keys.
 */
import { FormatError } from './format-error.ts';

const MAX_DEPTH = 16;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERAL = /true|false|null/y;
const DIGITS = /\d+(?![.eE\d])/y;

/** A position in a JSON text inside a file. Errors give the byte of the file. */
export class JsonReader {
  readonly #file: string;
  readonly #start: number;
  readonly #text: string;
  #at = 0;

  /**
   * @param file what errors call the source
   * @param bytes UTF-8 text
   * @param start byte of the file at which `bytes` begins
   * @throws FormatError when the bytes are not UTF-8
   */
  constructor(file: string, bytes: Uint8Array, start: number) {
    this.#file = file;
    this.#start = start;
    try {
      this.#text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (cause) {
      throw new FormatError(file, start, 'expected JSON in UTF-8, got bytes that are not UTF-8', { cause });
    }
  }

  /** @returns an error at the byte of character `at` */
  fail(at: number, detail: string): FormatError {
    const bytesBefore = new TextEncoder().encode(this.#text.slice(0, at)).length;
    return new FormatError(this.#file, this.#start + bytesBefore, detail);
  }

  /** The index of the next value's first character, for `fail` and `describe`. */
  next(): number {
    this.#space();
    return this.#at;
  }

  /**
   * Reads an object if the next value is one; another value is skipped.
   * @param field reads or skips the value of each key; `at` is the index of that value
   * @throws FormatError when a key is given twice, or what `field` throws
   * @returns whether it was an object
   */
  object(field: (key: string, at: number) => void): boolean {
    if (this.#text[this.next()] !== '{') {
      this.skip();
      return false;
    }
    const keys = new Set<string>();
    this.#fields((key, keyAt) => {
      if (keys.has(key)) throw this.fail(keyAt, `expected each key once, got ${JSON.stringify(key)} again`);
      keys.add(key);
      field(key, this.next());
    });
    return true;
  }

  /** The next value if it is a string; another value is skipped and gives undefined. */
  string(): string | undefined {
    if (this.#text[this.next()] === '"') return this.#string();
    this.skip();
    return undefined;
  }

  /**
   * The next value if it is an array of at most `maxCount` integers in 0..2^53; another value is skipped and
   * gives undefined. Plain digits only: `1.0` and `1e3` are not indices, and numbers past 2^53 would be
   * inexact.
   */
  integers(maxCount: number): number[] | undefined {
    let fits = this.#text[this.next()] === '[';
    if (!fits) {
      this.skip();
      return undefined;
    }
    const numbers: number[] = [];
    this.#sequence(']', () => {
      this.#space();
      const number = fits ? Number(this.#match(DIGITS) ?? Number.NaN) : Number.NaN;
      if (Number.isNaN(number)) this.skip(1);
      fits &&= Number.isSafeInteger(number) && numbers.push(number) <= maxCount;
    });
    return fits ? numbers : undefined;
  }

  /**
   * Skips the next value, of any kind.
   * @throws FormatError where the text is not JSON or is nested too deep
   */
  skip(depth = 0): void {
    const at = this.next();
    if (depth > MAX_DEPTH) throw this.fail(at, `expected at most ${MAX_DEPTH} levels of JSON, got more`);
    const first = this.#text[at];
    if (first === '{') this.#fields(() => this.skip(depth + 1));
    else if (first === '[') this.#sequence(']', () => this.skip(depth + 1));
    else if (first === '"') this.#string();
    else if (!(this.#match(NUMBER) ?? this.#match(LITERAL))) throw this.#unexpected('a JSON value');
  }

  /** @throws FormatError unless nothing but spaces follows */
  end(): void {
    if (this.next() < this.#text.length) throw this.#unexpected('the end of the JSON text');
  }

  /** @returns the value at `at` as an error prints it, at most 40 characters */
  describe(at: number): string {
    const first = this.#text[at];
    if (first === '[') return 'an array';
    if (first === '{') return 'an object';
    const rest = this.#text.slice(at, at + 100);
    const token = /^(?:"(?:[^"\\]|\\.)*"?|[^\s,:\]}]*)/.exec(rest)?.[0] ?? '';
    return token.length > 40 ? `${token.slice(0, 37)}…` : token;
  }

  #fields(field: (key: string, keyAt: number) => void): void {
    this.#sequence('}', () => {
      const keyAt = this.next();
      const key = this.#string();
      this.#space();
      if (!this.#take(':')) throw this.#unexpected('":"');
      field(key, keyAt);
    });
  }

  /** From an opening bracket to `close`: items with commas between them. */
  #sequence(close: '}' | ']', item: () => void): void {
    this.#at++;
    this.#space();
    if (this.#take(close)) return;
    do {
      item();
      this.#space();
    } while (this.#take(','));
    if (!this.#take(close)) throw this.#unexpected(`"," or "${close}"`);
  }

  #string(): string {
    const start = this.#at;
    const text = this.#text;
    if (text[start] !== '"') throw this.#unexpected('a JSON string');
    let escaped = false;
    let at = start + 1;
    for (let code = text.charCodeAt(at); code !== 34; code = text.charCodeAt(at)) {
      // A control character, or NaN past the end of the text.
      if (!(code >= 32)) throw this.fail(start, 'expected a JSON string, got one without its closing quote');
      if (code === 92) escaped = true;
      at += code === 92 ? 2 : 1;
    }
    this.#at = at + 1;
    if (!escaped) return text.slice(start + 1, at);
    try {
      return JSON.parse(text.slice(start, at + 1)) as string;
    } catch {
      throw this.fail(start, 'expected a JSON string, got one with a bad escape');
    }
  }

  #space(): void {
    for (; this.#at < this.#text.length; this.#at++) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return;
    }
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #unexpected(expected: string): FormatError {
    const got = this.#at < this.#text.length ? JSON.stringify(this.#text[this.#at]) : 'the end of the text';
    return this.fail(this.#at, `expected ${expected}, got ${got}`);
  }
}
