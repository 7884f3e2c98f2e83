/**
 * Which two tokens of a BPE vocabulary make one, and in which order: listed, or following from the tokens' scores.
 * Both answer without an object or a text per merge: 580,000 of them are read in a fraction of a second.
 */
import { refuse } from './steps.ts';
import { hash } from './trie.ts';

/** What two tokens make. `find` leaves its answer in `rank` and `merged`, since it runs for every pair of every word. */
export interface Merges {
  /** Smaller goes first. Equal ranks of other tokens: the smaller `merged` goes first. */
  rank: number;
  /** Id of the token that the two make. */
  merged: number;
  /** Whether two ids make a token. */
  find(left: number, right: number): boolean;
}

/** Merges that a file lists, first come first served. */
export class ListedMerges implements Merges {
  rank = 0;
  merged = 0;
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  /** By rank; -1 where nobody has asked yet, since to look all of them up takes longer than the rest. */
  readonly #merged: Int32Array;
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #tokens: readonly string[];
  readonly #prefixLength: number;

  /**
   * @param list `[left, right]` or `left right`
   * @param tokens texts by id
   * @param prefixLength how many letters of the right text are no part of the merged one (`continuing_subword_prefix`)
   * @throws RangeError when a merge names a text that is no token; `find` throws where a merge makes one
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
      const leftId = vocab.get(left) ?? refuse('merges of tokens', merge);
      const rightId = vocab.get(right) ?? refuse('merges of tokens', merge);
      const slot = this.#slot(leftId, rightId);
      this.#left[slot] = leftId;
      this.#right[slot] = rightId;
      // Of a merge that is listed twice the later place counts.
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
 * Every way to put a piece together from two others, best score first, of equal ones that with the longer left part, then
 * the longer right part: the order of transformers' `generate_merges`, without the list.
 */
export class ScoredMerges implements Merges {
  rank = 0;
  merged = 0;
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #tokens: readonly string[];
  /** Places of the scores in falling order, equal scores sharing one; -1 for tokens that are no pieces. */
  readonly #places: Int32Array;

  /** @param scores by id; NaN for a token that is no piece (control and byte tokens) */
  constructor(scores: Float64Array, vocab: ReadonlyMap<string, number>, tokens: readonly string[]) {
    this.#places = fallingPlaces(scores) ?? sortedPlaces(scores);
    this.#vocab = vocab;
    this.#tokens = tokens;
  }

  find(left: number, right: number): boolean {
    const places = this.#places;
    if (places[left] < 0 || places[right] < 0) return false;
    const a = this.#tokens[left];
    const b = this.#tokens[right];
    const merged = this.#vocab.get(a + b);
    if (merged === undefined || places[merged] < 0) return false;
    this.merged = merged;
    this.rank = (places[merged] * 1024 + 1023 - lengthOf(a)) * 1024 + 1023 - lengthOf(b);
    return true;
  }
}

/** Places of scores that fall from id to id, as most files have them; undefined when these do not. */
function fallingPlaces(scores: Float64Array): Int32Array | undefined {
  const places = new Int32Array(scores.length).fill(-1);
  let place = -1;
  let last = Infinity;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id];
    if (score > last) return undefined;
    if (Number.isNaN(score)) continue;
    if (place < 0 || score < last) place++;
    places[id] = place;
    last = score;
  }
  return places;
}

function sortedPlaces(scores: Float64Array): Int32Array {
  const sorted = scores.filter((score) => !Number.isNaN(score)).sort();
  const places = new Map<number, number>();
  for (let i = sorted.length - 1; i >= 0; i--) if (!places.has(sorted[i])) places.set(sorted[i], places.size);
  return Int32Array.from(scores, (score) => places.get(score) ?? -1);
}

/** In code points, at most 1,023. */
function lengthOf(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) >>> 10 === 0x37) length--;
  return Math.min(length, 1023);
}
