/**
 * The merges of a BPE vocabulary and their order: listed in the file, or derived from token scores. Neither
 * stores an object or a string per merge: 580,000 merges load in a fraction of a second.
 */
import { refuse } from './steps.ts';
import { hash } from './trie.ts';

/**
 * Looks up merges. `find` stores its result in `rank` and `merged` to avoid allocation: it runs for every
 * pair of every word.
 */
export interface Merges {
  /** Lower ranks merge first; at equal rank the lower `merged`. */
  rank: number;
  /** Id of the merged token. */
  merged: number;
  /** Whether two ids can be merged. */
  find(left: number, right: number): boolean;
}

/** Merges listed in a file, in rank order. */
export class ListedMerges implements Merges {
  rank = 0;
  merged = 0;
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  /** Merged id by rank; -1 until first used, because looking up all of them would dominate loading time. */
  readonly #merged: Int32Array;
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #tokens: readonly string[];
  readonly #prefixLength: number;

  /**
   * @param list `[left, right]` or `left right`
   * @param tokens texts by id
   * @param prefixLength letters of the right text to drop when merging (`continuing_subword_prefix`)
   * @throws RangeError when a merge lists a text that is not a token; `find` throws when the result is not a
   *   token
   */
  constructor(
    list: readonly (string | readonly [string, string])[],
    vocab: ReadonlyMap<string, number>,
    tokens: readonly string[],
    prefixLength: number,
  ) {
    this.#vocab = vocab;
    this.#tokens = tokens;
    this.#prefixLength = prefixLength;
    let size = 16;
    while (size < list.length * 2) size *= 2;
    this.#left = new Int32Array(size).fill(-1);
    this.#right = new Int32Array(size);
    this.#rank = new Int32Array(size);
    this.#merged = new Int32Array(list.length).fill(-1);
    for (let rank = 0; rank < list.length; rank++) {
      const merge = list[rank];
      let left: string;
      let right: string;
      if (typeof merge === 'string') {
        const cut = merge.indexOf(' ', 1);
        if (cut < 0) refuse("merges to be 'left right'", merge);
        left = merge.slice(0, cut);
        right = merge.slice(cut + 1);
      } else {
        [left, right] = merge;
      }
      const leftId = vocab.get(left) ?? refuse('merges whose parts are tokens', merge);
      const rightId = vocab.get(right) ?? refuse('merges whose parts are tokens', merge);
      const slot = this.#slot(leftId, rightId);
      this.#left[slot] = leftId;
      this.#right[slot] = rightId;
      // For a merge listed twice the later rank applies.
      this.#rank[slot] = rank;
    }
  }

  find(left: number, right: number): boolean {
    const slot = this.#slot(left, right);
    if (this.#left[slot] < 0) return false;
    this.rank = this.#rank[slot];
    this.merged = this.#merged[this.rank];
    if (this.merged < 0) this.merged = this.#resolve(left, right);
    return true;
  }

  #resolve(left: number, right: number): number {
    const text = this.#tokens[left] + this.#tokens[right].slice(this.#prefixLength);
    const id = this.#vocab.get(text) ?? refuse('every merge to make a token', text);
    this.#merged[this.rank] = id;
    return id;
  }

  #slot(left: number, right: number): number {
    const mask = this.#left.length - 1;
    let slot = hash(left, right) & mask;
    while (this.#left[slot] >= 0 && (this.#left[slot] !== left || this.#right[slot] !== right))
      slot = (slot + 1) & mask;
    return slot;
  }
}

/**
 * Every split of a piece into two pieces is a merge, ordered by score, then by the longer left part, then the
 * longer right part: the order of transformers' `generate_merges`, without building the list.
 */
export class ScoredMerges implements Merges {
  rank = 0;
  merged = 0;
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #tokens: readonly string[];
  /**
   * Rank of each score in descending order, equal scores sharing a rank; -1 for tokens that are not pieces.
   */
  readonly #ranks: Int32Array;

  /** @param scores by id; NaN for a token that is not a piece (control and byte tokens) */
  constructor(scores: Float64Array, vocab: ReadonlyMap<string, number>, tokens: readonly string[]) {
    this.#ranks = descendingRanks(scores) ?? sortedRanks(scores);
    this.#vocab = vocab;
    this.#tokens = tokens;
  }

  find(left: number, right: number): boolean {
    const ranks = this.#ranks;
    if (ranks[left] < 0 || ranks[right] < 0) return false;
    const a = this.#tokens[left];
    const b = this.#tokens[right];
    const merged = this.#vocab.get(a + b);
    if (merged === undefined || ranks[merged] < 0) return false;
    this.merged = merged;
    this.rank = (ranks[merged] * 1024 + 1023 - lengthOf(a)) * 1024 + 1023 - lengthOf(b);
    return true;
  }
}

/** Ranks of scores that descend by id, as in most files; undefined otherwise. */
function descendingRanks(scores: Float64Array): Int32Array | undefined {
  const ranks = new Int32Array(scores.length).fill(-1);
  let rank = -1;
  let last = Infinity;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id];
    if (score > last) return undefined;
    if (Number.isNaN(score)) continue;
    if (rank < 0 || score < last) rank++;
    ranks[id] = rank;
    last = score;
  }
  return ranks;
}

function sortedRanks(scores: Float64Array): Int32Array {
  const sorted = scores.filter((score) => !Number.isNaN(score)).sort();
  const ranks = new Map<number, number>();
  for (let i = sorted.length - 1; i >= 0; i--) if (!ranks.has(sorted[i])) ranks.set(sorted[i], ranks.size);
  return Int32Array.from(scores, (score) => ranks.get(score) ?? -1);
}

/** In code points, at most 1,023. */
function lengthOf(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) >>> 10 === 0x37) length--;
  return Math.min(length, 1023);
}
