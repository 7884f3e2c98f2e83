/**
 * Tokens to train on: one long sequence, cut into a training and a validation part, from which batches are
 * drawn. The batch of a step depends only on the seed and the step, so a resumed run needs no other state.
 */

import {
  aNumber,
  anything,
  aString,
  checkInteger,
  checkObject,
  describe,
  listOfNumbers,
} from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { threefry2x32 } from '../backend/threefry.ts';
import type { KeyWords } from '../random/key.ts';
import { checkShare } from './checks.ts';

/** Streams of batches, each with random numbers of its own. */
export type BatchStream = 'train' | 'evaluate-train' | 'evaluate-validation';
/** The index is part of the random key: keep the order, or resumed runs draw other batches. */
const STREAMS = ['train', 'evaluate-train', 'evaluate-validation', 'dropout'] as const;

/** The tokens of a text, cut into a part to train on and a part held out. */
export interface TokenSplit {
  /** Token ids to train on. */
  readonly train: Int32Array;
  /** Token ids held out. */
  readonly validation: Int32Array;
  /** Tokens that every block begins with, such as bos; default none. */
  readonly start?: readonly number[];
}

/**
 * The first part to train on, the last to validate on (nanoGPT's 90 and 10 %).
 * @param validation share of the tokens, 0 < share < 1
 * @param start tokens that every block is to begin with @throws RangeError for a share outside (0, 1), or
 * when either part has fewer tokens than a block plus one.
 */
export function splitTokens(
  tokens: Int32Array,
  blockLength: number,
  validation: number,
  start: readonly number[] = [],
): TokenSplit {
  checkTokens('splitTokens', tokens);
  checkInteger('splitTokens', 'blockLength', blockLength, 1);
  checkShare('splitTokens', 'validation', validation);
  const at = Math.floor(tokens.length * (1 - validation));
  const parts = { train: tokens.subarray(0, at), validation: tokens.subarray(at) };
  for (const [name, part] of Object.entries(parts)) {
    if (part.length > blockLength) continue;
    throw new RangeError(
      `expected at least ${blockLength + 1} tokens (a block of ${blockLength} and the next) in the ${name} part, got ${part.length} of ${tokens.length}`,
    );
  }
  return start.length === 0 ? parts : { ...parts, start };
}

/** Options of `drawBatch`. */
export interface DrawBatchOptions {
  /** Blocks to draw. */
  readonly batchSize: number;
  /** Tokens of a block. */
  readonly blockLength: number;
  /** Seed of the run. */
  readonly seed: number;
  /** The stream to draw from. */
  readonly stream: BatchStream;
  /** Index of the batch in its stream. */
  readonly index: number;
  /** Tokens that every block begins with; default none. */
  readonly start?: readonly number[];
}

const DRAW_OPTIONS = optionKinds<DrawBatchOptions>({
  batchSize: aNumber,
  blockLength: aNumber,
  seed: aNumber,
  stream: aString,
  index: aNumber,
  start: anything,
});

/**
 * `batchSize` blocks of `blockLength` + 1 tokens from random places, the first of them those of `start`.
 * @throws RangeError for numbers out of range, or when there are not more tokens than a block has
 */
export function drawBatch(tokens: Int32Array, options: DrawBatchOptions): number[][] {
  checkTokens('drawBatch', tokens);
  checkOptions('drawBatch', options, DRAW_OPTIONS);
  const { batchSize, blockLength, seed, stream, index, start = [] } = options;
  for (const [name, value] of Object.entries({ batchSize, blockLength })) {
    checkInteger('drawBatch', name, value, 1);
  }
  for (const [name, value] of Object.entries({ seed, index })) checkInteger('drawBatch', name, value, 0);
  checkLength('drawBatch', tokens, blockLength, start);
  const key = drawKey(seed, stream, index);
  const length = blockLength + 1 - start.length;
  const places = tokens.length - length + 1;
  return Array.from({ length: batchSize }, (_, row) => {
    const [high, low] = threefry2x32(key, 0, row);
    // 53 random bits, so that all offsets are equally likely.
    const at = Math.floor(((high * 2 ** 21 + (low >>> 11)) / 2 ** 53) * places);
    const block = tokenRow(tokens, at, length);
    return start.length === 0 ? block : [...start, ...block];
  });
}

/** `length` tokens as an array. A plain loop is much faster than `Array.from`. */
export function tokenRow(tokens: ArrayLike<number>, start: number, length: number): number[] {
  const row = new Array<number>(length);
  for (let t = 0; t < length; t++) row[t] = tokens[start + t];
  return row;
}

/**
 * The threefry key for one batch of a run: for its offsets in the text, or for its dropout.
 */
export function drawKey(seed: number, stream: BatchStream | 'dropout', index: number): KeyWords {
  return threefry2x32([seed >>> 0, STREAMS.indexOf(stream)], 0, index);
}

/** @throws TypeError or RangeError unless both parts of `data` have more tokens than a block */
export function checkSplit(op: string, data: TokenSplit, blockLength: number): void {
  checkObject(op, 'data from splitTokens', data);
  const { start = [] } = data;
  listOfNumbers(op, 'data.start', start);
  for (const part of ['train', 'validation'] as const) {
    checkTokens(op, data[part], `data.${part}`);
    checkLength(op, data[part], blockLength, start, ` in data.${part}`);
  }
}

function checkLength(
  op: string,
  tokens: Int32Array,
  blockLength: number,
  start: readonly number[],
  where = '',
): void {
  const length = blockLength + 1 - start.length;
  if (length < 1) {
    throw new RangeError(
      `${op}: expected blocks longer than their start of ${start.length} tokens, got ${blockLength}`,
    );
  }
  if (tokens.length >= length) return;
  throw new RangeError(
    `${op}: expected more tokens than a block of ${blockLength}${where}, got ${tokens.length}`,
  );
}

function checkTokens(op: string, tokens: Int32Array, name = 'tokens'): void {
  if (tokens instanceof Int32Array) return;
  throw new TypeError(`${op}: expected ${name} as an Int32Array, got ${describe(tokens)}`);
}
