/** Checks a new number of key/value heads. */
import type { DecoderConfig } from '../models/decoder-config.ts';

/**
 * @param after K'
 * @param changesForm whether the type of the weights or the format changes too
 * @throws RangeError, with the numbers that are possible
 */
export function checkHeads(
  { numHeads: N, numKeyValueHeads: K, latent, attention }: DecoderConfig,
  after: number,
  changesForm: boolean,
): void {
  if (latent) {
    throw new RangeError(
      `convert: expected key/value heads to pool, got multi-head latent attention: its N=${N} heads already share one latent of ${latent.kvLoraRank} values and one rope key of ${latent.qkRopeHeadDim} per token`,
    );
  }
  if (attention.some((layer) => layer.numKeyValueHeads ?? layer.headDim ?? layer.reads)) {
    throw new RangeError(
      `convert: expected layers with one K and head dim and keys and values of their own, got layers that differ or share them; numKeyValueHeads cannot be chosen for such a model`,
    );
  }
  const choices = [];
  for (let k = 1; k <= N; k++) if (k !== K && N % k === 0 && (K % k === 0 || k % K === 0)) choices.push(k);
  if (after === 1 && K === 1 && !changesForm) {
    throw new RangeError(
      `convert: expected more than one key/value head to pool, got a multi-query model (N=${N}, K=1)${choices.length ? `; it can be written with K=${choices.join(', ')}` : ''}`,
    );
  }
  const fits = Number.isSafeInteger(after) && after >= 1 && N % after === 0;
  if (!fits || (K % after !== 0 && after % K !== 0)) {
    throw new RangeError(
      `convert: expected numKeyValueHeads to divide the checkpoint's K=${K}, or to be a multiple of it that divides N=${N}, got ${after}; choose one of ${choices.join(', ') || K}`,
    );
  }
}
