/**
 * Falcon: RoPE, layer norms, a GELU MLP of width 4 D without a gate, attention and MLP in parallel. There are
 * three forms: 7B (K = 1, one norm), 40B and 180B (`new_decoder_architecture`: K groups, mostly two norms),
 * and RW (K = N). In all of them the fused projection has, for each key/value head, its queries, k and v.
 *
 * GGUF's converter reorders it to all of q, then k, then v, and swaps the two norms: attention's is
 * `attn_norm_2`.
 *
 * Source: transformers models/falcon; llama.cpp convert_hf_to_gguf.py (FalconModel), src/models/falcon.cpp
 * (its GELU is the tanh form; here it is the erf form, with which the models were trained).
 */
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import {
  activationAt,
  type ConvertedForm,
  type DecoderDescription,
  decoderSizes,
  type Family,
  type FamilySource,
  layerAttention,
  positiveNumber,
} from './family.ts';
import { fusedNames, ggufNames, ungatedFromGguf, withLayerNames } from './gated-decoder.ts';
import { configRope, ggufRope } from './rope-keys.ts';

export const falcon: Family = {
  modelTypes: ['falcon'],
  ggufArchitectures: ['falcon'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, shape } = source;
    if (keys.flag('alibi')) throw keys.fail('alibi', 'expected rotary positions (false), got true');
    const block = blockForm(source);
    const sizes = decoderSizes(source, ['vocab_size', 'ffn_hidden_size', 'max_position_embeddings']);
    const biased = keys.flag('bias') ?? false;
    const config: DecoderConfig = {
      ...sizes,
      norm: 'layer',
      normEps: positiveNumber(keys, 'layer_norm_epsilon', 1e-5),
      rope: configRope(keys, shape.headDim, sizes.maxPositionEmbeddings),
      residual: block === 'sequential' ? 'sequential' : 'parallel',
      attention: layerAttention(keys, shape),
      mlp: { gated: false, activation: activationAt(keys, 'activation', 'gelu') },
      biases: { queryKeyValue: biased, attentionOutput: biased, mlp: biased },
    };
    return { config, names: huggingFaceNames(block) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config: DecoderConfig = {
      ...ungatedFromGguf(source),
      rope: ggufRope(source, 'falcon', false),
      residual: 'parallel',
      mlp: { gated: false, activation: 'gelu' },
    };
    const twoNorms = source.hasTensor('blk.0.attn_norm_2.weight');
    const names = withLayerNames(fusedNames(ggufNames, 'attn_qkv', 'ffn_up'), (index, { attentionNorm }) =>
      twoNorms
        ? { attentionNorm: `blk.${index}.attn_norm_2`, mlpNorm: attentionNorm }
        : { mlpNorm: undefined },
    );
    return { config, names };
  },

  convertedForm: (before, config, to) => ({ config: { ...before, ...convertedHeads(before, config, to) } }),
};

/** Attention and MLP one after the other, or in parallel with one norm or with two. */
type BlockForm = 'sequential' | 'oneNorm' | 'twoNorms';

function blockForm({ keys }: FamilySource): BlockForm {
  const isNew = keys.flag('new_decoder_architecture') ?? false;
  const parallel = keys.flag('parallel_attn') ?? true;
  const norms = keys.int('num_ln_in_parallel_attn') ?? (isNew ? 2 : 1);
  if (!parallel && isNew) {
    throw keys.fail('parallel_attn', 'expected true in the new decoder architecture, got false');
  }
  if (!parallel) return 'sequential';
  if (norms > 2 || (norms === 2 && !isNew)) {
    const expected = isNew ? '1 or 2' : '1 without new_decoder_architecture';
    throw keys.fail('num_ln_in_parallel_attn', `expected ${expected}, got ${norms}`);
  }
  return norms === 2 ? 'twoNorms' : 'oneNorm';
}

function huggingFaceNames(block: BlockForm): DecoderNames {
  const mlpNorms = { sequential: 'post_attention_layernorm', twoNorms: 'ln_mlp', oneNorm: undefined };
  const mlpNorm = mlpNorms[block];
  return {
    embedding: 'transformer.word_embeddings',
    finalNorm: 'transformer.ln_f',
    head: 'lm_head',
    layer: (index) => {
      const layer = `transformer.h.${index}`;
      return {
        attentionNorm: `${layer}.${block === 'twoNorms' ? 'ln_attn' : 'input_layernorm'}`,
        queryKeyValue: `${layer}.self_attention.query_key_value`,
        fusedOrder: 'groups',
        attentionOutput: `${layer}.self_attention.dense`,
        ...(mlpNorm !== undefined && { mlpNorm: `${layer}.${mlpNorm}` }),
        gateUp: `${layer}.mlp.dense_h_to_4h`,
        down: `${layer}.mlp.dense_4h_to_h`,
      };
    },
  };
}

/**
 * `multi_query` chooses between K = 1 and K = N. Another K needs the new decoder architecture, which always
 * has attention and MLP in parallel.
 * @throws RangeError for another K in a model with attention and MLP one after the other
 */
function convertedHeads(
  before: ConvertedForm['config'],
  { residual, numHeads: N, numKeyValueHeads: K }: DecoderConfig,
  to: number,
): ConvertedForm['config'] {
  if (to === K) return {};
  if (before.new_decoder_architecture === true) return { num_kv_heads: to };
  if (to === 1) return { multi_query: true };
  if (to === N) return { multi_query: false, num_kv_heads: N };
  if (residual === 'parallel') {
    return { new_decoder_architecture: true, num_kv_heads: to, num_ln_in_parallel_attn: 1 };
  }
  throw new RangeError(
    `convert: expected K=1 or K=${N} for Falcon without parallel attention, got K=${to}: Hugging Face's class has no form for it`,
  );
}
