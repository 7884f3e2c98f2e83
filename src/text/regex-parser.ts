/**
 * Regular expressions of tokenizer files: Oniguruma's syntax and its Unicode classes, as far as tokenizers
 * use them. Unsupported syntax (back references, options such as `(?i)` for the rest of a pattern,
 * conditionals) is refused by name. Checked against Rust `tokenizers`, which uses Oniguruma
 * (`test/golden/tokenizers`).
 */

/** Whether a code point is in a set. */
export type CodePointTest = (codePoint: number) => boolean;

/** Whether a position in a text, in UTF-16 units, is a boundary such as `\b`. */
export type EdgeTest = (text: string, place: number) => boolean;

export type RegexNode =
  | { readonly kind: 'set'; readonly test: CodePointTest }
  | { readonly kind: 'sequence'; readonly items: readonly RegexNode[] }
  | { readonly kind: 'choice'; readonly items: readonly RegexNode[] }
  | {
      readonly kind: 'repeat';
      readonly item: RegexNode;
      readonly min: number;
      readonly max: number;
      readonly lazy: boolean;
    }
  | { readonly kind: 'atomic'; readonly item: RegexNode }
  | { readonly kind: 'look'; readonly item: RegexNode; readonly behind: boolean; readonly negated: boolean }
  | { readonly kind: 'edge'; readonly test: EdgeTest };

const isNumber = unicode('\\p{Nd}');
export const isSpace: CodePointTest = unicode('\\p{White_Space}');
export const isWord: CodePointTest = unicode('[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]');
/** Outside brackets Oniguruma's `\w` includes ², ³, ¹, ¼, ½ and ¾. */
const isWordOrFraction = unicode('[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u00B2\\u00B3\\u00B9\\u00BC-\\u00BE]');
const isHexDigit = unicode('[0-9A-Fa-f]');

const posixClasses: Readonly<Record<string, CodePointTest>> = {
  alpha: unicode('\\p{Alphabetic}'),
  alnum: unicode('[\\p{Alphabetic}\\p{Nd}]'),
  digit: isNumber,
  space: isSpace,
  word: isWord,
  xdigit: isHexDigit,
};

const controlEscapes: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, a: 7, e: 27 };

/** Oniguruma's case folding beyond a letter's two cases: long s and the Kelvin sign. */
const otherCases: Readonly<Record<string, number>> = { s: 0x17f, k: 0x212a };
/** Pairs that fold to one letter (ß, ﬀ, ﬁ, ﬂ, ﬅ); not supported. */
const foldingPair = /ss|f[fil]|st/i;

/** The test of a set in JavaScript's syntax. */
export function unicode(source: string): CodePointTest {
  const pattern = new RegExp(`^${source}$`, 'u');
  return remembered((codePoint) => pattern.test(String.fromCodePoint(codePoint)));
}

const properties = new Map<string, CodePointTest>();

/** `\p{name}`: a general category, a property or a script. */
function property(name: string): CodePointTest | undefined {
  const found = properties.get(name);
  if (found !== undefined) return found;
  if (!/^[A-Za-z_]+$/.test(name)) return undefined;
  if (name === 'Word') return isWordOrFraction;
  for (const spelling of [name, `Script=${name}`]) {
    try {
      const test = unicode(`\\p{${spelling}}`);
      properties.set(name, test);
      return test;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return undefined;
}

/** @throws RangeError naming the unsupported part of the pattern */
export function parseRegex(source: string): RegexNode {
  return new RegexParser(source).parse();
}

const maxDepth = 50;
const maxRepeat = 1000;

class RegexParser {
  readonly #source: string;
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
  }

  parse(): RegexNode {
    const node = this.#choice(false);
    if (this.#at < this.#source.length) throw this.#refuse("')' without '('");
    return node;
  }

  #refuse(what: string): RangeError {
    return new RangeError(
      `tokenizer: expected a regular expression without ${what} at ${this.#at}, got ${JSON.stringify(this.#source)}`,
    );
  }

  #takes(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#source) ?? undefined;
    if (found !== undefined) this.#at += found[0].length;
    return found;
  }

  #codePoint(): number {
    const codePoint = this.#source.codePointAt(this.#at);
    if (codePoint === undefined) throw this.#refuse('an unfinished escape, class or group');
    this.#at += codePoint > 0xffff ? 2 : 1;
    return codePoint;
  }

  #choice(fold: boolean): RegexNode {
    if (++this.#depth > maxDepth) throw this.#refuse(`more than ${maxDepth} nested groups`);
    const items = [this.#sequence(fold)];
    while (this.#takes('|')) items.push(this.#sequence(fold));
    this.#depth--;
    return items.length === 1 ? items[0] : { kind: 'choice', items };
  }

  #sequence(fold: boolean): RegexNode {
    const items: RegexNode[] = [];
    const start = this.#at;
    while (this.#at < this.#source.length && !'|)'.includes(this.#source[this.#at]))
      items.push(this.#repeated(fold));
    const text = this.#source.slice(start, this.#at);
    if (fold && foldingPair.test(text))
      throw this.#refuse(`letters in (?i: that case folding merges (${text})`);
    return items.length === 1 ? items[0] : { kind: 'sequence', items };
  }

  #repeated(fold: boolean): RegexNode {
    let node = this.#atom(fold);
    for (;;) {
      const found = this.#match(/[*+?]|\{(\d*),(\d*)\}|\{(\d+)\}/y);
      if (found === undefined) return node;
      const [text, low, high, exact] = found;
      if (text === '{,}') throw this.#refuse(text);
      if (node.kind === 'edge' || node.kind === 'look') throw this.#refuse('a repeated anchor or lookaround');
      const interval = text.length > 1;
      const min = interval ? Number(exact ?? low) : text === '+' ? 1 : 0;
      const most = interval ? (exact ?? high) : text === '?' ? '1' : '';
      const max = most === '' ? Infinity : Number(most);
      if (min > max || min > maxRepeat || (max !== Infinity && max > maxRepeat))
        throw this.#refuse(`the repetition ${text}`);
      const lazy = this.#takes('?');
      if (lazy && exact !== undefined) throw this.#refuse(`${text}?`);
      if (max === Infinity && isNullable(node))
        throw this.#refuse('an unlimited repetition of a part that may be empty');
      node = { kind: 'repeat', item: node, min, max, lazy };
      // A + after an interval repeats it; after other quantifiers it makes them possessive.
      if (!lazy && !interval && this.#takes('+')) node = { kind: 'atomic', item: node };
    }
  }

  #atom(fold: boolean): RegexNode {
    if (this.#source[this.#at] === '(') return this.#group(fold);
    if (this.#source[this.#at] === '[') return { kind: 'set', test: this.#class(fold) };
    if (this.#takes('.')) return { kind: 'set', test: (codePoint) => codePoint !== 10 };
    if (this.#takes('^')) return edge((text, place) => place === 0 || text[place - 1] === '\n');
    if (this.#takes('$')) return edge((text, place) => place === text.length || text[place] === '\n');
    if ('*+?'.includes(this.#source[this.#at]) || /^\{(?:\d*,\d*|\d+)\}/.test(this.#source.slice(this.#at)))
      throw this.#refuse('a repetition of nothing');
    if (this.#source[this.#at] !== '\\') return this.#literal(this.#codePoint(), fold);
    const anchor = this.#match(/\\[AzZbB]/y);
    if (anchor !== undefined) return edge(anchors[anchor[0][1]]);
    const meant = this.#escape(false);
    if (typeof meant === 'number') return this.#literal(meant, fold);
    if (fold) throw this.#refuse('a class in (?i:');
    return { kind: 'set', test: meant };
  }

  #literal(codePoint: number, fold: boolean): RegexNode {
    if (!fold) return { kind: 'set', test: (other) => other === codePoint };
    if (codePoint > 127) throw this.#refuse('a letter outside of ASCII in (?i:');
    const cases = casesOf(codePoint);
    return { kind: 'set', test: (other) => cases.includes(other) };
  }

  #group(fold: boolean): RegexNode {
    const [open] = this.#match(/\(\?(?:i?:|>|<?[=!]|<[A-Za-z_]\w*>)|\((?!\?)/y) ?? [];
    if (open === undefined) throw this.#refuse(`${this.#source.slice(this.#at, this.#at + 4)} as a group`);
    const item = this.#choice(fold || open === '(?i:');
    if (!this.#takes(')')) throw this.#refuse("'(' without ')'");
    if (open === '(?>') return { kind: 'atomic', item };
    const look = /^\(\?(<?)([=!])$/.exec(open);
    if (look === null) return item;
    return { kind: 'look', item, behind: look[1] === '<', negated: look[2] === '!' };
  }

  /** A code point, or the set of an escape. */
  #escape(inClass: boolean): number | CodePointTest {
    const named = this.#match(/\\([pP])\{(\^?)([^}]*)\}/y);
    if (named !== undefined) {
      const test = property(named[3]);
      if (test === undefined) throw this.#refuse(`the property ${named[0]}`);
      return (named[1] === 'P') === (named[2] === '^') ? test : not(test);
    }
    const hex = this.#match(/\\x\{([0-9A-Fa-f]{1,6})\}|\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})/y);
    if (hex !== undefined) return Number.parseInt(hex[1] ?? hex[2] ?? hex[3], 16);
    this.#at++;
    const letter = String.fromCodePoint(this.#codePoint());
    const word = inClass ? isWord : isWordOrFraction;
    const classes: Readonly<Record<string, CodePointTest>> = {
      s: isSpace,
      d: isNumber,
      w: word,
      h: isHexDigit,
    };
    const lower = letter.toLowerCase();
    if (Object.hasOwn(classes, lower)) return letter === lower ? classes[lower] : not(classes[lower]);
    if (Object.hasOwn(controlEscapes, letter)) return controlEscapes[letter];
    if (/[A-Za-z0-9]/.test(letter)) throw this.#refuse(`\\${letter}`);
    return letter.codePointAt(0) as number;
  }

  /** `[…]` with ranges, nested classes, `&&` and a leading `^`. */
  #class(fold: boolean): CodePointTest {
    if (++this.#depth > maxDepth) throw this.#refuse(`more than ${maxDepth} nested groups`);
    this.#at++;
    const negated = this.#takes('^');
    const parts: CodePointTest[][] = [[]];
    let first = true;
    for (; first || this.#source[this.#at] !== ']'; first = false) {
      if (this.#takes('&&')) {
        parts.push([]);
        continue;
      }
      (parts.at(-1) as CodePointTest[]).push(this.#classItem(fold));
    }
    this.#at++;
    this.#depth--;
    if (parts.some((tests) => tests.length === 0)) throw this.#refuse('an empty class');
    const unions = parts.map((tests) => (tests.length === 1 ? tests[0] : anyOf(tests)));
    const test: CodePointTest =
      unions.length === 1 ? unions[0] : (codePoint) => unions.every((union) => union(codePoint));
    return remembered(negated ? not(test) : test);
  }

  #classItem(fold: boolean): CodePointTest {
    const posix = this.#match(/\[:(\^?)(\w+):\]/y);
    if (posix !== undefined) {
      const test = posixClasses[posix[2]];
      if (test === undefined || fold) throw this.#refuse(posix[0]);
      return posix[1] === '^' ? not(test) : test;
    }
    if (this.#source[this.#at] === '[') return this.#class(fold);
    const low = this.#classAtom();
    const range = /^-(?!\]|&&)/.test(this.#source.slice(this.#at, this.#at + 3));
    if (typeof low !== 'number') {
      if (range) throw this.#refuse('a range that starts with a class');
      if (fold) throw this.#refuse('a class in (?i:');
      return low;
    }
    let high = low;
    if (range) {
      this.#at++;
      const end = this.#source[this.#at] === '[' ? undefined : this.#classAtom();
      if (typeof end !== 'number' || end < low)
        throw this.#refuse('a range whose end is not a character after its start');
      high = end;
    }
    if (!fold) return (codePoint) => codePoint >= low && codePoint <= high;
    if (high > 127) throw this.#refuse('a letter outside of ASCII in (?i:');
    return (codePoint) => casesOf(codePoint).some((other) => other >= low && other <= high);
  }

  #classAtom(): number | CodePointTest {
    return this.#source[this.#at] === '\\' ? this.#escape(true) : this.#codePoint();
  }
}

const edge = (test: EdgeTest): RegexNode => ({ kind: 'edge', test });
const not =
  (test: CodePointTest): CodePointTest =>
  (codePoint) =>
    !test(codePoint);
const anyOf =
  (tests: readonly CodePointTest[]): CodePointTest =>
  (codePoint) =>
    tests.some((test) => test(codePoint));

/** Caches the results of a test for the lower 65,536 code points. */
function remembered(test: CodePointTest): CodePointTest {
  const known = new Uint8Array(0x10000);
  return (codePoint) => {
    if (codePoint > 0xffff) return test(codePoint);
    if (known[codePoint] === 0) known[codePoint] = test(codePoint) ? 1 : 2;
    return known[codePoint] === 1;
  };
}

/** A code point and its case variants; only itself for others than ASCII letters. */
function casesOf(codePoint: number): readonly number[] {
  const folded = codePoint === 0x17f ? 's' : codePoint === 0x212a ? 'k' : String.fromCodePoint(codePoint);
  if (!/^[A-Za-z]$/.test(folded)) return [codePoint];
  const lower = folded.toLowerCase();
  const cases = [lower.charCodeAt(0), lower.toUpperCase().charCodeAt(0)];
  return Object.hasOwn(otherCases, lower) ? [...cases, otherCases[lower]] : cases;
}

/** Whether the characters before and after a position pass a test; none does at an end of the text. */
export function testAround(
  test: CodePointTest,
  text: string,
  place: number,
): [before: boolean, after: boolean] {
  const low = text.charCodeAt(place - 1);
  const before = text.codePointAt(low >= 0xdc00 && low < 0xe000 && place > 1 ? place - 2 : place - 1);
  const after = text.codePointAt(place);
  return [before !== undefined && test(before), after !== undefined && test(after)];
}

function isWordEdge(text: string, place: number): boolean {
  const [before, after] = testAround(isWordOrFraction, text, place);
  return before !== after;
}

const anchors: Readonly<Record<string, EdgeTest>> = {
  A: (_, place) => place === 0,
  z: (text, place) => place === text.length,
  Z: (text, place) => place === text.length || (place === text.length - 1 && text[place] === '\n'),
  b: isWordEdge,
  B: (text, place) => !isWordEdge(text, place),
};

function isNullable(node: RegexNode): boolean {
  switch (node.kind) {
    case 'set':
      return false;
    case 'sequence':
      return node.items.every(isNullable);
    case 'choice':
      return node.items.some(isNullable);
    case 'repeat':
      return node.min === 0 || isNullable(node.item);
    case 'atomic':
      return isNullable(node.item);
    default:
      return true;
  }
}
