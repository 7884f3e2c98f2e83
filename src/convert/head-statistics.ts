/**
 * Statistics of a layer's heads as second moments: of keys, values, queries, and the columns of o.
 */
import type { DecoderConfig } from '../models/decoder-config.ts';
import type { SeenHeads } from '../models/decoder-pass.ts';
import { cast } from '../ops/cast.ts';
import { tensor } from '../ops/creation.ts';
import { matmul } from '../ops/matmul.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface HeadStatistics {
  /**
   * `[K * H, K * H]`; of rotated keys, less their mean over a sequence, to which softmax is invariant.
   */
  readonly key: Float64Array;
  /** `[K * H, K * H]` */
  readonly value: Float64Array;
  /** `[H, H]` of each query head. */
  readonly query: readonly Float64Array[];
  /** `[H, H]` of each query head: O^T O of its columns of o. */
  readonly output: readonly Float64Array[];
}

/** @param output of `outputMoments` */
export function seenStatistics(
  { numHeads: N, headDim: H }: DecoderConfig,
  seen: SeenHeads,
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

/** O^T O of the columns that read each query head. @param weight of the output projection, `[D, N * H]` */
export function outputMoments({ numHeads: N, headDim: H }: DecoderConfig, weight: Tensor): Float64Array[] {
  const values = scope(() => Float32Array.from(cast(weight, 'f32').dataSync()));
  return headMoments(values, weight.shape[0], N, H);
}
