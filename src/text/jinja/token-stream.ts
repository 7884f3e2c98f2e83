/** The tokens of a template and the current position, shared by both parsers. */
import type { Token } from './lexer.ts';
import { exceeded, fail, limits } from './limits.ts';

export class TokenStream {
  readonly #tokens: readonly Token[];
  #at = 0;
  #nesting = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get current(): Token {
    return this.#tokens[this.#at];
  }

  get following(): Token {
    return this.#tokens[Math.min(this.#at + 1, this.#tokens.length - 1)];
  }

  next(): Token {
    const token = this.current;
    if (token.type !== 'end') this.#at++;
    return token;
  }

  isName(...names: string[]): boolean {
    return this.current.type === 'name' && names.includes(this.current.value);
  }

  /** Skips these names when all of them follow. */
  skipName(...names: string[]): boolean {
    const found = names.every((name, i) => {
      const token = this.#tokens[this.#at + i];
      return token.type === 'name' && token.value === name;
    });
    if (found) this.#at += names.length;
    return found;
  }

  skip(type: string): boolean {
    const found = this.current.type === type;
    if (found) this.next();
    return found;
  }

  expect(type: string): Token {
    if (this.current.type !== type) this.unexpected(`'${type}'`);
    return this.next();
  }

  expectName(name: string): void {
    if (!this.skipName(name)) this.unexpected(`'${name}'`);
  }

  unexpected(expected: string): never {
    const { type, value, line } = this.current;
    fail(`line ${line}: expected ${expected}, got ${value === '' ? type : `'${value.slice(0, 40)}'`}`);
  }

  /** Runs `parse` one level deeper; the nesting of brackets and blocks is limited. */
  nested<T>(parse: () => T): T {
    if (++this.#nesting > limits.nesting) {
      exceeded('nesting', 'nested brackets and blocks', this.#nesting);
    }
    const result = parse();
    this.#nesting--;
    return result;
  }
}
