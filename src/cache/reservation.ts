/**
 * Bookkeeping shared by all caches: committed lengths, reserved tokens, and which layers are written. It
 * holds no memory; each cache adds where its tokens are stored.
 */
import { describe } from '../arguments/kinds.ts';

/** Lengths and the current pass of one cache; `name` is its name in errors, such as `StaticCache`. */
export class Reservation {
  readonly maxLength: number;
  /** Committed tokens per row. Changed only here. */
  readonly lengths: number[];
  readonly #name: string;
  readonly #written: Uint8Array;
  #tokens: readonly number[] | undefined;

  constructor(name: string, batchSize: number, maxLength: number, numLayers: number) {
    this.#name = name;
    this.maxLength = maxLength;
    this.lengths = new Array<number>(batchSize).fill(0);
    this.#written = new Uint8Array(numLayers);
  }

  /**
   * @throws RangeError when a count is not a non-negative integer or a row has no room; nothing is reserved
   *   then.
   */
  begin(tokensPerRow: number | readonly number[]): void {
    this.cancel();
    const { lengths, maxLength } = this;
    if (typeof tokensPerRow !== 'number' && !Array.isArray(tokensPerRow)) {
      throw new TypeError(
        `${this.#name}.reserve: expected a count of tokens, or one for each row, got ${describe(tokensPerRow)}`,
      );
    }
    const tokens = typeof tokensPerRow === 'number' ? lengths.map(() => tokensPerRow) : [...tokensPerRow];
    if (tokens.length !== lengths.length) {
      throw new RangeError(
        `${this.#name}.reserve: expected a count for each of ${lengths.length} rows, got ${tokens.length}`,
      );
    }
    for (let row = 0; row < tokens.length; row++) {
      if (!Number.isInteger(tokens[row]) || tokens[row] < 0) {
        throw new RangeError(
          `${this.#name}.reserve: expected non-negative token counts, got ${tokens[row]} for row ${row}`,
        );
      }
      if (lengths[row] + tokens[row] > maxLength) {
        throw new RangeError(
          `${this.#name}.reserve: row ${row} holds ${lengths[row]} of ${maxLength} tokens, no room for ${tokens[row]} more`,
        );
      }
    }
    this.#tokens = tokens;
  }

  /** Tokens reserved per row. @throws Error outside a pass. */
  tokens(method: string): readonly number[] {
    if (!this.#tokens) throw new Error(`${this.#name}.${method}: expected reserve() first`);
    return this.#tokens;
  }

  /** Tokens of a row that attention may read: committed and reserved. */
  visible(row: number): number {
    return this.lengths[row] + (this.#tokens?.[row] ?? 0);
  }

  markWritten(layer: number): void {
    this.#written[layer] = 1;
  }

  /** @throws Error outside a pass or when a layer was not written. */
  commit(): void {
    const tokens = this.tokens('commit');
    const missing = this.#written.indexOf(0);
    if (missing >= 0 && tokens.some((count) => count > 0)) {
      throw new Error(`${this.#name}.commit: layer ${missing} was not written since reserve()`);
    }
    for (let row = 0; row < tokens.length; row++) this.lengths[row] += tokens[row];
    this.cancel();
  }

  /** Discards the current pass, if any. */
  cancel(): void {
    this.#tokens = undefined;
    this.#written.fill(0);
  }

  /** @throws RangeError unless the row exists and holds at least `length` tokens. */
  truncate(row: number, length: number): void {
    const held = this.lengths[row];
    if (held === undefined || !Number.isInteger(row)) {
      throw new RangeError(`${this.#name}.truncate: expected a row below ${this.lengths.length}, got ${row}`);
    }
    if (!Number.isInteger(length) || length < 0 || length > held) {
      throw new RangeError(
        `${this.#name}.truncate: expected a length from 0 to ${held} for row ${row}, got ${length}`,
      );
    }
    this.cancel();
    this.lengths[row] = length;
  }

  /** Sets a row's length after its tokens were set without a pass, such as by `share`. */
  assign(row: number, length: number): void {
    this.cancel();
    this.lengths[row] = length;
  }

  /** `assign` for all rows. */
  assignAll(lengths: readonly number[]): void {
    lengths.forEach((length, row) => {
      this.assign(row, length);
    });
  }

  reset(): void {
    this.cancel();
    this.lengths.fill(0);
  }
}
