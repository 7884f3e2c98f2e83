/**
 * Which Hugging Face class holds the converted model, and its config.json. Llama's relatives state K in one key; GPT-2's class has
 * only K = N, and the one class with learned positions and K = 1 is GPTBigCode, whose matrices are stored by output. Falcon says
 * K = 1 and K = N with a switch, what lies between with its new architecture, which has attention and MLP in parallel only.
 *
 * Source: transformers models/gpt2, models/gpt_bigcode, models/falcon (5.23.0).
 */
import { configWithDtype } from '../checkpoint/config-json.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';

export interface ConfigTarget {
  readonly config: Readonly<Record<string, unknown>>;
  /** Whether matrices of the layers change between `[In, Out]` and `[Out, In]`. */
  readonly transpose: boolean;
  /** Tensors of the old class that the new one does not have. */
  readonly dropped: RegExp | undefined;
  /** Multiplies each layer's queries: what the old class does to the scores and the new one does not. */
  readonly queryScale: (layer: number) => number;
}

type Json = Readonly<Record<string, unknown>>;

/** GPT-2's causal mask, saved as a buffer by old versions. */
const MASKS = /\.attn\.(bias|masked_bias)$/;

/**
 * @param before the old config.json
 * @param to K'
 * @param dtype the new type of the weights, where it changes
 * @throws RangeError saying which K the family has a class for
 */
export function configTarget(
  before: Json,
  { modelType, residual, numHeads: N, numKeyValueHeads: K }: DecoderConfig,
  to: number,
  dtype: string | undefined,
): ConfigTarget {
  const typed = dtype === undefined ? before : configWithDtype(before, dtype);
  const plain = { transpose: false, dropped: undefined, queryScale: () => 1 };
  if (modelType === 'falcon') {
    return { ...plain, config: { ...typed, ...falconHeads(typed, residual === 'parallel', N, K, to) } };
  }
  if (modelType !== 'gpt2' && modelType !== 'gpt_bigcode') {
    return { ...plain, config: withHeads(typed, to) };
  }
  if (to === K) return { ...plain, config: typed };
  if (to === 1 && modelType === 'gpt_bigcode') {
    return { ...plain, config: { ...typed, multi_query: true, num_key_value_heads: 1 } };
  }
  if (to === 1) return toBigCode(typed);
  if (to === N && modelType === 'gpt_bigcode') return toGpt2(typed);
  throw new RangeError(
    `convert: expected K=1 (written as gpt_bigcode) or K=${N} (gpt2) for learned positions, got K=${to}: Hugging Face has no class for it; a .gguf file of the gpt2 architecture can hold any K`,
  );
}

/** K in the language model's part of a file that has one. */
function withHeads(config: Json, to: number): Json {
  const text = config.text_config;
  return typeof text === 'object' && text !== null
    ? { ...config, text_config: { ...text, num_key_value_heads: to } }
    : { ...config, num_key_value_heads: to };
}

function falconHeads(config: Json, parallel: boolean, N: number, K: number, to: number): Json {
  if (to === K) return {};
  if (config.new_decoder_architecture === true) return { num_kv_heads: to };
  if (to === 1) return { multi_query: true };
  if (to === N) return { multi_query: false, num_kv_heads: N };
  if (parallel) return { new_decoder_architecture: true, num_kv_heads: to, num_ln_in_parallel_attn: 1 };
  throw new RangeError(
    `convert: expected K=1 or K=${N} for Falcon without parallel attention, got K=${to}: Hugging Face's class has no form for it`,
  );
}

function toBigCode(before: Json): ConfigTarget {
  const { scale_attn_by_inverse_layer_idx: byLayer, reorder_and_upcast_attn: _, ...rest } = before;
  const config = {
    activation_function: 'gelu_new',
    ...rest,
    model_type: 'gpt_bigcode',
    architectures: ['GPTBigCodeForCausalLM'],
    multi_query: true,
    num_key_value_heads: 1,
  };
  const queryScale = byLayer === true ? (layer: number) => 1 / (layer + 1) : () => 1;
  return { config, transpose: true, dropped: MASKS, queryScale };
}

function toGpt2(before: Json): ConfigTarget {
  const { multi_query: _, num_key_value_heads: __, ...rest } = before;
  const config = {
    activation_function: 'gelu_pytorch_tanh',
    ...rest,
    model_type: 'gpt2',
    architectures: ['GPT2LMHeadModel'],
  };
  return { config, transpose: true, dropped: MASKS, queryScale: () => 1 };
}
