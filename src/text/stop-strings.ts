/**
 * Finds stop strings in streamed text. Text that may be the start of a stop string is held back until that is
 * decided, so no part of a stop string is emitted.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';
  #stopped = false;

  /**
   * @param stops texts that end the stream: the one that completes first, the longer of two
   * @throws RangeError for an empty stop string, which would end every stream immediately
   */
  constructor(stops: readonly string[]) {
    if (stops.includes('')) throw new RangeError("stop: expected texts of at least one character, got ''");
    this.#stops = [...stops];
  }

  /** Whether a stop string has been seen. From then on `push` and `flush` return ''. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * Adds the next piece of text.
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

  /** Returns the text held back. Call it once, at the end. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /** Length of the longest suffix of the text that is a prefix of a stop string. */
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
