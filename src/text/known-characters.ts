/**
 * The characters of a character-level tokenizer. Hugging Face's libraries silently drop unknown characters,
 * so losses and answers would be those of another text.
 */
import type { TokenizerJson } from './tokenizer-json.ts';

/** Maximum number of distinct characters shown in an error. */
const MAX_SHOWN = 8;

export class KnownCharacters {
  readonly #known: ReadonlySet<string>;
  readonly #added: readonly string[];

  /** @param added added tokens, matched before single characters */
  constructor(known: Iterable<string>, added: readonly string[] = []) {
    this.#known = new Set(known);
    this.#added = added;
  }

  /**
   * Undefined for a tokenizer that can encode any text (by bytes, or with an unknown token), and for one with
   * a normalizer.
   */
  static of({ model, normalizer, pre_tokenizer, added_tokens }: TokenizerJson): KnownCharacters | undefined {
    const { type, vocab, byte_fallback, unk_token, merges } = model;
    if (type !== 'BPE' || byte_fallback === true || typeof unk_token === 'string') return undefined;
    if (normalizer !== null || !Array.isArray(merges) || merges.length > 0) return undefined;
    if (pre_tokenizer !== null && pre_tokenizer.type !== 'Split') return undefined;
    return new KnownCharacters(
      vocab instanceof Map ? vocab.keys() : Object.keys(vocab),
      added_tokens.map(({ content }) => content),
    );
  }

  /** The unknown characters of a text and their counts. */
  unknownIn(text: string): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    let rest = text;
    for (const token of this.#added) if (token !== '') rest = rest.replaceAll(token, '');
    for (const character of rest) {
      if (!this.#known.has(character)) counts.set(character, (counts.get(character) ?? 0) + 1);
    }
    return counts;
  }

  /** @throws RangeError with the unknown characters of the text and their counts */
  check(text: string): void {
    const unknown = this.unknownIn(text);
    if (unknown.size === 0) return;
    throw new RangeError(
      `encode: expected characters of the vocabulary (${this.#known.size} characters), got ${unknownText(unknown)}`,
    );
  }
}

/** Such as `3 characters without a token: "é" (2), "ß" (1)`, the most frequent first. */
export function unknownText(unknown: ReadonlyMap<string, number>): string {
  const most = [...unknown].sort((a, b) => b[1] - a[1]);
  const shown = most
    .slice(0, MAX_SHOWN)
    .map(([character, count]) => `${JSON.stringify(character)} (${count})`);
  const total = most.reduce((sum, [, count]) => sum + count, 0);
  const more = most.length > MAX_SHOWN ? ` and ${most.length - MAX_SHOWN} others` : '';
  return `${total} ${total === 1 ? 'character' : 'characters'} without a token: ${shown.join(', ')}${more}`;
}
