/**
 * Added tokens (special or added by a user), which are matched in a text before any other step. Source: Rust
 * `tokenizers`, src/tokenizer/added_vocabulary.rs.
 */
import { type Normalizer, spacesAtEnd } from './normalizers.ts';
import { isWordOrJoiner } from './pre-tokenizers.ts';
import { testAround } from './regex-parser.ts';
import type { AddedTokenJson } from './tokenizer-json.ts';
import { Trie } from './trie.ts';

/** A part of the text still to be tokenized (`id` is -1), or a matched added token. */
export interface Part {
  readonly text: string;
  readonly id: number;
  /** Whether it is at the start of the whole text. */
  readonly atStart: boolean;
}

export class AddedTokens {
  /** By id. */
  readonly tokens: ReadonlyMap<number, AddedTokenJson>;
  /** The text of each token by id, normalized for tokens that match normalized text. */
  readonly texts: ReadonlyMap<number, string>;
  readonly ids: ReadonlyMap<string, number>;
  readonly #literal: Trie = new Trie();
  readonly #normalized: Trie = new Trie();
  readonly #normalizer: Normalizer | undefined;
  readonly #splitSpecial: boolean;

  /**
   * @param vocab ids of the model's own tokens. An added token that is one of them has that id; others get
   *   the next ids, whatever the file says (as in the Rust library)
   * @param splitSpecial whether special tokens are not matched
   */
  constructor(
    list: readonly AddedTokenJson[],
    vocab: ReadonlyMap<string, number>,
    normalizer: Normalizer | undefined,
    splitSpecial: boolean,
  ) {
    const tokens = new Map<number, AddedTokenJson>();
    const ids = new Map<string, number>();
    let largest = -1;
    for (const token of list) {
      if (token.content === '' || ids.has(token.content)) continue;
      const id = vocab.get(token.content) ?? Math.max(largest + 1, vocab.size);
      largest = Math.max(largest, id);
      tokens.set(id, token);
      ids.set(token.content, id);
    }
    // Special tokens take precedence when two have the same normalized text.
    const specialFirst = [...tokens].sort(
      ([, a], [, b]) => Number(b.special ?? false) - Number(a.special ?? false),
    );
    const texts = new Map<number, string>();
    for (const [id, token] of specialFirst) {
      const isNormalized = token.normalized ?? token.special !== true;
      const text = (isNormalized ? normalizer?.(token.content) : undefined) ?? token.content;
      (isNormalized ? this.#normalized : this.#literal).set(text, id);
      texts.set(id, text);
    }
    this.tokens = tokens;
    this.texts = texts;
    this.ids = ids;
    this.#normalizer = normalizer;
    this.#splitSpecial = splitSpecial;
  }

  /** Splits a text at its added tokens and normalizes the text between them. */
  parts(text: string): Part[] {
    const out: Part[] = [];
    for (const part of this.#cut({ text, id: -1, atStart: true }, this.#literal)) {
      if (part.id >= 0) {
        out.push(part);
      } else {
        const normal = this.#normalizer?.(part.text) ?? part.text;
        out.push(...this.#cut({ ...part, text: normal }, this.#normalized));
      }
    }
    return out;
  }

  *#cut({ text, atStart }: Part, trie: Trie): Generator<Part> {
    const part = (from: number, to: number, id: number): Part => ({
      text: text.slice(from, to),
      id,
      atStart: atStart && from === 0,
    });
    let done = 0;
    for (let at = 0; at < text.length; ) {
      const [id, length] = longest(trie, text, at);
      if (id < 0) {
        at++;
        continue;
      }
      let start = at;
      let stop = at + length;
      at = stop;
      const token = this.tokens.get(id) as AddedTokenJson;
      if (this.#splitSpecial && token.special === true) continue;
      const isInWord =
        testAround(isWordOrJoiner, text, start)[0] || testAround(isWordOrJoiner, text, stop)[1];
      if (token.single_word === true && isInWord) continue;
      if (token.lstrip === true) start = Math.max(spacesAtEnd(text.slice(done, start)) + done, done);
      if (token.rstrip === true) while (stop < text.length && /\p{White_Space}/u.test(text[stop])) stop++;
      if (done < start) yield part(done, start, -1);
      yield part(start, stop, id);
      done = stop;
    }
    if (done < text.length) yield part(done, text.length, -1);
  }
}

/** The value and length of the longest trie entry at a position; value -1 when there is none. */
function longest(trie: Trie, text: string, at: number): [value: number, length: number] {
  let value = -1;
  let length = 0;
  let node = 0;
  for (let i = at; i < text.length; i++) {
    node = trie.step(node, text.charCodeAt(i));
    if (node < 0) break;
    if (trie.value(node) >= 0) {
      value = trie.value(node);
      length = i + 1 - at;
    }
  }
  return [value, length];
}
