/**
 * Byte-pair encoding: starts from a token per letter, and repeatedly merges the adjacent pair of lowest rank
 * until no pair can be merged. A heap holds the pairs, so a word of n letters takes O(n log n). Source: Rust
 * `tokenizers`, src/models/bpe.
 */
import { byteTokens } from './byte-letters.ts';
import type { Merges } from './merges.ts';
import { refuse } from './steps.ts';
import type { WordModel } from './word-models.ts';

export interface BpeOptions {
  readonly unknown: string | undefined;
  /** Consecutive unknown letters become one unknown token. */
  readonly fuseUnknown: boolean;
  /** A letter that is not a token becomes its byte tokens `<0x..>`. */
  readonly byteFallback: boolean;
  /** A word that is a token is not split. */
  readonly ignoreMerges: boolean;
  /** Prefix of every letter of a word except the first. */
  readonly prefix: string;
  /** Suffix of the last letter of a word. */
  readonly suffix: string;
}

const maxCached = 10_000;
const maxCachedLength = 256;
/** Packs an id and a symbol index into one number. */
const idUnit = 2 ** 31;

export class Bpe implements WordModel {
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #merges: Merges;
  readonly #options: BpeOptions;
  readonly #cache = new Map<string, number[]>();
  readonly #queue = new PairQueue();

  constructor(vocab: ReadonlyMap<string, number>, merges: Merges, options: BpeOptions) {
    this.#vocab = vocab;
    this.#merges = merges;
    this.#options = options;
  }

  encode(word: string, out: number[]): void {
    let ids = this.#cache.get(word);
    if (ids === undefined) {
      const whole = this.#options.ignoreMerges ? this.#vocab.get(word) : undefined;
      ids = whole === undefined ? this.#merge(this.#symbols(word)) : [whole];
      if (word.length <= maxCachedLength) {
        if (this.#cache.size >= maxCached) this.#cache.clear();
        this.#cache.set(word, ids);
      }
    }
    for (const id of ids) out.push(id);
  }

  /** The ids of a word's letters. */
  #symbols(word: string): number[] {
    const { prefix, suffix, byteFallback, fuseUnknown, unknown } = this.#options;
    const symbols: number[] = [];
    // An unknown token that is not added yet, because the next ones may be fused with it.
    let pending = -1;
    for (let i = 0; i < word.length; ) {
      const length = (word.codePointAt(i) as number) > 0xffff ? 2 : 1;
      let letter = word.slice(i, i + length);
      if (prefix !== '' && i > 0) letter = prefix + letter;
      i += length;
      if (suffix !== '' && i === word.length) letter += suffix;
      const id = this.#vocab.get(letter);
      if (id !== undefined) {
        if (pending >= 0) symbols.push(pending);
        pending = -1;
        symbols.push(id);
        continue;
      }
      const bytes = byteFallback ? byteTokens(letter, this.#vocab) : undefined;
      if (bytes !== undefined) {
        symbols.push(...bytes);
      } else if (unknown !== undefined) {
        if (pending >= 0 && !fuseUnknown) symbols.push(pending);
        pending = this.#vocab.get(unknown) ?? refuse('the unknown token to be in the vocabulary', unknown);
      }
    }
    if (pending >= 0) symbols.push(pending);
    return symbols;
  }

  /** Merges symbols in place and returns those that remain. */
  #merge(ids: number[]): number[] {
    const n = ids.length;
    if (n < 2) return ids;
    const merges = this.#merges;
    const queue = this.#queue;
    const previous = new Int32Array(n);
    const next = new Int32Array(n);
    const removed = new Uint8Array(n);
    const queuePair = (left: number): void => {
      if (merges.find(ids[left], ids[next[left]])) queue.push(merges.rank, merges.merged * idUnit + left);
    };
    for (let i = 0; i < n; i++) {
      previous[i] = i - 1;
      next[i] = i + 1 < n ? i + 1 : -1;
    }
    for (let i = 0; i + 1 < n; i++) queuePair(i);
    while (queue.size > 0) {
      const top = queue.pop();
      const merged = Math.floor(top / idUnit);
      const left = top - merged * idUnit;
      const right = next[left];
      if (removed[left] === 1 || right < 0) continue;
      // The pair may have changed since it was queued.
      if (!merges.find(ids[left], ids[right]) || merges.merged !== merged) continue;
      ids[left] = merged;
      removed[right] = 1;
      next[left] = next[right];
      if (next[left] >= 0) previous[next[left]] = left;
      if (previous[left] >= 0) queuePair(previous[left]);
      if (next[left] >= 0) queuePair(left);
    }
    const out: number[] = [];
    for (let i = 0; i >= 0; i = next[i]) out.push(ids[i]);
    return out;
  }
}

/** A binary heap of pairs by rank, then merged token, then position. */
class PairQueue {
  size = 0;
  #ranks: Float64Array = new Float64Array(64);
  #pairs: Float64Array = new Float64Array(64);

  push(rank: number, pair: number): void {
    if (this.size === this.#ranks.length) {
      const grown = (old: Float64Array): Float64Array => {
        const out = new Float64Array(old.length * 2);
        out.set(old);
        return out;
      };
      this.#ranks = grown(this.#ranks);
      this.#pairs = grown(this.#pairs);
    }
    const ranks = this.#ranks;
    const pairs = this.#pairs;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (ranks[parent] < rank || (ranks[parent] === rank && pairs[parent] <= pair)) break;
      ranks[at] = ranks[parent];
      pairs[at] = pairs[parent];
      at = parent;
    }
    ranks[at] = rank;
    pairs[at] = pair;
  }

  /** Removes the first pair. The queue must not be empty. */
  pop(): number {
    const ranks = this.#ranks;
    const pairs = this.#pairs;
    const top = pairs[0];
    const size = --this.size;
    const rank = ranks[size];
    const pair = pairs[size];
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      const other = child + 1;
      if (
        other < size &&
        (ranks[other] < ranks[child] || (ranks[other] === ranks[child] && pairs[other] < pairs[child]))
      )
        child = other;
      if (rank < ranks[child] || (rank === ranks[child] && pair <= pairs[child])) break;
      ranks[at] = ranks[child];
      pairs[at] = pairs[child];
      at = child;
    }
    ranks[at] = rank;
    pairs[at] = pair;
    return top;
  }
}
