/** `StreamingDecoder`: incremental decoding of tokens. */
import { aBoolean, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { DecodeOptions, Tokenizer } from './tokenizer.ts';

const replacement = '\uFFFD';

const OPTIONS = optionKinds<DecodeOptions>({ skipSpecialTokens: aBoolean });

/**
 * Decodes tokens incrementally. A token may end inside a character, and its text may depend on the tokens
 * before it (a SentencePiece text loses its first space), so each token is decoded together with a few before
 * it, and only final text is returned. The concatenated pieces equal `tokenizer.decode(ids)`.
 * @example
 * const loaded = await loadModel('model.gguf');
 * const decoder = new StreamingDecoder(loaded.tokenizer!);
 * for await (const token of generate(loaded, loaded.tokenizer!.encode('Once'))) {
 *   process.stdout.write(decoder.push(token));
 * }
 * process.stdout.write(decoder.flush());
 */
export class StreamingDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #options: DecodeOptions;
  /** The tokens that affect the text of the next one. */
  #window: number[] = [];
  /** Length of the window's text already returned, in UTF-16 units. */
  #sent = 0;

  /**
   * @param tokenizer its `decode` is used
   * @param options as for `decode`
   */
  constructor(tokenizer: Tokenizer, options: DecodeOptions = {}) {
    if (typeof tokenizer?.decode !== 'function') {
      throw new TypeError(
        `StreamingDecoder: expected a tokenizer, such as model.tokenizer, got ${describe(tokenizer)}`,
      );
    }
    checkOptions('StreamingDecoder', options, OPTIONS);
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /**
   * Adds the next token.
   * @returns the text that is now final, often '' inside a character
   */
  push(id: number): string {
    if (this.#options.skipSpecialTokens === true && this.#tokenizer.isSpecial(id)) return '';
    this.#window.push(id);
    const text = this.#tokenizer.decode(this.#window, this.#options);
    // An incomplete character decodes to one U+FFFD at the end, whatever its number of bytes.
    const open = text.endsWith(replacement);
    const end = open ? text.length - replacement.length : text.length;
    const piece = text.slice(this.#sent, end);
    this.#sent = Math.max(this.#sent, end);
    if (!open) this.#startWindowAt(id);
    return piece;
  }

  /** Returns the text held back, as U+FFFD, and resets. Call it once, at the end. */
  flush(): string {
    const text = this.#tokenizer.decode(this.#window, this.#options);
    const piece = text.slice(this.#sent);
    this.#window = [];
    this.#sent = 0;
    return piece;
  }

  /** Drops all tokens before the last one, unless that has no text by itself. */
  #startWindowAt(id: number): void {
    const length = this.#tokenizer.decode([id], this.#options).length;
    if (length === 0) return;
    this.#window = [id];
    this.#sent = length;
  }
}
