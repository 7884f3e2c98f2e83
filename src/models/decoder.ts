/**
 * The one decoder: embed, then per layer attention and a gated MLP, each on a normalised input and added back, then a norm
 * and the output head. Families differ in their config only.
 *
 *   x = x + O attend(rope(Q norm(x)), rope(K norm(x)), V norm(x))        x = x + D (silu(G norm(x)) * U norm(x))
 */
import type { KeyValueCache } from '../cache/cache.ts';
import { attend } from '../ops/attend.ts';
import { dotProductAttention } from '../ops/attention.ts';
import { add } from '../ops/binary.ts';
import { embedding } from '../ops/embedding.ts';
import { gatedActivation } from '../ops/gated.ts';
import { linear, linears } from '../ops/linear.ts';
import { reshape } from '../ops/reshape.ts';
import { rmsNorm } from '../ops/rms-norm.ts';
import { rope } from '../ops/rope.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig } from './decoder-config.ts';
import type { DecoderLayer, DecoderWeights } from './decoder-weights.ts';

/** What one pass is about, the same for all layers. */
export interface DecoderPass {
  /** i32 `[B, T]` */
  readonly ids: Tensor;
  /** Real tokens of each row. */
  readonly lengths: readonly number[];
  /** f32 `[B, T, rotaryDim / 2]` */
  readonly cos: Tensor;
  readonly sin: Tensor;
  /** With its room for this pass reserved. */
  readonly cache?: KeyValueCache;
}

/**
 * The residual stream after all layers and the final norm.
 * @returns f32 `[B, T, D]`; what stands past a row's end means nothing
 */
export function decoderForward(config: DecoderConfig, weights: DecoderWeights, pass: DecoderPass): Tensor {
  let x = embedding(weights.embedding, pass.ids);
  for (let index = 0; index < weights.layers.length; index++) {
    const input = x;
    x = scope(() => decoderLayer(config, weights.layers[index], pass, index, input));
    input.dispose();
  }
  return rmsNorm(x, weights.finalNorm, { eps: config.normEps });
}

function decoderLayer(
  config: DecoderConfig,
  layer: DecoderLayer,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Tensor {
  const { normEps: eps } = config;
  const [B, T] = pass.ids.shape;
  const normed = rmsNorm(x, layer.attentionNorm, { eps });
  const attended = selfAttention(config, layer, pass, index, normed);
  const { numHeads: N, headDim: H } = config;
  const output = layer.attentionOutput;
  const middle = add(x, linear(reshape(attended, [B, T, N * H]), output.weight, output.bias));
  const [gate, up] = linears(rmsNorm(middle, layer.mlpNorm, { eps }), layer.gateUp);
  return add(middle, linear(gatedActivation(gate, up, 'silu'), layer.down.weight, layer.down.bias));
}

/** x `[B, T, D]` -> `[B, T, N, H]` */
function selfAttention(
  config: DecoderConfig,
  layer: DecoderLayer,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Tensor {
  const { numHeads: N, numKeyValueHeads: K, headDim: H } = config;
  const { cos, sin, lengths, cache } = pass;
  const { interleaved } = config.rope;
  const [B, T] = pass.ids.shape;
  const [q, k, v] = linears(x, layer.queryKeyValue);
  const query = rope(reshape(q, [B, T, N, H]), cos, sin, { interleaved });
  const key = rope(reshape(k, [B, T, K, H]), cos, sin, { interleaved });
  const value = reshape(v, [B, T, K, H]);
  if (!cache) {
    const rows = { querySeqLengths: lengths, keyValueSeqLengths: lengths };
    return dotProductAttention(query, key, value, { isCausal: true, ...rows });
  }
  cache.write(index, key, value);
  return attend(query, cache.view(index), { queryLengths: lengths });
}
