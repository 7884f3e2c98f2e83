/**
 * Finds stop strings in a text that comes in pieces. Text that may be the beginning of a stop string is held back until
 * it is known not to be, so nothing of a stop string is ever given out.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';
  #stopped = false;

  /**
   * @param stops texts that end the stream: the one whose last character comes first, the longer of two such
   * @throws RangeError for an empty stop string, which would end every stream at once
   */
  constructor(stops: readonly string[]) {
    if (stops.includes('')) throw new RangeError("stop: expected texts of at least one character, got ''");
    this.#stops = [...stops];
  }

  /** Whether a stop string has been seen. From then on `push` and `flush` give ''. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * Takes the next piece of text.
   * @returns the text that is now known to come before any stop string
   */
  push(piece: string): string {
    if (this.#stopped) return '';
    const text = this.#held + piece;
    let start = -1;
    let end = text.length + 1;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at < 0 || at + stop.length > end || (at + stop.length === end && at > start)) continue;
      start = at;
      end = at + stop.length;
    }
    if (start >= 0) {
      this.#stopped = true;
      this.#held = '';
      return text.slice(0, start);
    }
    const keep = this.#openLength(text);
    this.#held = text.slice(text.length - keep);
    return text.slice(0, text.length - keep);
  }

  /** Gives out what was held back. Call it once, when no more text comes. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /** Length of the longest end of the text that is the beginning of a stop string. */
  #openLength(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
