/**
 * Decides when generation stops, and which tokens are part of the answer. A stop string may span several
 * tokens and begin or end inside one, so tokens whose text may belong to one are held back until that is
 * decided. A token with any text of a stop string is dropped. Without stop strings no token is decoded.
 */
import { describe, show } from '../../arguments/kinds.ts';
import { StopStrings } from '../../text/stop-strings.ts';
import { StreamingDecoder } from '../../text/streaming-decoder.ts';
import type { Tokenizer } from '../../text/tokenizer.ts';

interface HeldToken {
  readonly id: number;
  /** Length of the whole text up to and with this token; undefined while it ends inside a character. */
  end: number | undefined;
}

export class StopCondition {
  readonly #ids: ReadonlySet<number>;
  readonly #text: { tokenizer: Tokenizer; decoder: StreamingDecoder; strings: StopStrings } | undefined;
  readonly #held: HeldToken[] = [];
  /** Text decoded, and text known to come before any stop string, in UTF-16 units. */
  #decoded = 0;
  #clear = 0;
  #stopped = false;

  /**
   * @param op the function that was called, for errors
   * @param stop token ids and texts
   * @param tokenizer called only when `stop` holds a string
   * @throws TypeError for an item that is neither; RangeError for an empty text or one without a tokenizer.
   */
  constructor(op: string, stop: readonly (number | string)[], tokenizer: () => Tokenizer | undefined) {
    if (!Array.isArray(stop)) {
      throw new TypeError(`${op}: expected stop as an array of token ids and strings, got ${describe(stop)}`);
    }
    const ids = new Set<number>();
    const texts: string[] = [];
    for (const item of stop) {
      if (typeof item === 'string') texts.push(item);
      else if (Number.isInteger(item)) ids.add(item);
      else throw new TypeError(`${op}: expected stop to hold token ids and strings, got ${show(item)}`);
    }
    this.#ids = ids;
    if (texts.length === 0) return;
    const strings = new StopStrings(texts);
    const reader = tokenizer();
    if (!reader) {
      throw new RangeError(`${op}: stop strings need a tokenizer, and the model has none; give token ids`);
    }
    this.#text = { tokenizer: reader, decoder: new StreamingDecoder(reader), strings };
  }

  /** Whether a stop token or a whole stop string has been seen. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * Takes the next token.
   * @returns the tokens now known to be part of the answer, in order: none while it is open, several once it
   * is decided
   */
  push(id: number): number[] {
    if (this.#ids.has(id)) {
      this.#stopped = true;
      return this.flush();
    }
    if (!this.#text) return [id];
    const { tokenizer, decoder, strings } = this.#text;
    this.#held.push({ id, end: undefined });
    const piece = decoder.push(id);
    this.#decoded += piece.length;
    // A token that ends inside a character may begin the first character of a stop string.
    if (!tokenizer.decode(this.#held.map((token) => token.id)).endsWith('\uFFFD')) {
      for (const token of this.#held) token.end ??= this.#decoded;
    }
    this.#clear += strings.push(piece).length;
    this.#stopped = strings.stopped;
    let count = 0;
    while (count < this.#held.length && (this.#held[count].end ?? Number.POSITIVE_INFINITY) <= this.#clear)
      count++;
    return this.#held.splice(0, count).map((token) => token.id);
  }

  /** The tokens held back, once no more will come: none of them turned out to be part of a stop string. */
  flush(): number[] {
    return this.#held.splice(0).map((token) => token.id);
  }
}
