/**
 * The one decoder: embed, then per layer attention and an MLP, each on a normalised input and added back,
 * then a norm and the output head. Families differ in their config only.
 *
 *   x = x + O attend(rope(Q norm(x)), rope(K norm(x)), V norm(x))     x = x + D (silu(G norm(x)) * U norm(x))
 *
 * or, with a parallel block, both from the same x.
 */
import { attend, attendWeights } from '../ops/attend.ts';
import { dotProductAttention } from '../ops/attention.ts';
import { dotProductAttentionWeights } from '../ops/attention-weights.ts';
import { add, mul } from '../ops/binary.ts';
import { embedding } from '../ops/embedding.ts';
import { layerNorm } from '../ops/layer-norm.ts';
import { linear, linears } from '../ops/linear.ts';
import { reshape } from '../ops/reshape.ts';
import { rmsNorm } from '../ops/rms-norm.ts';
import { rope } from '../ops/rope.ts';
import { tanh } from '../ops/unary.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { activate, activateGate } from './activation.ts';
import type { DecoderConfig } from './decoder-config.ts';
import type { Attended, DecoderPass, Rotation, SeenAttention } from './decoder-pass.ts';
import type { DecoderLayer, DecoderWeights, MlpOf, NormOf } from './decoder-weights.ts';
import type { ExpertsConfig } from './experts-config.ts';
import { latentAttention } from './latent-attention.ts';
import { mixtureOfExperts } from './mixture-of-experts.ts';
import { attentionDropout, dropped } from './pass-dropout.ts';

/** What `decoderForward` may return beside the last hidden state, a tensor per layer. */
export type DecoderOutput = 'attentions' | 'hiddenStates';

/**
 * The residual stream after all layers and the final norm, f32 `[B, T, D]`; values past a row's end are
 * undefined.
 * @returns `hidden`, and what `output` names: `attentions`, per layer the weights before dropout `[B, N, T,
 *   S]`; `hiddenStates`, the embedding, each layer's result, and in place of the last `hidden`.
 */
export function decoderForward(
  config: DecoderConfig,
  weights: DecoderWeights,
  pass: DecoderPass,
  output: readonly DecoderOutput[] = [],
): { readonly hidden: Tensor; readonly attentions: Tensor[]; readonly hiddenStates: Tensor[] } {
  const attentions: Tensor[] = [];
  const hiddenStates: Tensor[] = [];
  const observe = (seen: SeenAttention) => attentions.push(seen.weights());
  const observed = output.includes('attentions') ? { ...pass, observe } : pass;
  let x = scope(() => dropped(pass.dropout, embed(config, weights, pass), 'embedding'));
  for (let index = 0; index < weights.layers.length; index++) {
    const input = x;
    [x] = scope(() => [
      decoderLayer(config, weights.layers[index], observed, index, input),
      attentions[index],
    ]);
    if (output.includes('hiddenStates')) hiddenStates.push(input);
    else input.dispose();
  }
  const hidden = normalize(config, x, weights.finalNorm);
  if (output.includes('hiddenStates')) hiddenStates.push(hidden);
  return { hidden, attentions, hiddenStates };
}

/** Tokens (and learned positions) as the residual stream `[B, T, D]`. */
export function embed(
  { embeddingScale }: DecoderConfig,
  weights: DecoderWeights,
  { ids, positions }: DecoderPass,
): Tensor {
  const rows = embedding(weights.embedding, ids);
  const tokens = embeddingScale === undefined ? rows : mul(rows, embeddingScale);
  return weights.positions && positions ? add(tokens, embedding(weights.positions, positions)) : tokens;
}

/** Logits `[…, V]` of what the final norm gave, `[…, D]`. */
export function outputHead(
  { logitsSoftCap: cap }: DecoderConfig,
  { head }: DecoderWeights,
  x: Tensor,
): Tensor {
  const logits = linear(x, head.weight, head.bias);
  return cap === undefined ? logits : mul(tanh(mul(logits, 1 / cap)), cap);
}

/** The residual stream x `[B, T, D]` after one more layer. */
export function decoderLayer(
  config: DecoderConfig,
  layer: DecoderLayer,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Tensor {
  const [B, T] = pass.ids.shape;
  const normed = normalize(config, x, layer.attentionNorm);
  const { attended, ...seen }: Attended = layer.latent
    ? latentAttention(config, layer.latent, pass, index, normed)
    : selfAttention(config, layer, pass, index, normed);
  const { weight, bias } = layer.attentionOutput;
  const projected = dropped(
    pass.dropout,
    linear(reshape(attended, [B, T, -1]), weight, bias),
    'attentionOutput',
    index,
  );
  const output = layer.attentionNormAfter
    ? normalize(config, projected, layer.attentionNormAfter)
    : projected;
  pass.observe?.({ ...seen, layer: index, output });
  const middle = add(x, output);
  const read = config.residual === 'parallel' ? x : middle;
  const input = layer.mlpNorm ? normalize(config, read, layer.mlpNorm) : normed;
  const hidden = dropped(pass.dropout, feedForward(config, layer, input), 'mlp', index);
  return add(middle, layer.mlpNormAfter ? normalize(config, hidden, layer.mlpNormAfter) : hidden);
}

/** x: normalised, `[B, T, D]`. */
function selfAttention(
  config: DecoderConfig,
  layer: DecoderLayer,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Attended {
  const { numHeads: N, numKeyValueHeads: K, headDim: H } = config;
  const { lengths, cache } = pass;
  const [B, T] = pass.ids.shape;
  const [q, k, v] = linears(x, layer.queryKeyValue);
  const { window, scale, softCap: logitsSoftCap } = config.attention[index];
  const rotation = (window === undefined ? undefined : pass.windowRotation) ?? pass.rotation;
  const query = normalizeAndRotate(config, rotation, reshape(q, [B, T, N, H]), layer.queryNorm);
  const key = normalizeAndRotate(config, rotation, reshape(k, [B, T, K, H]), layer.keyNorm);
  const value = reshape(v, [B, T, K, H]);
  const localWindowSize = window === undefined ? undefined : ([window - 1, 0] as const);
  const options = { isCausal: true, localWindowSize, scale, logitsSoftCap, sinks: layer.sinks };
  if (!cache) {
    const rows = { ...options, querySeqLengths: lengths, keyValueSeqLengths: lengths };
    const drop = attentionDropout(pass.dropout, index);
    const attended = dotProductAttention(query, key, value, { ...rows, ...drop });
    return { attended, query, key, value, weights: () => dotProductAttentionWeights(query, key, rows) };
  }
  cache.write(index, key, value);
  const view = cache.view(index);
  const rows = { ...options, queryLengths: lengths };
  const attended = attend(query, view, rows);
  return { attended, query, key, value, weights: () => attendWeights(query, view, rows) };
}

/** Queries or keys `[B, T, heads, H]` as attention compares them: normalised per head, then rotated. */
function normalizeAndRotate(
  config: DecoderConfig,
  rotation: Rotation | undefined,
  x: Tensor,
  weight: Tensor | undefined,
): Tensor {
  const { normEps: eps, normWeightOffset: weightOffset } = config;
  const normed = weight ? rmsNorm(x, weight, { eps, weightOffset }) : x;
  if (!rotation || !config.rope) return normed;
  return rope(normed, rotation.cos, rotation.sin, { interleaved: config.rope.interleaved });
}

function feedForward(config: DecoderConfig, { feedForward: layer }: DecoderLayer, x: Tensor): Tensor {
  if (!('router' in layer)) return mlp(config.mlp, layer, x);
  const mixed = mixtureOfExperts(config.experts as ExpertsConfig, layer, x);
  return layer.shared ? add(mixed, mlp(config.mlp, layer.shared, x)) : mixed;
}

function mlp(
  { gated, activation }: DecoderConfig['mlp'],
  { gateUp, down }: MlpOf<Tensor>,
  x: Tensor,
): Tensor {
  const [first, up] = linears(x, gateUp);
  const hidden = gated ? activateGate(first, up, activation) : activate(first, activation);
  return linear(hidden, down.weight, down.bias);
}

export function normalize(
  { norm, normEps: eps, normWeightOffset: weightOffset }: DecoderConfig,
  x: Tensor,
  { weight, bias }: NormOf<Tensor>,
): Tensor {
  return norm === 'rms' ? rmsNorm(x, weight, { eps, weightOffset }) : layerNorm(x, weight, bias, { eps });
}
