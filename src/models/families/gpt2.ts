/**
 * GPT-2: multi-head attention, learned positions, layer norms, a GELU MLP without a gate, biases everywhere,
 * tied embeddings.
 *
 * Its safetensors files have Conv1D matrices, `[In, Out]`, with the columns of q, then k, then v. Names begin
 * with `transformer.`, in older files without it. `h.0.attn.bias` is the causal mask, not a bias, and is not
 * read. GGUF files have the matrices transposed, and their GELU is the tanh form.
 *
 * Source: transformers models/gpt2; llama.cpp convert_hf_to_gguf.py (GPT2Model), src/models/gpt2.cpp.
 */
import type { DecoderConfig, DecoderNames, LayerAttention } from '../decoder-config.ts';
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
import { fusedNames, ggufNames, ungatedFromGguf } from './gated-decoder.ts';

export const gpt2: Family = {
  modelTypes: ['gpt2'],
  ggufArchitectures: ['gpt2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, hasTensor } = source;
    if (keys.flag('add_cross_attention')) {
      throw keys.fail('add_cross_attention', 'expected a decoder without cross-attention, got true');
    }
    const config: DecoderConfig = {
      ...decoderSizes(source, ['vocab_size', 'n_inner', 'n_positions']),
      norm: 'layer',
      biases: BIASES,
      normEps: positiveNumber(keys, 'layer_norm_epsilon', 1e-5),
      attention: scaledAttention(source),
      // The default of GPTBigCode is another name of the same function.
      mlp: { gated: false, activation: activationAt(keys, 'activation_function', 'gelu_new') },
    };
    return { config, names: huggingFaceNames(hasTensor('transformer.ln_f.weight') ? 'transformer.' : '') };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = { ...ungatedFromGguf(source), biases: BIASES };
    return { config, names: fusedNames(ggufNames, 'attn_qkv', 'ffn_up') };
  },

  /** GPT-2's class has only K = N; GPTBigCode is the class with learned positions and K = 1. */
  convertedForm(before, { numHeads: N }, to): ConvertedForm {
    if (to === N) return { config: before };
    if (to !== 1) throw noClass(N, to);
    const { scale_attn_by_inverse_layer_idx: byLayer, reorder_and_upcast_attn: _, ...rest } = before;
    return {
      config: {
        activation_function: 'gelu_new',
        ...rest,
        model_type: 'gpt_bigcode',
        architectures: ['GPTBigCodeForCausalLM'],
        multi_query: true,
        num_key_value_heads: 1,
      },
      transpose: true,
      queryScale: (layer) => (byLayer === true ? 1 / (layer + 1) : 1),
    };
  },
};

/** The error for a K without a class in Hugging Face. */
export function noClass(numHeads: number, to: number): RangeError {
  return new RangeError(
    `convert: expected K=1 (written as gpt_bigcode) or K=${numHeads} (gpt2) for learned positions, got K=${to}: Hugging Face has no class for it; a .gguf file of the gpt2 architecture can hold any K`,
  );
}

const BIASES = { queryKeyValue: true, attentionOutput: true, mlp: true };

/** transformers can leave GPT-2's scores unscaled, and can divide them by the layer's number. */
function scaledAttention({ keys, shape }: FamilySource): readonly LayerAttention[] {
  const scaled = keys.flag('scale_attn_weights') ?? true;
  const byLayer = keys.flag('scale_attn_by_inverse_layer_idx') ?? false;
  const layers = layerAttention(keys, shape);
  if (scaled && !byLayer) return layers;
  const base = scaled ? 1 / Math.sqrt(shape.headDim) : 1;
  return layers.map((layer, index) => ({ ...layer, scale: byLayer ? base / (index + 1) : base }));
}

function huggingFaceNames(prefix: string): DecoderNames {
  return {
    embedding: `${prefix}wte`,
    positions: `${prefix}wpe`,
    finalNorm: `${prefix}ln_f`,
    head: 'lm_head',
    transposed: true,
    // The causal mask, in old files.
    isBuffer: (name) => /\.attn\.(masked_)?bias$/.test(name),
    layer: (index) => {
      const layer = `${prefix}h.${index}`;
      return {
        attentionNorm: `${layer}.ln_1`,
        queryKeyValue: `${layer}.attn.c_attn`,
        attentionOutput: `${layer}.attn.c_proj`,
        mlpNorm: `${layer}.ln_2`,
        gateUp: `${layer}.mlp.c_fc`,
        down: `${layer}.mlp.c_proj`,
      };
    },
  };
}
