/**
 * The two forms of multi-head latent attention (MLA). The cache stores a token as one row `[latent, rope
 * key]`; head n's key is `[U_n c, rope key]` and its value `W_n c`, c being the latent. So either each row is
 * expanded into keys and values per head (naive), or, since q . U c = (U^T q) . c and sum p W c = W sum p c,
 * queries and outputs are mapped to the latent space (absorbed): attention then runs on the rows, as one
 * key/value head whose values are the first L columns.
 *
 * Letters: N heads, L latent, R rope dims, P dims without position (nope), Hv value dims.
 *
 * Source: DeepSeek-AI 2024, DeepSeek-V2 (arXiv 2405.04434), section 2.1 and appendix C.
 */
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { broadcastTo } from './broadcast-to.ts';
import { concat } from './concat.ts';
import { linear } from './linear.ts';
import { matmul } from './matmul.ts';
import { reshape } from './reshape.ts';
import { slice } from './slice.ts';
import { transpose } from './transpose.ts';

/** The halves of `kv_b_proj`, both f32 (f64 on the reference backend). */
export interface LatentWeights {
  /** U `[N, P, L]` */
  readonly key: Tensor;
  /** W `[N, Hv, L]` */
  readonly value: Tensor;
}

/**
 * Expands rows into keys and values per head: the naive form.
 * @param rows `[B, S, L + R]`
 * @throws RangeError when the rows are narrower than the weights' latent
 * @returns key `[B, S, N, P + R]`, value `[B, S, N, Hv]`
 */
export function expandLatent(
  rows: Tensor,
  { key: up, value: out }: LatentWeights,
): { key: Tensor; value: Tensor } {
  const [N, P, L] = up.shape;
  const Hv = out.shape[1];
  const [B, S, width] = rows.shape;
  if (width < L)
    throw new RangeError(`expandLatent: expected rows of L=${L} and more, got ${shapeText(rows.shape)}`);
  const latent = slice(rows, [0, 0, 0], [B, S, L]);
  const plain = reshape(linear(latent, reshape(up, [N * P, L])), [B, S, N, P]);
  const value = reshape(linear(latent, reshape(out, [N * Hv, L])), [B, S, N, Hv]);
  const R = width - L;
  const rope = reshape(slice(rows, [0, 0, L]), [B, S, 1, R]);
  return { key: concat([plain, broadcastTo(rope, [B, S, N, R])], -1), value };
}

/**
 * Maps queries to the latent space: `[U^T q_nope, q_rope]`. The scale of the scores remains that of P + R
 * dims.
 * @param query `[B, T, N, P + R]`
 * @param up U `[N, P, L]`
 * @throws RangeError when heads or dims differ
 * @returns `[B, T, N, L + R]`
 */
export function absorbQuery(query: Tensor, up: Tensor): Tensor {
  const [B, T, N] = query.shape;
  const P = up.shape[1];
  const moved = perHead(slice(query, [0, 0, 0, 0], [B, T, N, P]), up, false);
  return concat([moved, slice(query, [0, 0, 0, P])], -1);
}

/**
 * Maps attention outputs from the latent space to values: `W x`.
 * @param attended `[B, T, N, L]`
 * @param out W `[N, Hv, L]`
 * @throws RangeError when heads or dims differ
 * @returns `[B, T, N, Hv]`
 */
export function absorbOutput(attended: Tensor, out: Tensor): Tensor {
  return perHead(attended, out, true);
}

/** `[B, T, N, A]` times a matrix `[A, C]` per head (stored `[C, A]` when transposed) -> `[B, T, N, C]`. */
function perHead(x: Tensor, matrices: Tensor, transposeB: boolean): Tensor {
  const [B, T, N, A] = x.shape;
  const byHead = reshape(transpose(x, [2, 0, 1, 3]), [N, B * T, A]);
  const y = matmul(byHead, matrices, { transposeB });
  return transpose(reshape(y, [N, B, T, y.shape[2]]), [1, 2, 0, 3]);
}
