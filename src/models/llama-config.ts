/**
 * A config.json of Hugging Face's `llama` type from a few sizes: what `createModel` and transformers read.
 */
import { aBoolean, aNumber, anything, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';

/** Sizes of a Llama-form model: pre-norm RMS, RoPE, gated SiLU MLP, no biases. */
export interface LlamaSizes {
  /** V */
  readonly vocabSize: number;
  /** D */
  readonly hiddenSize: number;
  /** Decoder layers. */
  readonly numLayers: number;
  /** N */
  readonly numHeads: number;
  /** K, a divisor of N; default N. */
  readonly numKeyValueHeads?: number;
  /** H; default D / N. */
  readonly headDim?: number;
  /**
   * Width of the gated MLP; default 8/3 D rounded up to a multiple of 32: as many weights as an MLP of 4 D
   * without gate.
   */
  readonly intermediateSize?: number;
  /** Longest sequence; default 2048. */
  readonly maxPositionEmbeddings?: number;
  /** Default 1e-5. */
  readonly normEps?: number;
  /** Default 10000. */
  readonly ropeTheta?: number;
  /** Whether the output head is the embedding table; default true. */
  readonly tiedEmbeddings?: boolean;
}

const SIZES = optionKinds<LlamaSizes>({
  vocabSize: anything,
  hiddenSize: anything,
  numLayers: anything,
  numHeads: anything,
  numKeyValueHeads: anything,
  headDim: aNumber,
  intermediateSize: anything,
  maxPositionEmbeddings: anything,
  normEps: aNumber,
  ropeTheta: aNumber,
  tiedEmbeddings: aBoolean,
});

/**
 * A config.json of Hugging Face's `llama` type: what `createModel` and transformers read.
 * @throws RangeError when K does not divide N, N does not divide D without a head dim, or a size is no
 * positive integer.
 */
export function llamaConfig(sizes: LlamaSizes): Record<string, unknown> {
  checkOptions('llamaConfig', sizes, SIZES);
  const { vocabSize, hiddenSize: D, numLayers, numHeads: N, numKeyValueHeads: K = N } = sizes;
  const { headDim: H = D / N, normEps = 1e-5, ropeTheta = 10000, tiedEmbeddings = true } = sizes;
  const { intermediateSize = Math.ceil((8 * D) / 3 / 32) * 32, maxPositionEmbeddings = 2048 } = sizes;
  const positive = { vocabSize, hiddenSize: D, numLayers, numHeads: N, numKeyValueHeads: K };
  for (const [name, value] of Object.entries({ ...positive, intermediateSize, maxPositionEmbeddings })) {
    checkPositiveInteger('llamaConfig', name, value);
  }
  if (N % K !== 0) {
    throw new RangeError(
      `llamaConfig: expected key/value heads K to divide query heads N, got K=${K} and N=${N}`,
    );
  }
  if (!Number.isInteger(H) || H < 1 || H % 2 !== 0) {
    throw new RangeError(
      `llamaConfig: expected an even head dim (hiddenSize / numHeads), got ${H} from D=${D} and N=${N}`,
    );
  }
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocabSize,
    hidden_size: D,
    intermediate_size: intermediateSize,
    num_hidden_layers: numLayers,
    num_attention_heads: N,
    num_key_value_heads: K,
    head_dim: H,
    max_position_embeddings: maxPositionEmbeddings,
    rms_norm_eps: normEps,
    rope_theta: ropeTheta,
    rope_parameters: { rope_type: 'default', rope_theta: ropeTheta },
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: tiedEmbeddings,
    initializer_range: 0.02,
    torch_dtype: 'float32',
    dtype: 'float32',
    use_cache: true,
  };
}
