/**
 * Texts as vectors: the hidden states after the model's final norm, pooled over each text's tokens.
 *
 * Source: sentence-transformers, Pooling (mean, lasttoken, cls) and Normalize.
 */

import { aBoolean, anything, aString, describe, show } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { backendOfHandle } from '../backend/index.ts';
import { upload } from '../ops/operands.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkModel } from './generation/request.ts';
import type { Model } from './model.ts';
import { splitIntoPasses } from './token-batch.ts';

/** Options of `embed`. */
export interface EmbedOptions {
  /** `'mean'` (default) over all tokens of a text, `'last'`: its last token, `'cls'`: its first. */
  readonly pooling?: 'mean' | 'last' | 'cls';
  /** Whether to divide each vector by its L2 norm; default false. */
  readonly normalize?: boolean;
}

const OPTIONS = optionKinds<EmbedOptions>({ pooling: anything, normalize: aBoolean });

/** Tokens of a pass, padding included; limits the memory of intermediates. */
const PASS_TOKENS = 4096;

/** As torch.nn.functional.normalize: the smallest norm that is divided by. */
const NORM_EPSILON = 1e-12;

/**
 * The embeddings of texts: each is encoded by the model's tokenizer, with its special tokens, and its hidden
 * states after the final norm are pooled. Texts of similar length run together; a text's vector does not
 * depend on the others but for rounding.
 * @param texts strings, each of at least one token and within the model's context.
 * @throws TypeError for texts that are not a list of strings; Error for a model without a tokenizer;
 *   RangeError for no texts, a text without tokens or longer than the context, or another pooling.
 * @returns f32 `[texts, D]` on the model's backend.
 * @example
 * const model = await loadModel('SmolLM2-135M-Instruct.Q4_1.gguf');
 * const vectors = embed(model, ['A cat sat.', 'Snow fell all night.'], { normalize: true }); // [2, 576]
 */
export function embed(model: Model, texts: readonly string[], options: EmbedOptions = {}): Tensor {
  checkModel('embed', model);
  checkOptions('embed', options, OPTIONS);
  const { pooling = 'mean', normalize = false } = options;
  if (!['mean', 'last', 'cls'].includes(pooling)) {
    throw new RangeError(`embed: expected pooling 'mean', 'last' or 'cls', got ${show(pooling)}`);
  }
  const rows = encoded(model, texts);
  const D = model.config.hiddenSize;
  const out = new Float32Array(rows.length * D);
  const byLength = [...rows.keys()].sort((a, b) => rows[a].length - rows[b].length);
  for (const group of splitIntoPasses(byLength, (index) => rows[index].length, PASS_TOKENS)) {
    const hidden = model.lastHiddenState(
      'embed',
      group.map((index) => rows[index]),
    );
    const states = hidden.dataSync() as Float32Array;
    const T = hidden.shape[1];
    group.forEach((index, b) => {
      const row = states.subarray(b * T * D, (b * T + rows[index].length) * D);
      const vector = pooled(row, D, pooling);
      out.set(normalize ? normalized(vector) : vector, index * D);
    });
    hidden.dispose();
  }
  return upload(backendOfHandle(model.backend), 'f32', out, [rows.length, D]);
}

function encoded(model: Model, texts: readonly string[]): number[][] {
  if (!Array.isArray(texts)) {
    throw new TypeError(`embed: expected texts as a list of strings, got ${describe(texts)}`);
  }
  if (texts.length === 0) throw new RangeError('embed: expected at least one text, got none');
  const { tokenizer } = model;
  if (!tokenizer) throw new Error('embed: expected a model with a tokenizer, got one without');
  const context = model.config.maxPositionEmbeddings;
  return Array.from(texts, (text, index) => {
    aString('embed', `text ${index}`, text);
    const ids = tokenizer.encode(text);
    if (ids.length > 0 && ids.length <= context) return ids;
    throw new RangeError(
      `embed: expected texts of 1 to ${context} tokens, the model's context, got ${ids.length} in text ${index}`,
    );
  });
}

/** states `[T, D]` -> `[D]` */
function pooled(states: Float32Array, D: number, pooling: 'mean' | 'last' | 'cls'): Float64Array {
  if (pooling === 'cls') return Float64Array.from(states.subarray(0, D));
  if (pooling === 'last') return Float64Array.from(states.subarray(states.length - D));
  const sums = new Float64Array(D);
  for (let i = 0; i < states.length; i++) sums[i % D] += states[i];
  return sums.map((sum) => (sum * D) / states.length);
}

function normalized(vector: Float64Array): Float64Array {
  const norm = Math.max(NORM_EPSILON, Math.hypot(...vector));
  return vector.map((x) => x / norm);
}
