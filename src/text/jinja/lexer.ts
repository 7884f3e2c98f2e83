/**
 * Jinja's lexer with `trim_blocks` and `lstrip_blocks`, as set by transformers: a newline after a block is
 * dropped, and blanks before a block at the start of a line.
 *
 * Source: jinja2 3.1.6, lexer.py.
 */
import { exceeded, fail, limits, unsupported } from './limits.ts';
import { isSpace, SPACE } from './text.ts';

export interface Token {
  /**
   * `data`, `name`, `string`, `integer`, `float`, `open` and `close` of blocks and variables, `end`, or an
   * operator itself.
   */
  readonly type: string;
  readonly value: string;
  readonly line: number;
}

const RAW = new RegExp(`\\{%([-+]?)${SPACE}*raw${SPACE}*(?:-%\\}${SPACE}*|%\\})`, 'y');
const END_RAW = new RegExp(`\\{%([-+]?)${SPACE}*endraw${SPACE}*(?:\\+%\\}|-%\\}${SPACE}*|%\\}\\n?)`, 'g');
const END_COMMENT = new RegExp(`\\+#\\}|-#\\}${SPACE}*|#\\}\\n?`, 'g');
const END_BLOCK = new RegExp(`\\+%\\}|-%\\}${SPACE}*|%\\}\\n?`, 'y');
const END_VARIABLE = new RegExp(`-\\}\\}${SPACE}*|\\}\\}`, 'y');
const BLANK = new RegExp(`${SPACE}+`, 'y');
const FLOAT =
  /(?<!\.)(?:[0-9]+_)*[0-9]+(?:(?:\.(?:[0-9]+_)*[0-9]+)?e[+-]?(?:[0-9]+_)*[0-9]+|\.(?:[0-9]+_)*[0-9]+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[0-9a-f])+|[1-9](?:_?[0-9])*|0(?:_?0)*/iy;
const NAME = /[\p{L}\p{N}_]+/uy;
const IDENTIFIER = /^[\p{ID_Start}_]\p{ID_Continue}*$/u;
const OPERATOR = /\*\*|\/\/|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;
const CLOSING: Readonly<Record<string, string>> = { '{': '}', '(': ')', '[': ']' };

export function tokenize(template: string): Token[] {
  if (template.length > limits.source) exceeded('source', 'characters in a template', template.length);
  return new Lexer(template.replace(/\r\n?/g, '\n').replace(/\n$/, '')).run();
}

class Lexer {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  #at = 0;
  #line = 1;
  /** Index of the end of this line; negative on the last line. */
  #newline: number;
  /** Whether the last token ended a line. */
  #lineStart = true;

  constructor(source: string) {
    this.#source = source;
    this.#newline = source.indexOf('\n');
  }

  run(): Token[] {
    const open = /\{[%{#]/g;
    for (;;) {
      open.lastIndex = this.#at;
      const found = open.exec(this.#source);
      if (found === null) break;
      const raw = this.#match(RAW, found.index);
      const sign = raw === undefined ? (/[-+]/.exec(this.#source[found.index + 2] ?? '')?.[0] ?? '') : raw[1];
      this.#data(this.#source.slice(this.#at, found.index), sign, found[0] === '{{');
      const length = raw === undefined ? 2 + sign.length : raw[0].length;
      this.#advance(found.index + length);
      if (raw !== undefined) this.#raw();
      else if (found[0] === '{#') this.#comment();
      else this.#tag(found[0] === '{%' ? 'block' : 'variable');
    }
    this.#push('data', this.#source.slice(this.#at));
    this.#push('end', '');
    return this.#tokens;
  }

  #match(pattern: RegExp, at: number): RegExpExecArray | undefined {
    pattern.lastIndex = at;
    return pattern.exec(this.#source) ?? undefined;
  }

  #push(type: string, value: string): void {
    if (type !== 'data' || value !== '') this.#tokens.push({ type, value, line: this.#line });
  }

  #advance(to: number): void {
    while (this.#newline >= 0 && this.#newline < to) {
      this.#line++;
      this.#newline = this.#source.indexOf('\n', this.#newline + 1);
    }
    if (to > this.#at) this.#lineStart = this.#source[to - 1] === '\n';
    this.#at = to;
  }

  /** Text before a tag, without the whitespace that the tag strips. */
  #data(text: string, sign: string, isVariable: boolean): void {
    let end = text.length;
    const stripTo = (from: number): number => {
      while (end > from && isSpace(text.charCodeAt(end - 1))) end--;
      return end;
    };
    if (sign === '-') stripTo(0);
    else if (sign !== '+' && !isVariable) {
      const lineAt = text.lastIndexOf('\n') + 1;
      if ((lineAt > 0 || this.#lineStart) && stripTo(lineAt) > lineAt) end = text.length;
    }
    this.#push('data', text.slice(0, end));
  }

  #raw(): void {
    const end =
      this.#match(END_RAW, this.#at) ?? fail(`line ${this.#line}: expected the end of a raw block, got none`);
    this.#data(this.#source.slice(this.#at, end.index), end[1], false);
    this.#advance(end.index + end[0].length);
  }

  #comment(): void {
    const end =
      this.#match(END_COMMENT, this.#at) ??
      fail(`line ${this.#line}: expected the end of a comment, got none`);
    this.#advance(end.index + end[0].length);
  }

  #tag(kind: 'block' | 'variable'): void {
    this.#push(`open ${kind}`, '');
    const close = kind === 'block' ? END_BLOCK : END_VARIABLE;
    const brackets: string[] = [];
    for (;;) {
      const end = brackets.length === 0 ? this.#match(close, this.#at) : undefined;
      if (end !== undefined) {
        this.#push(`close ${kind}`, '');
        this.#advance(this.#at + end[0].length);
        return;
      }
      if (this.#at >= this.#source.length)
        fail(`line ${this.#line}: expected the end of a tag, got the end of the template`);
      this.#part(brackets);
    }
  }

  /** One name, literal or operator. */
  #part(brackets: string[]): void {
    const at = this.#at;
    const blank = this.#match(BLANK, at);
    if (blank) {
      this.#advance(at + blank[0].length);
      return;
    }
    for (const [type, pattern] of [
      ['float', FLOAT],
      ['integer', INTEGER],
      ['name', NAME],
    ] as const) {
      const text = this.#match(pattern, at)?.[0];
      if (text === undefined) continue;
      if (type === 'name' && !IDENTIFIER.test(text))
        fail(`line ${this.#line}: expected a name, got ${text.slice(0, 40)}`);
      this.#push(type, type === 'name' ? text : text.replaceAll('_', ''));
      this.#advance(at + text.length);
      return;
    }
    const character = this.#source[at];
    if (character === "'" || character === '"') {
      this.#string(character);
      return;
    }
    const operator = this.#match(OPERATOR, at)?.[0];
    if (operator === undefined) fail(`line ${this.#line}: unexpected character ${JSON.stringify(character)}`);
    if (operator in CLOSING) brackets.push(CLOSING[operator]);
    else if (/[\])}]/.test(operator) && brackets.pop() !== operator)
      fail(`line ${this.#line}: unexpected '${operator}'`);
    this.#push(operator, operator);
    this.#advance(at + operator.length);
  }

  #string(quote: string): void {
    let end = this.#at + 1;
    while (end < this.#source.length && this.#source[end] !== quote)
      end += this.#source[end] === '\\' ? 2 : 1;
    if (end >= this.#source.length)
      fail(`line ${this.#line}: expected the end of a string, got the end of the template`);
    this.#push('string', unescaped(this.#source.slice(this.#at + 1, end)));
    this.#advance(end + 1);
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** Python's escapes; a backslash before any other character is kept. */
function unescaped(text: string): string {
  if (!text.includes('\\')) return text;
  const pattern = /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))/gs;
  return text.replace(pattern, (whole, x, u, wide, octal, other: string | undefined) => {
    if (other !== undefined) {
      if (other === 'N') unsupported('a character by name (\\N{…}) in a string');
      if ('xuU'.includes(other)) fail(`expected hexadecimal digits after \\${other} in a string`);
      return ESCAPES[other] ?? whole;
    }
    const code = octal === undefined ? Number.parseInt(x ?? u ?? wide, 16) : Number.parseInt(octal, 8);
    if (code > 0x10ffff) fail(`expected a code point in a string, got ${whole}`);
    return String.fromCodePoint(code);
  });
}
