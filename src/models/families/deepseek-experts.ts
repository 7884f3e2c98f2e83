/**
 * DeepSeek's mixtures of experts. V2: the weights are the softmax over all experts, scaled; the large model
 * chooses only from the groups with the best expert. V3: the weights are sigmoids, normalised and scaled; a
 * learned bias, which balances the load of experts, takes part in the choice.
 *
 * Source: transformers models/deepseek_v2 (DeepseekV2TopkRouter), deepseek_v3 (DeepseekV3TopkRouter);
 * llama.cpp's deepseek2 keys.
 */
import { show } from '../../arguments/kinds.ts';
import { byLayer } from '../../format/family-facts.ts';
import type { KeyReader } from '../../format/key-reader.ts';
import type { Activation } from '../activation.ts';
import type { ExpertNames, ExpertsConfig, RoutingConfig } from '../experts-config.ts';
import { type FamilySource, positiveNumber } from './family.ts';

/**
 * @returns undefined when every layer is dense
 * @throws FormatError naming the key that is missing, wrong or not supported
 */
export function configExperts(
  { keys, shape }: FamilySource,
  isV3: boolean,
  activation: Activation,
): ExpertsConfig | undefined {
  const layers = mixedLayers(keys, 'first_k_dense_replace', shape.numLayers, isV3 ? 3 : 0);
  if (!layers) return undefined;
  const frequency = keys.int('moe_layer_freq') ?? 1;
  if (frequency !== 1) throw keys.fail('moe_layer_freq', `expected 1, got ${frequency}`);
  const intermediateSize = keys.needInt('moe_intermediate_size');
  const shared = keys.int('n_shared_experts');
  const method = keys.raw('topk_method') ?? (isV3 ? 'noaux_tc' : 'greedy');
  const methods = isV3 ? ['noaux_tc'] : ['greedy', 'group_limited_greedy'];
  if (!methods.includes(String(method))) {
    throw keys.fail('topk_method', `expected ${methods.join(' or ')}, got ${show(method)}`);
  }
  const grouped = method !== 'greedy';
  return experts(keys, layers, activation, {
    numExperts: keys.needInt('n_routed_experts'),
    expertsPerToken: keys.needInt('num_experts_per_tok'),
    intermediateSize,
    sharedIntermediateSize: shared && shared * intermediateSize,
    routing: {
      scores: isV3 ? 'sigmoid' : 'softmax',
      ...(grouped && { groups: groupsOf(keys.needInt('n_group'), keys.needInt('topk_group'), isV3) }),
      choiceBias: isV3,
      normalize: isV3 && (keys.flag('norm_topk_prob') ?? true),
      scale: positiveNumber(keys, 'routed_scaling_factor', isV3 ? 2.5 : 1),
    },
  });
}

/**
 * @returns undefined when every layer is dense
 * @throws FormatError naming the key that is missing, wrong or not supported
 */
export function ggufExperts({ keys, shape, hasTensor }: FamilySource): ExpertsConfig | undefined {
  const arch = shape.modelType;
  const layers = mixedLayers(keys, `${arch}.leading_dense_block_count`, shape.numLayers, 0);
  const numExperts = keys.int(`${arch}.expert_count`);
  if (!layers || numExperts === undefined) return undefined;
  const intermediateSize = keys.needInt(`${arch}.expert_feed_forward_length`);
  const shared = keys.count(`${arch}.expert_shared_count`) ?? 0;
  const gating = keys.int(`${arch}.expert_gating_func`) ?? SOFTMAX;
  if (gating !== SOFTMAX && gating !== SIGMOID) {
    throw keys.fail(`${arch}.expert_gating_func`, `expected ${SOFTMAX} or ${SIGMOID}, got ${gating}`);
  }
  const groups = keys.int(`${arch}.expert_group_count`) ?? 1;
  return experts(keys, layers, 'silu', {
    numExperts,
    expertsPerToken: keys.needInt(`${arch}.expert_used_count`),
    intermediateSize,
    ...(shared > 0 && { sharedIntermediateSize: shared * intermediateSize }),
    routing: {
      scores: gating === SIGMOID ? 'sigmoid' : 'softmax',
      ...(groups > 1 && {
        groups: groupsOf(groups, keys.needInt(`${arch}.expert_group_used_count`), gating === SIGMOID),
      }),
      choiceBias: hasTensor(`blk.${layers.indexOf(true)}.exp_probs_b.bias`),
      normalize: keys.flag(`${arch}.expert_weights_norm`) ?? false,
      scale: positiveNumber(keys, `${arch}.expert_weights_scale`, 1),
    },
  });
}

/** Values of `expert_gating_func` in llama.cpp. */
const [SOFTMAX, SIGMOID] = [1, 2];

function mixedLayers(
  keys: KeyReader,
  key: string,
  numLayers: number,
  fallback: number,
): readonly boolean[] | undefined {
  const dense = keys.count(key) ?? fallback;
  return dense >= numLayers ? undefined : byLayer(numLayers, (i) => i >= dense);
}

/** The score of a group is the sum of its two best experts in V3, its best expert in V2. */
function groupsOf(count: number, kept: number, isV3: boolean): RoutingConfig['groups'] {
  return { count, kept, best: isV3 ? 2 : 1 };
}

function experts(
  keys: KeyReader,
  layers: readonly boolean[],
  activation: Activation,
  config: Omit<ExpertsConfig, 'layers' | 'activation' | 'routerBias' | 'biases'>,
): ExpertsConfig {
  const { numExperts: E, expertsPerToken: k, routing } = config;
  const { count, kept } = routing.groups ?? { count: 1, kept: 1 };
  if (E % count !== 0 || kept > count || k > (E / count) * kept) {
    const expected = `expected groups to divide E=${E}, kept <= groups and k <= kept * E / groups`;
    throw keys.fail('experts', `${expected}, got groups=${count}, kept=${kept}, k=${k}`);
  }
  const gated = { type: 'gated', function: activation } as const;
  return { ...config, layers, activation: gated, routerBias: false, biases: false };
}

/** Names in files that transformers saves, with one tensor per expert. */
export function configExpertNames(index: number): ExpertNames {
  const mlp = `model.layers.${index}.mlp`;
  const tensor = (expert: number, name: string) => ({ weight: `${mlp}.experts.${expert}.${name}.weight` });
  return {
    router: `${mlp}.gate`,
    choiceBias: `${mlp}.gate.e_score_correction_bias`,
    stacked: false,
    expert: (expert) => ({
      gateUp: [tensor(expert, 'gate_proj'), tensor(expert, 'up_proj')],
      down: tensor(expert, 'down_proj'),
    }),
    shared: {
      gateUp: [`${mlp}.shared_experts.gate_proj`, `${mlp}.shared_experts.up_proj`],
      down: `${mlp}.shared_experts.down_proj`,
    },
  };
}

/** Names in files of llama.cpp's converter, which stacks the experts. */
export function ggufExpertNames(index: number): ExpertNames {
  const name = (own: string) => `blk.${index}.${own}`;
  const tensor = (own: string) => ({ weight: `${name(own)}.weight` });
  return {
    router: name('ffn_gate_inp'),
    choiceBias: name('exp_probs_b.bias'),
    stacked: true,
    expert: () => ({
      gateUp: [tensor('ffn_gate_exps'), tensor('ffn_up_exps')],
      down: tensor('ffn_down_exps'),
    }),
    shared: { gateUp: [name('ffn_gate_shexp'), name('ffn_up_shexp')], down: name('ffn_down_shexp') },
  };
}
