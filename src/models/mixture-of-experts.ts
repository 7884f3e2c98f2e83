/**
 * A mixture of experts: a router scores the experts, the best k run for each token, and their outputs are
 * summed by weight; shared experts run for every token.
 *
 *   y = sum over chosen e of weight_e * down_e(activation(gate_e x) * up_e x)  +  shared(x)
 *
 * or, with weights of what experts read, of down_e(activation(gate_e (weight_e x)) * up_e (weight_e x)).
 *
 * Source: Shazeer et al. 2017; DeepSeek-V2 and V3 (transformers models/deepseek_v2, deepseek_v3), gpt-oss
 * (models/gpt_oss), Mixtral (models/mixtral), Llama 4 (models/llama4), Gemma 4 (models/gemma4).
 */
import { add, div, maximum, minimum, mul } from '../ops/binary.ts';
import { embedding } from '../ops/embedding.ts';
import { chooseExperts, expertLinears } from '../ops/experts.ts';
import { linear } from '../ops/linear.ts';
import { matmul } from '../ops/matmul.ts';
import { sum } from '../ops/reduce.ts';
import { reshape } from '../ops/reshape.ts';
import { slice } from '../ops/slice.ts';
import { softmax } from '../ops/softmax.ts';
import { sigmoid } from '../ops/unary.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { activateGate } from './activation.ts';
import type { ExpertActivation, ExpertsConfig, JointOutputs } from './experts-config.ts';
import type { MixtureOf } from './mixture-weights.ts';

/**
 * The chosen experts' part of the layer, without the shared ones.
 * @param x `[B, T, D]`
 * @param routed what the router reads, `[B, T, D]`; default x
 * @returns `[B, T, D]`
 */
export function mixtureOfExperts(
  config: ExpertsConfig,
  layer: MixtureOf<Tensor>,
  x: Tensor,
  routed: Tensor = x,
): Tensor {
  const { expertsPerToken: k, intermediateSize: I } = config;
  const [B, T, D] = x.shape;
  const rows = reshape(x, [B * T, D]);
  const { weights, ids } = route(config, layer, reshape(routed, [B * T, D]));
  const parts = layer.gateUp.map(experts);
  const byInputs = config.routing.weigh === 'inputs';
  // [B*T, 1, D] * [B*T, k, 1]
  const read = byInputs ? mul(reshape(rows, [B * T, 1, D]), reshape(weights, [B * T, k, 1])) : rows;
  const projected = expertLinears(read, ids, parts, layer.transposed);
  const [gate, up] = layer.joint ? split(projected[0], I, layer.joint) : projected;
  const hidden = activate(config.activation, gate, up);
  const [outputs] = expertLinears(hidden, ids, [experts(layer.down)], layer.transposed);
  if (byInputs) return reshape(sum(outputs, { axis: 1 }), [B, T, D]);
  // [B*T, 1, k] x [B*T, k, D]
  return reshape(matmul(reshape(weights, [B * T, 1, k]), outputs), [B, T, D]);
}

/** Which experts each row of x goes to, and with what weight: `[rows, k]` both. */
function route(
  { routing, expertsPerToken: count }: ExpertsConfig,
  { router, choiceBias: bias, expertScale }: MixtureOf<Tensor>,
  x: Tensor,
): { weights: Tensor; ids: Tensor } {
  const { scores: kind, groups, normalize, scale } = routing;
  const logits = linear(x, router.weight, router.bias);
  const scores = kind === 'softmax' ? softmax(logits) : kind === 'sigmoid' ? sigmoid(logits) : logits;
  const { values, ids } = chooseExperts(scores, { count, bias, groups });
  let weights = kind === 'softmaxOfChosen' ? softmax(values) : values;
  // DeepSeek-V3's epsilon: all sigmoids may be 0.
  if (normalize) weights = div(weights, add(sum(weights, { axis: -1, keepDims: true }), 1e-20));
  if (scale !== 1) weights = mul(weights, scale);
  if (!expertScale) return { weights, ids };
  const factors = embedding(reshape(expertScale, [-1, 1]), ids);
  return { weights: mul(weights, reshape(factors, weights.shape)), ids };
}

function experts(list: readonly { readonly weight: Tensor; readonly bias?: Tensor }[]): {
  weights: Tensor[];
  biases?: Tensor[];
} {
  const biases = list.flatMap(({ bias }) => (bias ? [bias] : []));
  return { weights: list.map(({ weight }) => weight), ...(biases.length > 0 && { biases }) };
}

/** `[rows, k, 2 I]` of gate and up -> `[rows, k, I]` each. */
function split(both: Tensor, I: number, order: JointOutputs): Tensor[] {
  const [rows, k] = both.shape;
  if (order === 'halves') return [0, 1].map((i) => slice(both, [0, 0, i * I], [rows, k, (i + 1) * I]));
  const pairs = reshape(both, [rows, k, I, 2]);
  return [0, 1].map((i) => reshape(slice(pairs, [0, 0, 0, i], [rows, k, I, i + 1]), [rows, k, I]));
}

function activate(activation: ExpertActivation, gate: Tensor, up: Tensor): Tensor {
  if (activation.type === 'gated') return activateGate(gate, up, activation.function);
  const { alpha, limit } = activation;
  const low = minimum(gate, limit);
  const bounded = maximum(minimum(up, limit), -limit);
  return mul(add(bounded, 1), mul(low, sigmoid(mul(low, alpha))));
}
