/**
 * What a layer's heads say, as second moments: of all keys, of all values, and of what reads them (queries, and the columns of
 * o). Measured on a calibration text, or taken from the weights as if the layer's input were white after its norm.
 */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { SeenAttention } from '../models/decoder.ts';
import type { DecoderConfig, DecoderNames } from '../models/decoder-config.ts';
import { decoderLayerWeights, type WeightPlace } from '../models/decoder-weights.ts';
import { tensor } from '../ops/creation.ts';
import { matmul } from '../ops/matmul.ts';
import { scope } from '../tensor/scope.ts';
import { sizeOf } from '../tensor/shape.ts';
import { bytesOf, decodeInto } from './number-codec.ts';

export interface HeadStatistics {
  /** `[K * H, K * H]`; of keys as attention compares them, less their mean over a sequence, which softmax does not see. */
  readonly key: Float64Array;
  /** `[K * H, K * H]` */
  readonly value: Float64Array;
  /** `[H, H]` of each query head. */
  readonly query: readonly Float64Array[];
  /** `[H, H]` of each query head: O^T O of its columns of o. */
  readonly output: readonly Float64Array[];
}

/** @param seen one pass over the calibration text */
export function seenStatistics(
  { numHeads: N, headDim: H }: DecoderConfig,
  seen: SeenAttention,
  output: readonly Float64Array[],
): HeadStatistics {
  const [B, T, K] = seen.key.shape;
  const keys = Float32Array.from(seen.key.dataSync());
  centre(keys, B, T, K * H);
  const values = Float32Array.from(seen.value.dataSync());
  const queries = Float32Array.from(seen.query.dataSync());
  return {
    key: moments(keys, B * T, K * H),
    value: moments(values, B * T, K * H),
    query: headMoments(queries, B * T, N, H),
    output,
  };
}

/** x `[B, T, n]` less its mean over T. */
function centre(x: Float32Array, B: number, T: number, n: number): void {
  for (let b = 0; b < B; b++) {
    for (let c = 0; c < n; c++) {
      let sum = 0;
      for (let t = 0; t < T; t++) sum += x[(b * T + t) * n + c];
      for (let t = 0; t < T; t++) x[(b * T + t) * n + c] -= sum / T;
    }
  }
}

/** x^T x of x `[S, n]`, by the backend's kernels. */
function moments(x: Float32Array, S: number, n: number): Float64Array {
  return scope(() => {
    const rows = tensor(x, { shape: [S, n] });
    return Float64Array.from(matmul(rows, rows, { transposeA: true }).dataSync());
  });
}

function headMoments(x: Float32Array, S: number, heads: number, H: number): Float64Array[] {
  return Array.from({ length: heads }, (_, head) => {
    const own = new Float32Array(S * H);
    for (let s = 0; s < S; s++) {
      const at = (s * heads + head) * H;
      own.set(x.subarray(at, at + H), s * H);
    }
    return moments(own, S, H);
  });
}

/** A layer's q, k, v as samples (a row per input feature, and one for the biases) and the moments of o's columns. */
export async function weightStatistics(
  checkpoint: Checkpoint,
  config: DecoderConfig,
  names: DecoderNames,
  index: number,
): Promise<HeadStatistics> {
  const { numHeads: N, numKeyValueHeads: K, headDim: H, hiddenSize: D } = config;
  const places = decoderLayerWeights<WeightPlace>(config, names, names.layer(index), (place) => place);
  const norm = await readWeight(checkpoint, places.attentionNorm.weight);
  const samples: Float32Array[] = [];
  for (const { weight, bias } of places.queryKeyValue) {
    const outs = weight.shape[0];
    const rows = await readWeight(checkpoint, weight);
    const out = new Float32Array((D + 1) * outs);
    for (let o = 0; o < outs; o++) for (let d = 0; d < D; d++) out[d * outs + o] = rows[o * D + d] * norm[d];
    if (bias) out.set(await readWeight(checkpoint, bias), D * outs);
    samples.push(out);
  }
  const [query, key, value] = samples;
  return {
    key: moments(key, D + 1, K * H),
    value: moments(value, D + 1, K * H),
    query: headMoments(query, D + 1, N, H),
    output: await outputMoments(checkpoint, config, places.attentionOutput.weight),
  };
}

/** O^T O of the columns that read each query head. */
export async function outputMoments(
  checkpoint: Checkpoint,
  { numHeads: N, headDim: H, hiddenSize: D }: DecoderConfig,
  place: WeightPlace,
): Promise<readonly Float64Array[]> {
  return headMoments(await readWeight(checkpoint, place), D, N, H);
}

/** A weight as the decoder takes it, `[Out, In]` or `[Out]`, in f32. */
async function readWeight(checkpoint: Checkpoint, place: WeightPlace): Promise<Float32Array> {
  const { name, shape, stored, first, transposed } = place;
  const info = checkpoint.tensor(name);
  const rows = transposed ? stored[0] : shape[0];
  const columns = transposed ? stored[1] : sizeOf(shape) / shape[0];
  const from = transposed ? 0 : first;
  const bytes = await checkpoint.readBytes(
    name,
    bytesOf(info.dtype, from * columns),
    bytesOf(info.dtype, rows * columns),
  );
  const values = new Float64Array(rows * columns);
  decodeInto(info.dtype, bytes as Uint8Array<ArrayBuffer>, values);
  if (!transposed) return Float32Array.from(values);
  const [outs, ins] = shape;
  const out = new Float32Array(outs * ins);
  for (let i = 0; i < ins; i++)
    for (let o = 0; o < outs; o++) out[o * ins + i] = values[i * columns + first + o];
  return out;
}
