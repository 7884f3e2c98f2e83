/** `StreamingDecoder`: text from tokens as they come. */
import { aBoolean, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { DecodeOptions, Tokenizer } from './tokenizer.ts';

const replacement = '\uFFFD';

const OPTIONS = optionKinds<DecodeOptions>({ skipSpecialTokens: aBoolean });

/**
 * Text from tokens as they come. A token may end inside a character, and its text may depend on the tokens before it (a
 * SentencePiece text loses its first space), so each token is decoded with a few before it, and only text that is final is
 * returned. All pieces joined are exactly `tokenizer.decode(ids)`.
 * @example
 * const loaded = await loadModel('model.gguf');
 * const decoder = new StreamingDecoder(loaded.tokenizer!);
 * for await (const token of generate(loaded, loaded.tokenizer!.encode('Once'))) process.stdout.write(decoder.push(token));
 * process.stdout.write(decoder.flush());
 */
export class StreamingDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #options: DecodeOptions;
  /** The tokens that still matter for the text of the next one. */
  #window: number[] = [];
  /** How much of the window's text has been given out, in UTF-16 units. */
  #sent = 0;

  /**
   * @param tokenizer whose `decode` gives the text
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
   * Takes the next token.
   * @returns the text that is now certain, often '' inside a character
   */
  push(id: number): string {
    if (this.#options.skipSpecialTokens === true && this.#tokenizer.isSpecial(id)) return '';
    this.#window.push(id);
    const text = this.#tokenizer.decode(this.#window, this.#options);
    // Bytes that do not yet make a character decode to one U+FFFD at the end, whatever their number.
    const open = text.endsWith(replacement);
    const end = open ? text.length - replacement.length : text.length;
    const piece = text.slice(this.#sent, end);
    this.#sent = Math.max(this.#sent, end);
    if (!open) this.#startWindowAt(id);
    return piece;
  }

  /** Gives out what was held back, as U+FFFD, and starts anew. Call it once, when no more tokens come. */
  flush(): string {
    const text = this.#tokenizer.decode(this.#window, this.#options);
    const piece = text.slice(this.#sent);
    this.#window = [];
    this.#sent = 0;
    return piece;
  }

  /** Forgets everything before the last token, unless it has no text by itself (then the window would begin anew). */
  #startWindowAt(id: number): void {
    const length = this.#tokenizer.decode([id], this.#options).length;
    if (length === 0) return;
    this.#window = [id];
    this.#sent = length;
  }
}
