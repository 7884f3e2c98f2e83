/** The loss of a language model on a batch of token rows. */

import { describe } from '../arguments/kinds.ts';
import { backendOf } from '../backend/registry.ts';
import { mul } from '../ops/binary.ts';
import { softmaxCrossEntropy } from '../ops/cross-entropy.ts';
import type { DropoutMask } from '../ops/dropout.ts';
import { upload } from '../ops/operands.ts';
import { sum } from '../ops/reduce.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { tokenRow } from './token-data.ts';

/** A model as the loss needs it: token rows to logits `[B, T, V]`, with optional dropout. */
export interface LanguageModel {
  /** Logits `[B, T, V]` of token rows `[B, T]`. */
  forward(tokens: readonly (readonly number[])[] | Tensor, options?: DropoutMask): Tensor;
}

/**
 * Mean cross-entropy, in nats, of predicting token t + 1 of each row from its tokens up to t.
 * @param tokens rows (arrays or typed arrays) of at least two token ids, which may differ in length, or an
 * i32 tensor `[B, T]`
 * @param dropout `dropoutRate` and `dropoutKey` of a training step, a new key for each; default no dropout
 * @throws TypeError for anything but rows of ids; RangeError for an invalid token id, a row without a token
 * to predict, or for a dropout rate outside of [0, 1)
 * @returns a scalar
 */
export function causalLmLoss(
  model: LanguageModel,
  tokens: readonly ArrayLike<number>[] | Tensor,
  dropout?: DropoutMask,
): Tensor {
  if (typeof model?.forward !== 'function') {
    throw new TypeError(`causalLmLoss: expected a model first, got ${describe(model)}`);
  }
  const rows = tokens instanceof Tensor ? rowsOf(tokens) : tokens;
  if (!Array.isArray(rows)) {
    throw new TypeError(
      `causalLmLoss: expected rows of token ids or an i32 tensor [B, T], got ${describe(rows)}`,
    );
  }
  for (const row of rows) checkRow(row);
  if (rows.length === 0 || rows.some((row) => row.length < 2)) {
    const lengths = shapeText(rows.map((row) => row.length));
    throw new RangeError(`causalLmLoss: expected rows of at least 2 tokens, got row lengths ${lengths}`);
  }
  return scope(() => nextTokenLoss(model.forward(inputsOf(rows), dropout), rows));
}

/** What a model reads to predict the rows: all tokens of each but the last. */
export function inputsOf(rows: readonly ArrayLike<number>[]): number[][] {
  return rows.map((row) => tokenRow(row, 0, row.length - 1));
}

/** The loss of the logits `[B, T, V]` that a model gave for `inputsOf(rows)`. @returns a scalar */
export function nextTokenLoss(logits: Tensor, rows: readonly ArrayLike<number>[]): Tensor {
  const length = Math.max(...rows.map((row) => row.length)) - 1;
  const labels = new Int32Array(rows.length * length).fill(-1);
  let count = 0;
  for (const [i, row] of rows.entries()) {
    for (let t = 1; t < row.length; t++) labels[i * length + t - 1] = row[t];
    count += row.length - 1;
  }
  return scope(() => {
    const targets = upload(backendOf(logits), 'i32', labels, [rows.length, length]);
    return mul(sum(softmaxCrossEntropy(logits, targets)), 1 / count);
  });
}

function checkRow(row: ArrayLike<number>): void {
  if (!Array.isArray(row) && (!ArrayBuffer.isView(row) || row instanceof DataView)) {
    throw new TypeError(`causalLmLoss: expected each row to be an array of token ids, got ${describe(row)}`);
  }
  for (let t = 0; t < row.length; t++) {
    if (!(Number.isInteger(row[t]) && row[t] >= 0)) {
      throw new RangeError(`causalLmLoss: expected token ids from 0, got ${describe(row[t])}`);
    }
    // Larger values wrap around in an i32.
    if (row[t] >= 2 ** 31) {
      throw new RangeError(`causalLmLoss: expected token ids below 2147483648, got ${row[t]}`);
    }
  }
}

function rowsOf(tokens: Tensor): number[][] {
  if (tokens.dtype !== 'i32' || tokens.shape.length !== 2) {
    throw new RangeError(
      `causalLmLoss: expected an i32 tensor [B, T], got ${tokens.dtype} ${shapeText(tokens.shape)}`,
    );
  }
  const [B, T] = tokens.shape;
  const ids = tokens.dataSync();
  return Array.from({ length: B }, (_, b) => tokenRow(ids, b * T, T));
}
