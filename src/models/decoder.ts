/**
 * The one decoder: embed, then per layer attention and an MLP, each on a normalised input and added back,
 * then a norm and the output head. Families differ in their config only.
 *
 *   x = x + O attend(rope(Q norm(x)), rope(K norm(x)), V norm(x))     x = x + D (silu(G norm(x)) * U norm(x))
 *
 * or, with a parallel block, both from the same x. The last layers may read the keys and values of earlier
 * ones.
 */
import { attend, attendWeights } from '../ops/attend.ts';
import { dotProductAttention } from '../ops/attention.ts';
import { dotProductAttentionWeights } from '../ops/attention-weights.ts';
import { add, maximum, minimum, mul } from '../ops/binary.ts';
import { embedding } from '../ops/embedding.ts';
import { layerNorm } from '../ops/layer-norm.ts';
import { linear, linears } from '../ops/linear.ts';
import { reshape } from '../ops/reshape.ts';
import { rmsNorm } from '../ops/rms-norm.ts';
import { rope } from '../ops/rope.ts';
import { slice } from '../ops/slice.ts';
import { tanh } from '../ops/unary.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { activate, activateGate, xielu } from './activation.ts';
import { type DecoderConfig, type LayerInputs, layerHeads } from './decoder-config.ts';
import type { Attended, DecoderPass, Rotation, SeenAttention, SharedHeads } from './decoder-pass.ts';
import type { DecoderLayer, DecoderWeights, NormOf } from './decoder-weights.ts';
import type { ExpertsConfig } from './experts-config.ts';
import { latentAttention } from './latent-attention.ts';
import { mixtureOfExperts } from './mixture-of-experts.ts';
import type { MlpOf } from './mixture-weights.ts';
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
  const embedded = scope(() => embed(config, weights, pass));
  const layerInputs = layerInputsOf(config, weights, pass, embedded);
  const observed = { ...pass, layerInputs, ...(output.includes('attentions') && { observe }) };
  let x = scope(() => dropped(pass.dropout, embedded, 'embedding'));
  if (x !== embedded) embedded.dispose();
  for (let index = 0; index < weights.layers.length; index++) {
    const input = x;
    [x] = scope(() => [
      decoderLayer(config, weights.layers[index], observed, index, input),
      attentions[index],
      observed.shared,
    ]);
    if (output.includes('hiddenStates')) hiddenStates.push(input);
    else input.dispose();
  }
  layerInputs?.dispose();
  for (const { key, value } of observed.shared?.values() ?? []) {
    key.dispose();
    value.dispose();
  }
  const hidden = normalize(config, x, weights.finalNorm);
  if (output.includes('hiddenStates')) hiddenStates.push(hidden);
  return { hidden, attentions, hiddenStates };
}

/** Tokens (and learned positions) as the residual stream `[B, T, D]`. */
export function embed(
  config: DecoderConfig,
  weights: DecoderWeights,
  { ids, positions }: DecoderPass,
): Tensor {
  const rows = scaled(embedding(weights.embedding, ids), config.embeddingScale);
  const tokens = config.embeddingNorm ? normalize(config, rows, {}) : rows;
  return weights.positions && positions ? add(tokens, embedding(weights.positions, positions)) : tokens;
}

/** Logits `[…, V]` of what the final norm gave, `[…, D]`. */
export function outputHead(
  { logitsScale, logitsSoftCap: cap }: DecoderConfig,
  { head }: DecoderWeights,
  x: Tensor,
): Tensor {
  const logits = scaled(linear(x, head.weight, head.bias), logitsScale);
  return cap === undefined ? logits : mul(tanh(mul(logits, 1 / cap)), cap);
}

function scaled(x: Tensor, factor: number | undefined): Tensor {
  return factor === undefined ? x : mul(x, factor);
}

/** The residual stream x `[B, T, D]` after one more layer. */
export function decoderLayer(
  config: DecoderConfig,
  layer: DecoderLayer,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Tensor {
  const { residual = 'sequential' } = config;
  const normed = attentionInput(config, layer, x);
  const { output, attended: _, ...seen } = attentionBlock(config, layer, pass, index, normed);
  pass.observe?.({ ...seen, layer: index, output });
  const middle = add(x, output);
  const [read, unnormed] = residual === 'parallel' ? [x, normed] : [middle, middle];
  const input = layer.mlpNorm ? normalize(config, read, layer.mlpNorm) : unnormed;
  const hidden = dropped(pass.dropout, feedForward(config, layer, index, input, read), 'mlp', index);
  const after = add(middle, branchOutput(config, hidden, layer.mlpNormAfter));
  const whole = layer.input ? add(after, inputBranch(config, layer.input, pass, index, after)) : after;
  return layer.scale ? mul(whole, layer.scale) : whole;
}

/** `[B, T, layers, P]`, from the table's rows and the embeddings `[B, T, D]`. */
function layerInputsOf(
  { layerInputs, numLayers, hiddenSize: D, normEps: eps }: DecoderConfig,
  { layerInputs: weights }: DecoderWeights,
  { ids }: DecoderPass,
  embedded: Tensor,
): Tensor | undefined {
  if (!layerInputs || !weights) return undefined;
  const { dim: P } = layerInputs;
  const shape = [...ids.shape, numLayers, P];
  return scope(() => {
    const rows = reshape(mul(embedding(weights.table, ids), Math.sqrt(P)), shape);
    const projected = reshape(mul(linear(embedded, weights.project), 1 / Math.sqrt(D)), shape);
    return mul(add(rmsNorm(projected, weights.norm, { eps }), rows), Math.SQRT1_2);
  });
}

/** What a layer adds from its second input. x: `[B, T, D]`. */
function inputBranch(
  config: DecoderConfig,
  { gate, project, norm }: NonNullable<DecoderLayer['input']>,
  { ids, layerInputs }: DecoderPass,
  index: number,
  x: Tensor,
): Tensor {
  const [B, T] = ids.shape;
  const { dim: P } = config.layerInputs as LayerInputs;
  const own = slice(layerInputs as Tensor, [0, 0, index, 0], [B, T, index + 1, P]);
  const hidden = activateGate(linear(x, gate), reshape(own, [B, T, P]), config.mlp.activation);
  return normalize(config, linear(hidden, project), { weight: norm });
}

/** What a layer's attention reads of the residual stream. */
export function attentionInput(config: DecoderConfig, { attentionNorm }: DecoderLayer, x: Tensor): Tensor {
  return attentionNorm ? normalize(config, x, attentionNorm) : x;
}

/** What a branch adds to the residual stream. */
function branchOutput(config: DecoderConfig, part: Tensor, norm: NormOf<Tensor> | undefined): Tensor {
  return scaled(norm ? normalize(config, part, norm) : part, config.residualScale);
}

/**
 * A layer's attention with its output projection.
 * @param x of `attentionInput`, `[B, T, D]`
 * @returns what is added to the residual stream, `[B, T, D]`, and what attention saw and gave
 */
export function attentionBlock(
  config: DecoderConfig,
  layer: DecoderLayer,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Attended & { readonly output: Tensor } {
  const [B, T] = pass.ids.shape;
  const seen: Attended = layer.latent
    ? latentAttention(config, layer.latent, pass, index, x)
    : selfAttention(config, layer, pass, index, x);
  const { weight, bias } = layer.attentionOutput;
  const projected = dropped(
    pass.dropout,
    linear(reshape(seen.attended, [B, T, -1]), weight, bias),
    'attentionOutput',
    index,
  );
  return { ...seen, output: branchOutput(config, projected, layer.attentionNormAfter) };
}

/** x: normalised, `[B, T, D]`. */
function selfAttention(
  config: DecoderConfig,
  layer: DecoderLayer,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Attended {
  const { clipQueryKeyValue: clip } = config;
  const { lengths, offsets, cache, shared } = pass;
  const projected = linears(x, layer.queryKeyValue);
  const [q, k, v = k] =
    clip === undefined ? projected : projected.map((part) => minimum(maximum(part, -clip), clip));
  const { window, chunked, scale, softCap: logitsSoftCap, rotates = true, grows } = config.attention[index];
  const { reads } = config.attention[index];
  const ofKind = (window === undefined ? undefined : pass.windowRotation) ?? pass.rotation;
  const rotation = rotates ? ofKind : undefined;
  const compared = normalizeAndRotate(config, index, rotation, q, layer.queryNorm);
  const query = grows && pass.queryScale ? mul(compared, pass.queryScale) : compared;
  const own = reads === undefined && {
    key: normalizeAndRotate(config, index, rotation, k, layer.keyNorm),
    value: valueHeads(config, index, v),
  };
  const localWindowSize = window === undefined ? undefined : ([window - 1, 0] as const);
  const chunkSize = chunked ? window : undefined;
  const options = { isCausal: true, localWindowSize, chunkSize, scale, logitsSoftCap, sinks: layer.sinks };
  if (!cache) {
    if (own) shared?.set(index, own);
    const kept = shared as Map<number, SharedHeads>;
    const { key, value } = own || (kept.get(reads as number) as SharedHeads);
    const rows = { ...options, querySeqLengths: lengths, keyValueSeqLengths: lengths };
    const drop = attentionDropout(pass.dropout, index);
    const attended = dotProductAttention(query, key, value, { ...rows, ...drop });
    return { attended, query, key, value, weights: () => dotProductAttentionWeights(query, key, rows) };
  }
  if (own) cache.write(index, own.key, own.value);
  const view = cache.view(reads ?? index);
  const rows = { ...options, queryLengths: lengths, queryPositions: offsets };
  const attended = attend(query, view, rows);
  return { attended, query, ...own, weights: () => attendWeights(query, view, rows) };
}

/** `[B, T, heads * H]` -> `[B, T, heads, H]` */
function perHead(config: DecoderConfig, index: number, x: Tensor): Tensor {
  const { H } = layerHeads(config, index);
  const [B, T, width] = x.shape;
  return reshape(x, [B, T, width / H, H]);
}

/** Values `[B, T, K * H]` as attention reads them. */
function valueHeads(config: DecoderConfig, index: number, v: Tensor): Tensor {
  const heads = perHead(config, index, v);
  return config.valueNorm ? rmsNorm(heads, undefined, { eps: config.normEps }) : heads;
}

/** Queries or keys `[B, T, heads * H]` as attention compares them, `[B, T, heads, H]`: normalised, rotated. */
function normalizeAndRotate(
  config: DecoderConfig,
  index: number,
  rotation: Rotation | undefined,
  x: Tensor,
  weight: Tensor | undefined,
): Tensor {
  const { normEps: eps, normWeightOffset: weightOffset, queryKeyNorm, rope: positions } = config;
  const normed = (part: Tensor) => rmsNorm(part, weight, { eps, weightOffset });
  const rotated = (part: Tensor) =>
    rotation && positions
      ? rope(part, rotation.cos, rotation.sin, { interleaved: positions.interleaved })
      : part;
  const { normalizes = true } = config.attention[index];
  if (queryKeyNorm?.over === 'all') return rotated(perHead(config, index, normed(x)));
  const heads = perHead(config, index, x);
  if (!queryKeyNorm || !normalizes) return rotated(heads);
  return queryKeyNorm.afterRotation ? normed(rotated(heads)) : rotated(normed(heads));
}

/** x: what the MLP reads; unnormed: the same before its norm. */
function feedForward(
  config: DecoderConfig,
  { feedForward: layer }: DecoderLayer,
  index: number,
  x: Tensor,
  unnormed: Tensor,
): Tensor {
  if (!('router' in layer)) return mlp(config.mlp, layer, x, index);
  const experts = config.experts as ExpertsConfig;
  const { norm } = experts.routing;
  const { norms, shared, routerNorm } = layer;
  const normed = (part: Tensor, weight: Tensor | undefined) =>
    weight ? normalize(config, part, { weight }) : part;
  const read = norms ? normed(unnormed, norms.before) : x;
  const routed = norm ? mul(normed(unnormed, routerNorm), norm.scale) : read;
  const mixed = normed(mixtureOfExperts(experts, layer, read, routed), norms?.after);
  return shared ? add(mixed, normed(mlp(config.mlp, shared, x, index), norms?.sharedAfter)) : mixed;
}

function mlp(
  { gated, activation, xielu: ofLayers }: DecoderConfig['mlp'],
  { gateUp, down }: MlpOf<Tensor>,
  x: Tensor,
  index: number,
): Tensor {
  const [first, up] = linears(x, gateUp);
  const single = () => (ofLayers ? xielu(first, ofLayers[index]) : activate(first, activation));
  const hidden = gated ? activateGate(first, up, activation) : single();
  return linear(hidden, down.weight, down.bias);
}

export function normalize(
  { norm, normEps: eps, normWeightOffset: weightOffset }: DecoderConfig,
  x: Tensor,
  { weight, bias }: NormOf<Tensor>,
): Tensor {
  return norm === 'rms' ? rmsNorm(x, weight, { eps, weightOffset }) : layerNorm(x, weight, bias, { eps });
}
