/**
 * The memory that a forward pass of this library needs besides weights and cache: the tensors of one layer,
 * which are freed together after it (models/decoder.ts), the logits, and the kernels' packed weights.
 */
import type { ModelShape } from '../format/shape-types.ts';

/** `generate` feeds a prompt in chunks of so many tokens by default. */
export const PREFILL_CHUNK = 256;
/** Rows of one decoding pass of `generateBatch`. */
export const DECODE_ROWS = 16;
/** Weights that a pass of many rows packs at once, at most: GEMM_PACKED_FLOATS (kernels/gemm.h). */
const PACKED_FLOATS = 1 << 22;

/**
 * Bytes of the larger of two passes: over a chunk of a prompt, and over one token of each of `rows` rows.
 * @param chunk tokens
 */
export function activationBytes(shape: ModelShape, chunk: number, rows: number): number {
  return packedBytes(shape) + Math.max(passBytes(shape, chunk, 1), passBytes(shape, rows, rows));
}

/**
 * The weights of gate and up, or of q, k and v, as f32, in a buffer that is a quarter larger
 * (kernels/scratch.c).
 */
function packedBytes({
  hiddenSize: D,
  intermediateSize: I = 0,
  gatedMlp,
  numHeads: N,
  layers,
}: ModelShape): number {
  const projected = layers.map(
    (layer) => N * layer.keyHeadDim + layer.numKeyValueHeads * (layer.keyHeadDim + layer.valueHeadDim),
  );
  const outs = Math.max((gatedMlp ? 2 : 1) * I, ...projected);
  return pooled(1.25 * Math.min(PACKED_FLOATS, outs * D));
}

/** @param logitRows rows of the output head's result */
function passBytes(shape: ModelShape, tokens: number, logitRows: number): number {
  const { hiddenSize: D, vocabSize: V = 0, layers, numHeads } = shape;
  const largest = Math.max(
    ...layers.map((layer) => {
      const { numHeads: N = numHeads, numKeyValueHeads: K, keyHeadDim: H, valueHeadDim: Hv } = layer;
      // q and k before and after their rotation, v, and what attention gives.
      return (
        pooled(tokens * N * H) * 2 +
        pooled(tokens * K * H) * 2 +
        pooled(tokens * K * Hv) +
        pooled(tokens * N * Hv)
      );
    }),
  );
  // Of width D: the layer's input and output, two norms, the projected output, the sum, the MLP's output.
  const stream = 7 * pooled(tokens * D);
  return largest + stream + feedForwardBytes(shape, tokens) + pooled(logitRows * V);
}

/** The outputs of gate and up, and what the activation makes of them. */
function feedForwardBytes(
  { gatedMlp, intermediateSize: I = 0, experts, hiddenSize: D }: ModelShape,
  tokens: number,
): number {
  const dense = (gatedMlp ? 3 : 2) * pooled(tokens * I);
  if (experts === undefined) return dense;
  const { expertsPerToken, intermediateSize, sharedIntermediateSize } = experts;
  const rows = tokens * expertsPerToken;
  return Math.max(
    dense,
    3 * pooled(rows * intermediateSize) + pooled(rows * D) + 3 * pooled(tokens * sharedIntermediateSize),
  );
}

/**
 * Bytes of f32 values in a buffer of the pool, whose sizes are eighths of a power of two (kernels/memory.h).
 */
function pooled(values: number): number {
  if (values === 0) return 0;
  const step = 2 ** (Math.ceil(Math.log2(4 * values)) - 4);
  return Math.ceil((4 * values) / step) * step;
}
