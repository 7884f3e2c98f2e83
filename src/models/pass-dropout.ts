/**
 * Dropout of a training pass, at the places of nanoGPT: after the embedding, on attention's weights, after
 * its output projection and after the MLP. A pass has one key; each place derives its own key from it.
 *
 * Source: github.com/karpathy/nanoGPT model.py.
 */
import { threefry2x32 } from '../backend/threefry.ts';
import { type DropoutMask, dropout } from '../ops/dropout.ts';
import type { KeyWords } from '../random/key.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface PassDropout {
  /** 0 < rate < 1. */
  readonly rate: number;
  readonly key: KeyWords;
}

/** The places in a layer; `embedding` is before all layers. */
export type DropoutPlace = 'embedding' | 'attention' | 'attentionOutput' | 'mlp';
const PLACES: readonly DropoutPlace[] = ['attention', 'attentionOutput', 'mlp'];

/** The key of one place: `foldIn(key, …)` of the embedding with 0, of layer i with 3 i + 1 to 3 i + 3. */
export function keyAt({ key }: PassDropout, place: DropoutPlace, layer = 0): KeyWords {
  return threefry2x32(key, 0, place === 'embedding' ? 0 : 3 * layer + 1 + PLACES.indexOf(place));
}

/** x after dropout; x itself without dropout. */
export function dropped(drop: PassDropout | undefined, x: Tensor, place: DropoutPlace, layer = 0): Tensor {
  return drop ? dropout(x, drop.rate, keyAt(drop, place, layer)) : x;
}

/** Dropout options of attention: one draw per attention weight. */
export function attentionDropout(
  drop: PassDropout | undefined,
  layer: number,
): (DropoutMask & { readonly broadcastDropout: boolean }) | undefined {
  return (
    drop && {
      dropoutRate: drop.rate,
      dropoutKey: keyAt(drop, 'attention', layer),
      broadcastDropout: false,
    }
  );
}
