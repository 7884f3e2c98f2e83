/**
 * The tokens of one forward pass: rows of token ids, padded to a rectangle, with the length each row really
 * has.
 */

import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

export interface TokenBatch {
  /** B */
  readonly batchSize: number;
  /** T: the longest row. */
  readonly length: number;
  /** Real tokens of each row. */
  readonly lengths: readonly number[];
  /** `[B, T]`; 0 past a row's end. */
  readonly ids: Int32Array;
}

/** What `forward` takes: rows that may differ in length, or an i32 tensor `[B, T]`. */
export type Tokens = readonly (readonly number[])[] | Tensor;

/**
 * Checks the tokens and lays them out.
 * @throws TypeError for another kind of value; RangeError for no rows, an empty row, or an id
 * outside of 0 … V - 1.
 */
export function tokenBatch(op: string, tokens: Tokens, vocabSize: number): TokenBatch {
  if (tokens instanceof Tensor) {
    if (tokens.dtype !== 'i32') throw new TypeError(`${op}: expected tokens of i32, got ${tokens.dtype}`);
    const [batchSize, length] = tokens.shape;
    if (tokens.shape.length !== 2 || batchSize === 0 || length === 0) {
      throw new RangeError(`${op}: expected tokens [B, T] with B, T >= 1, got ${shapeText(tokens.shape)}`);
    }
    const ids = tokens.dataSync() as Int32Array;
    checkTokenIds(op, ids, vocabSize);
    return { batchSize, length, lengths: new Array<number>(batchSize).fill(length), ids };
  }
  if (!Array.isArray(tokens) || !tokens.every(Array.isArray)) {
    throw new TypeError(`${op}: expected tokens as an array of rows (number[][]) or an i32 tensor [B, T]`);
  }
  const lengths = tokens.map((row: readonly number[]) => row.length);
  if (lengths.length === 0 || lengths.includes(0)) {
    throw new RangeError(`${op}: expected rows of at least one token, got row lengths ${shapeText(lengths)}`);
  }
  for (const row of tokens) checkTokenIds(op, row, vocabSize);
  return paddedBatch(tokens);
}

/** Lays checked rows out; they may be empty here, though not all of them. */
export function paddedBatch(rows: readonly (readonly number[])[]): TokenBatch {
  const lengths = rows.map((row) => row.length);
  const length = Math.max(...lengths);
  const ids = new Int32Array(lengths.length * length);
  rows.forEach((row, index) => {
    ids.set(row, index * length);
  });
  return { batchSize: lengths.length, length, lengths, ids };
}

/**
 * Rows, in order, as passes of at most `maxTokens` tokens, padding included; a longer row has a pass of its
 * own.
 */
export function splitIntoPasses<Row>(
  rows: readonly Row[],
  lengthOf: (row: Row) => number,
  maxTokens: number,
): Row[][] {
  const passes: Row[][] = [];
  let longest = 0;
  for (const row of rows) {
    const last = passes.at(-1);
    longest = Math.max(longest, lengthOf(row));
    if (last && (last.length + 1) * longest <= maxTokens) {
      last.push(row);
    } else {
      passes.push([row]);
      longest = lengthOf(row);
    }
  }
  return passes;
}

/** The rows' own ids, without the padding. */
export function batchRows({ ids, length, lengths }: TokenBatch): readonly Int32Array[] {
  return lengths.map((count, row) => ids.subarray(row * length, row * length + count));
}

/** @throws RangeError when an id is not an integer in 0 … V - 1. */
export function checkTokenIds(op: string, ids: ArrayLike<number>, vocabSize: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i];
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw new RangeError(
        `${op}: expected token ids from 0 to ${vocabSize - 1} (V=${vocabSize}), got ${id}`,
      );
    }
  }
}
