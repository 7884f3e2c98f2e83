/**
 * Runs regular expressions of tokenizer files in time proportional to text length times pattern length: a
 * pattern state that failed at a text position is not tried there again. JavaScript's engine takes
 * exponential time for `(a+)+$` and lacks possessive quantifiers, which published tokenizers use.
 */
import { type CodePointTest, type EdgeTest, parseRegex, type RegexNode } from './regex-parser.ts';

const op = { set: 0, split: 1, jump: 2, end: 3, look: 4, notLook: 5, atomic: 6, edge: 7 } as const;

/** Maximum program length; the longest known pattern has about 1,500 instructions. */
const maxInstructions = 20_000;

export class Regex {
  readonly #ops: number[] = [];
  /** Next instruction: for a split the first alternative, for a lookaround its inner program. */
  readonly #first: number[] = [];
  /** For a split the second alternative; for a lookbehind the number of code points to go back. */
  readonly #second: number[] = [];
  readonly #tests: (CodePointTest | undefined)[] = [];
  readonly #edges: (EdgeTest | undefined)[] = [];
  /** Index of splits, lookarounds and atomic groups, whose failures are memoized. */
  readonly #state: number[] = [];
  #states = 0;
  /** Index of those whose successes are memoized too: lookarounds, atomic groups and their contents. */
  readonly #slot: number[] = [];
  #slots = 0;
  /** Inner programs still to be compiled: the calling instruction and the node. */
  readonly #pending: [number, RegexNode][] = [];
  #isInner = false;
  readonly #source: string;

  #text = '';
  /** One bit per state and text position. */
  #failed = new Uint32Array(0);
  /** End position of an inner program entered at a state and position: end + 1, 0 when unknown. */
  #ends = new Int32Array(0);
  readonly #stack: number[] = [];

  /** @throws RangeError for unsupported syntax */
  constructor(source: string) {
    this.#source = source;
    this.#emitProgram(parseRegex(source));
    this.#isInner = true;
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      this.#first[next[0]] = this.#ops.length;
      this.#emitProgram(next[1]);
    }
  }

  /** Starts and ends of all matches, leftmost first, as in Oniguruma: [start, end, start, end, …]. */
  matches(text: string): number[] {
    this.#text = text;
    this.#failed = new Uint32Array(Math.ceil(((text.length + 1) * this.#states) / 32));
    this.#ends = new Int32Array((text.length + 1) * this.#slots);
    const found: number[] = [];
    let lastEnd = -1;
    for (let start = 0; start <= text.length; ) {
      const end = this.#run(0, start, false);
      // An empty match directly after another match does not count.
      if (end < 0 || (end === start && end === lastEnd)) {
        start += (text.codePointAt(start) ?? 0) > 0xffff ? 2 : 1;
        continue;
      }
      found.push(start, end);
      lastEnd = end;
      start = end;
    }
    this.#text = '';
    this.#failed = new Uint32Array(0);
    this.#ends = new Int32Array(0);
    return found;
  }

  /** @returns the end of the match of the program at `pc` from `place` on; -1 for none */
  #run(pc: number, place: number, inner: boolean): number {
    const ops = this.#ops;
    const stack = this.#stack;
    const text = this.#text;
    const base = stack.length;
    for (;;) {
      let failed = false;
      switch (ops[pc]) {
        case op.set: {
          const codePoint = text.codePointAt(place);
          if (codePoint !== undefined && (this.#tests[pc] as CodePointTest)(codePoint)) {
            place += codePoint > 0xffff ? 2 : 1;
            pc++;
          } else failed = true;
          break;
        }
        case op.split: {
          const cell = place * this.#states + this.#state[pc];
          if (this.#hasFailed(cell)) {
            failed = true;
          } else if (inner && this.#ends[place * this.#slots + this.#slot[pc]] !== 0) {
            return this.#succeed(base, this.#ends[place * this.#slots + this.#slot[pc]] - 1);
          } else {
            // The split is on the stack below its second alternative: when it is popped, both have failed.
            stack.push(place, -1 - pc, place, this.#second[pc]);
            pc = this.#first[pc];
          }
          break;
        }
        case op.jump:
          pc = this.#first[pc];
          break;
        case op.end:
          if (inner) return this.#succeed(base, place);
          stack.length = base;
          return place;
        case op.edge:
          if ((this.#edges[pc] as EdgeTest)(text, place)) pc++;
          else failed = true;
          break;
        default: {
          const end = this.#inner(pc, place);
          if (end < 0 === (ops[pc] === op.notLook)) {
            if (ops[pc] === op.atomic) place = end;
            pc++;
          } else failed = true;
        }
      }
      while (failed) {
        if (stack.length === base) return -1;
        const next = stack.pop() as number;
        place = stack.pop() as number;
        if (next < 0) {
          this.#fail(place * this.#states + this.#state[-1 - next]);
        } else {
          pc = next;
          failed = false;
        }
      }
    }
  }

  #hasFailed(cell: number): boolean {
    return (this.#failed[cell >>> 5] & (1 << (cell & 31))) !== 0;
  }

  #fail(cell: number): void {
    this.#failed[cell >>> 5] |= 1 << (cell & 31);
  }

  /** Ends an inner program: all its splits still on the stack lead to this end. */
  #succeed(base: number, end: number): number {
    const stack = this.#stack;
    for (let i = base; i < stack.length; i += 2) {
      if (stack[i + 1] < 0) this.#ends[stack[i] * this.#slots + this.#slot[-1 - stack[i + 1]]] = end + 1;
    }
    stack.length = base;
    return end;
  }

  /**
   * The end of an inner program (lookaround, atomic group) entered at a position; -1 when it does not match.
   */
  #inner(pc: number, place: number): number {
    const cell = place * this.#states + this.#state[pc];
    const slot = place * this.#slots + this.#slot[pc];
    if (this.#hasFailed(cell)) return -1;
    if (this.#ends[slot] !== 0) return this.#ends[slot] - 1;
    let start = place;
    for (let back = this.#second[pc]; back > 0 && start >= 0; back--) {
      const low = this.#text.charCodeAt(start - 1);
      start -= low >= 0xdc00 && low < 0xe000 && start > 1 ? 2 : 1;
    }
    const end = start < 0 ? -1 : this.#run(this.#first[pc], start, true);
    if (end < 0) this.#fail(cell);
    else this.#ends[slot] = end + 1;
    return end;
  }

  #push(code: number, first = 0, second = 0): number {
    if (this.#ops.length >= maxInstructions) {
      throw new RangeError(
        `tokenizer: expected a regular expression of at most ${maxInstructions} steps, got ${JSON.stringify(this.#source.slice(0, 60))}`,
      );
    }
    const calls = code >= op.look && code <= op.atomic;
    this.#state.push(calls || code === op.split ? this.#states++ : 0);
    this.#slot.push(calls || (code === op.split && this.#isInner) ? this.#slots++ : 0);
    this.#first.push(first);
    this.#second.push(second);
    this.#tests.push(undefined);
    this.#edges.push(undefined);
    return this.#ops.push(code) - 1;
  }

  #emitProgram(node: RegexNode): void {
    this.#emit(node);
    this.#push(op.end);
  }

  #emit(node: RegexNode): void {
    switch (node.kind) {
      case 'set':
        this.#tests[this.#push(op.set)] = node.test;
        return;
      case 'edge':
        this.#edges[this.#push(op.edge)] = node.test;
        return;
      case 'sequence':
        for (const item of node.items) this.#emit(item);
        return;
      case 'choice':
        this.#emitChoice(node.items);
        return;
      case 'repeat':
        this.#emitRepeat(node);
        return;
      case 'atomic':
        this.#pending.push([this.#push(op.atomic), node.item]);
        return;
      case 'look': {
        const width = node.behind ? this.#width(node.item) : 0;
        this.#pending.push([this.#push(node.negated ? op.notLook : op.look, 0, width), node.item]);
      }
    }
  }

  #emitChoice(items: readonly RegexNode[]): void {
    const ends: number[] = [];
    for (const item of items.slice(0, -1)) {
      const split = this.#push(op.split);
      this.#first[split] = this.#ops.length;
      this.#emit(item);
      ends.push(this.#push(op.jump));
      this.#second[split] = this.#ops.length;
    }
    this.#emit(items[items.length - 1]);
    for (const jump of ends) this.#first[jump] = this.#ops.length;
  }

  #emitRepeat({ item, min, max, lazy }: Extract<RegexNode, { kind: 'repeat' }>): void {
    for (let i = 0; i < min; i++) this.#emit(item);
    const splits: number[] = [];
    for (let i = min; i < (max === Infinity ? min + 1 : max); i++) {
      const split = this.#push(op.split);
      splits.push(split);
      this.#emit(item);
      if (max === Infinity) this.#push(op.jump, split);
    }
    for (const split of splits) {
      this.#first[split] = lazy ? this.#ops.length : split + 1;
      this.#second[split] = lazy ? split + 1 : this.#ops.length;
    }
  }

  /** The fixed width of a lookbehind in code points; a variable width is refused. */
  #width(node: RegexNode): number {
    switch (node.kind) {
      case 'set':
        return 1;
      case 'sequence':
        return node.items.reduce((sum, item) => sum + this.#width(item), 0);
      case 'choice': {
        const widths = new Set(node.items.map((item) => this.#width(item)));
        if (widths.size === 1) return [...widths][0];
        break;
      }
      case 'repeat':
        if (node.min === node.max) return node.min * this.#width(node.item);
        break;
      case 'atomic':
        return this.#width(node.item);
      default:
        return 0;
    }
    throw new RangeError(
      `tokenizer: expected a lookbehind of fixed length, got ${JSON.stringify(this.#source)}`,
    );
  }
}
