/**
 * The sizes of a model's mixtures of experts, from a config.json or GGUF keys. They are for estimates: a file
 * whose keys are unknown counts as dense.
 *
 * Source: the configuration files of transformers 5.23.0; llama.cpp's llama-arch.cpp.
 */
import type { FamilyFacts } from './family-facts.ts';
import type { KeyReader } from './key-reader.ts';
import type { ExpertsShape } from './shape-types.ts';

const EXPERTS = [
  ...['num_local_experts', 'num_experts', 'n_routed_experts', 'moe_num_experts'],
  'num_routed_experts',
];
const CHOSEN = [
  ...['num_experts_per_tok', 'experts_per_token', 'num_experts_per_token', 'moe_k', 'moe_topk'],
  'top_k_experts',
];

/**
 * @param intermediateSize of the dense layers
 * @param sharedExperts of a family whose files do not state them
 * @returns undefined when the model has none
 */
export function configExperts(
  keys: KeyReader,
  numLayers: number,
  intermediateSize: number | undefined,
  sharedExperts: FamilyFacts['sharedExperts'] = 0,
): ExpertsShape | undefined {
  // Gemma 4 has a switch.
  if (keys.flag('enable_moe_block') === false) return undefined;
  const numExperts = keys.count(...EXPERTS) ?? 0;
  // Llama 4 has a key of its own for the dense layers.
  const own = keys.has('intermediate_size_mlp') ? ['intermediate_size'] : [];
  const width = keys.count('moe_intermediate_size', 'expert_ffn_hidden_size', ...own) ?? intermediateSize;
  if (numExperts === 0 || width === undefined) return undefined;
  const stated = keys.count('n_shared_experts', 'moe_num_shared_experts', 'num_shared_experts');
  const shared =
    keys.count('shared_expert_intermediate_size', 'shared_intermediate_size') ??
    sharedWidth(stated ?? sharedExperts, width, intermediateSize);
  const dense = keys.count('first_k_dense_replace', 'moe_layer_start_index', 'num_dense_layers') ?? 0;
  const period = keys.count('decoder_sparse_step', 'interleave_moe_layer_step', 'moe_layer_interval') ?? 1;
  const without = keys.list('mlp_only_layers')?.length ?? 0;
  return {
    numExperts,
    expertsPerToken: keys.count(...CHOSEN) ?? 1,
    intermediateSize: width,
    sharedIntermediateSize: shared,
    numLayers:
      keys.list('moe_layers')?.length ??
      Math.max(0, Math.floor((numLayers - dense) / Math.max(1, period)) - without),
  };
}

/**
 * @param arch the GGUF architecture
 * @param sharedExperts as above
 * @returns undefined when the model has none
 */
export function ggufExperts(
  keys: KeyReader,
  arch: string,
  numLayers: number,
  intermediateSize: number | undefined,
  sharedExperts: FamilyFacts['sharedExperts'] = 0,
): ExpertsShape | undefined {
  const numExperts = keys.count(`${arch}.expert_count`) ?? 0;
  const width = keys.count(`${arch}.expert_feed_forward_length`) ?? intermediateSize;
  if (numExperts === 0 || width === undefined) return undefined;
  const shared =
    keys.count(`${arch}.expert_shared_feed_forward_length`) ??
    sharedWidth(keys.count(`${arch}.expert_shared_count`) ?? sharedExperts, width, intermediateSize);
  const period = keys.count(`${arch}.interleave_moe_layer_step`) ?? 1;
  const dense = keys.count(`${arch}.leading_dense_block_count`) ?? 0;
  return {
    numExperts,
    expertsPerToken: keys.count(`${arch}.expert_used_count`) ?? 1,
    intermediateSize: width,
    sharedIntermediateSize: shared,
    numLayers: Math.max(0, Math.floor((numLayers - dense) / Math.max(1, period))),
  };
}

function sharedWidth(shared: number | 'mlp', expertWidth: number, mlpWidth: number = 0): number {
  return shared === 'mlp' ? mlpWidth : shared * expertWidth;
}
