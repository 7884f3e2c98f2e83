/**
 * The models of a tokenizer.json other than BPE: Unigram (the most likely pieces), WordPiece (the longest
 * piece first) and WordLevel (whole words). Source: Rust `tokenizers`, src/models.
 */
import { byteTokens } from './byte-letters.ts';
import { refuse } from './steps.ts';
import { Trie } from './trie.ts';

/** Turns one word into ids. */
export interface WordModel {
  /** Adds the ids of a word to `out`. */
  encode(word: string, out: number[]): void;
}

/** Score of an unknown piece: this much below the lowest known score. */
const unknownPenalty = 10;

export class Unigram implements WordModel {
  readonly #trie: Trie = new Trie();
  readonly #scores: Float64Array;
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #unknown: number | undefined;
  readonly #unknownScore: number;
  readonly #byteFallback: boolean;

  /** @param pieces texts and scores in order of their ids */
  constructor(
    pieces: readonly (readonly [string, number])[],
    vocab: ReadonlyMap<string, number>,
    options: { unknown: number | undefined; byteFallback: boolean },
  ) {
    this.#scores = Float64Array.from(pieces, ([, score]) => score);
    for (let id = 0; id < pieces.length; id++)
      if (pieces[id][0] !== '') this.#trie.set(pieces[id][0], id, true);
    this.#vocab = vocab;
    this.#unknown = options.unknown;
    this.#byteFallback = options.byteFallback;
    this.#unknownScore =
      this.#scores.reduce((worst, score) => Math.min(worst, score), Infinity) - unknownPenalty;
  }

  encode(word: string, out: number[]): void {
    const n = word.length;
    const best = new Float64Array(n + 1);
    const from = new Int32Array(n + 1).fill(-1);
    const ids = new Int32Array(n + 1);
    const offer = (end: number, start: number, id: number, score: number): void => {
      if (from[end] >= 0 && score <= best[end]) return;
      best[end] = score;
      from[end] = start;
      ids[end] = id;
    };
    for (let start = 0; start < n; ) {
      const letter = (word.codePointAt(start) as number) > 0xffff ? 2 : 1;
      let hasLetter = false;
      for (let end = start, node = 0; end < n; ) {
        node = this.#trie.step(node, word.charCodeAt(end++));
        if (node < 0) break;
        const id = this.#trie.value(node);
        if (id < 0) continue;
        offer(end, start, id, best[start] + this.#scores[id]);
        if (end - start === letter) hasLetter = true;
      }
      if (!hasLetter) {
        const id =
          this.#unknown ?? refuse('a Unigram model with an unk_id, for a text with unknown characters', word);
        offer(start + letter, start, id, best[start] + this.#unknownScore);
      }
      start += letter;
    }
    // Backtracks from the end; consecutive unknown letters become one token.
    const pieces: [number, number][] = [];
    let fusing = false;
    for (let end = n; end > 0; end = from[end]) {
      const isUnknown = ids[end] === this.#unknown;
      if (isUnknown && fusing) pieces[pieces.length - 1][0] = from[end];
      else pieces.push([from[end], end]);
      fusing = isUnknown;
    }
    for (const [start, end] of pieces.reverse()) {
      const piece = word.slice(start, end);
      const id = this.#vocab.get(piece);
      if (id !== undefined) {
        out.push(id);
        continue;
      }
      const bytes = this.#byteFallback ? byteTokens(piece, this.#vocab) : undefined;
      if (bytes !== undefined) out.push(...bytes);
      else out.push(this.#unknown as number);
    }
  }
}

/** A word that is not a token becomes the unknown token. */
export class WordLevel implements WordModel {
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #unknown: string;

  constructor(vocab: ReadonlyMap<string, number>, unknown: string) {
    this.#vocab = vocab;
    this.#unknown = unknown;
  }

  encode(word: string, out: number[]): void {
    out.push(this.#vocab.get(word) ?? unknownId(this.#vocab, this.#unknown));
  }
}

export class WordPiece implements WordModel {
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #options: { unknown: string; prefix: string; maxLetters: number };

  constructor(
    vocab: ReadonlyMap<string, number>,
    options: { unknown: string; prefix: string; maxLetters: number },
  ) {
    // Time is quadratic in the length of a word.
    if (options.maxLetters > 1000) refuse('max_input_chars_per_word to be at most 1000', options.maxLetters);
    this.#vocab = vocab;
    this.#options = options;
  }

  encode(word: string, out: number[]): void {
    const { unknown, prefix, maxLetters } = this.#options;
    const letters = word.length > 2 * maxLetters ? undefined : Array.from(word);
    const pieces =
      letters === undefined || letters.length > maxLetters ? undefined : this.#pieces(letters, prefix);
    if (pieces === undefined) out.push(unknownId(this.#vocab, unknown));
    else out.push(...pieces);
  }

  /** The longest token at each position; undefined when there is none at some position. */
  #pieces(letters: readonly string[], prefix: string): number[] | undefined {
    const ids: number[] = [];
    for (let start = 0; start < letters.length; ) {
      let end = letters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        const piece = letters.slice(start, end).join('');
        id = this.#vocab.get(start > 0 ? prefix + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) return undefined;
      ids.push(id);
      start = end;
    }
    return ids;
  }
}

function unknownId(vocab: ReadonlyMap<string, number>, unknown: string): number {
  return vocab.get(unknown) ?? refuse('the unknown token to be in the vocabulary', unknown);
}
