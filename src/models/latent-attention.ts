/**
 * The decoder's multi-head latent attention (DeepSeek V2 and V3). The first pass of a row expands keys and
 * values per head, the form with the fewest operations; later ones attend to the cached rows themselves
 * (ops/latent.ts), whatever their storage.
 *
 * Source: transformers models/deepseek_v2, deepseek_v3 (DeepseekV3Attention).
 */
import { attend, attendWeights } from '../ops/attend.ts';
import { dotProductAttention } from '../ops/attention.ts';
import { dotProductAttentionWeights } from '../ops/attention-weights.ts';
import { concat } from '../ops/concat.ts';
import { absorbOutput, absorbQuery, expandLatent } from '../ops/latent.ts';
import { linear, linears } from '../ops/linear.ts';
import { reshape } from '../ops/reshape.ts';
import { rmsNorm } from '../ops/rms-norm.ts';
import { rope } from '../ops/rope.ts';
import { slice } from '../ops/slice.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, LatentAttentionConfig } from './decoder-config.ts';
import type { Attended, DecoderPass } from './decoder-pass.ts';
import type { LatentAttentionOf } from './decoder-weights.ts';
import { attentionDropout } from './pass-dropout.ts';

/** x `[B, T, D]` -> `attended` `[B, T, N, Hv]`, the rows `[B, T, L + R]` written to the pass's cache. */
export function latentAttention(
  config: DecoderConfig,
  weights: LatentAttentionOf<Tensor>,
  pass: DecoderPass,
  index: number,
  x: Tensor,
): Attended {
  const { numHeads: N, headDim: H } = config;
  const {
    kvLoraRank: L,
    qkNopeHeadDim: P,
    vHeadDim: Hv,
    normEps: eps,
  } = config.latent as LatentAttentionConfig;
  const [B, T] = x.shape;
  const [first, both] = linears(x, [weights.query, weights.rows]);
  const projected =
    weights.queryNorm && weights.queryUp
      ? linear(rmsNorm(first, weights.queryNorm, { eps }), weights.queryUp)
      : first;
  const heads = reshape(projected, [B, T, N, H]);
  const plain = slice(heads, [0, 0, 0, 0], [B, T, N, P]);
  const query = concat([plain, rotated(config, pass, slice(heads, [0, 0, 0, P]))], -1);

  const latent = rmsNorm(slice(both, [0, 0, 0], [B, T, L]), weights.norm, { eps });
  const ropeKey = rotated(config, pass, reshape(slice(both, [0, 0, L]), [B, T, 1, H - P]));
  const rows = concat([latent, reshape(ropeKey, [B, T, H - P])], -1);

  const expansion = {
    key: reshape(weights.key, [N, P, L]),
    value: reshape(weights.value, [N, Hv, L]),
  };
  const { lengths, cache } = pass;
  const scale = config.attention[index].scale ?? 1 / Math.sqrt(H);
  cache?.write(index, reshape(rows, [B, T, 1, L + H - P]));
  const view = cache?.view(index);
  const begins =
    !view || (view.window === undefined && view.rows.every((row, b) => row.length === lengths[b]));
  if (begins) {
    const { key, value } = expandLatent(rows, expansion);
    const options = { isCausal: true, scale, querySeqLengths: lengths, keyValueSeqLengths: lengths };
    const drop = attentionDropout(pass.dropout, index);
    return {
      attended: dotProductAttention(query, key, value, { ...options, ...drop }),
      weights: () => dotProductAttentionWeights(query, key, options),
    };
  }
  const absorbed = absorbQuery(query, expansion.key);
  const options = { scale, queryLengths: lengths };
  return {
    attended: absorbOutput(attend(absorbed, view, options), expansion.value),
    weights: () => attendWeights(absorbed, view, options),
  };
}

/** The rotating dims `[B, T, heads, R]` at their positions. */
function rotated({ rope: config }: DecoderConfig, { rotation }: DecoderPass, x: Tensor): Tensor {
  if (!rotation || !config) return x;
  return rope(x, rotation.cos, rotation.sin, { interleaved: config.interleaved });
}
