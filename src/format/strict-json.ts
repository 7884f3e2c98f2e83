/**
 * A JSON parser for headers: JSON.parse neither says where a value stood nor refuses a key given twice, and both
 * matter when the text decides which bytes of a file are read. RFC 8259, nesting limited, keys unique.
 */
import { FormatError } from './format-error.ts';

/** A parsed value and the index of its first character in the text (see JsonText.fail for byte offsets). */
export interface JsonNode {
  readonly at: number;
  /** Numbers stay as written, in `raw`: whether `1.0` or `1e3` may stand for an integer is the caller's rule. */
  readonly value: string | boolean | null | { readonly raw: string } | readonly JsonNode[] | JsonObject;
}

export type JsonObject = ReadonlyMap<string, JsonNode>;

const MAX_DEPTH = 16;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERAL = /true|false|null/y;
/** A JSON text inside a file, which knows the byte of each of its characters. */
export class JsonText {
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

  /**
   * Parses the whole text as one object; spaces may follow it.
   * @throws FormatError with the byte at which the text stops being JSON, or at which a key stands a second time
   */
  parseObject(): JsonObject {
    this.#at = 0;
    const node = this.#value(0);
    if (!(node.value instanceof Map)) throw this.fail(0, `expected a JSON object, got ${describe(node)}`);
    this.#space();
    if (this.#at < this.#text.length) throw this.#unexpected('the end of the JSON text');
    return node.value;
  }

  #value(depth: number): JsonNode {
    this.#space();
    const at = this.#at;
    if (depth > MAX_DEPTH) throw this.fail(at, `expected at most ${MAX_DEPTH} levels of JSON, got more`);
    const first = this.#text[at];
    if (first === '{') return { at, value: this.#object(depth) };
    if (first === '[') return { at, value: this.#array(depth) };
    if (first === '"') return { at, value: this.#string() };
    const raw = this.#match(NUMBER);
    if (raw !== undefined) return { at, value: { raw } };
    const literal = this.#match(LITERAL);
    if (literal !== undefined) return { at, value: literal === 'null' ? null : literal === 'true' };
    throw this.#unexpected('a JSON value');
  }

  #object(depth: number): JsonObject {
    const entries = new Map<string, JsonNode>();
    this.#at++;
    this.#space();
    if (this.#take('}')) return entries;
    do {
      this.#space();
      const at = this.#at;
      const key = this.#string();
      if (entries.has(key)) throw this.fail(at, `expected each key once, got ${JSON.stringify(key)} again`);
      this.#space();
      if (!this.#take(':')) throw this.#unexpected('":"');
      entries.set(key, this.#value(depth + 1));
      this.#space();
    } while (this.#take(','));
    if (!this.#take('}')) throw this.#unexpected('"," or "}"');
    return entries;
  }

  #array(depth: number): readonly JsonNode[] {
    const items: JsonNode[] = [];
    this.#at++;
    this.#space();
    if (this.#take(']')) return items;
    do {
      items.push(this.#value(depth + 1));
      this.#space();
    } while (this.#take(','));
    if (!this.#take(']')) throw this.#unexpected('"," or "]"');
    return items;
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

/** @returns a value as an error prints it, at most 40 characters */
export function describe(node: JsonNode): string {
  const { value } = node;
  if (Array.isArray(value)) return 'an array';
  if (value instanceof Map) return 'an object';
  if (value !== null && typeof value === 'object') return (value as { raw: string }).raw.slice(0, 40);
  const text = JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 37)}…` : text;
}
