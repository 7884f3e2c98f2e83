/**
 * Dropout of a training pass, where nanoGPT has it: after the embedding, on attention's weights, after its
 * output projection and after the MLP. One key makes a pass; each place draws its mask by a key of its own.
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

/** Where in a layer; `embedding` comes before all layers. */
export type DropoutPlace = 'embedding' | 'attention' | 'attentionOutput' | 'mlp';
const PLACES: readonly DropoutPlace[] = ['attention', 'attentionOutput', 'mlp'];

/** The key of one place: `foldIn(key, …)` of the embedding with 0, of layer i with 3 i + 1 to 3 i + 3. */
export function keyAt({ key }: PassDropout, place: DropoutPlace, layer = 0): KeyWords {
  return threefry2x32(key, 0, place === 'embedding' ? 0 : 3 * layer + 1 + PLACES.indexOf(place));
}

/** x with its share dropped; x itself without dropout. */
export function dropped(drop: PassDropout | undefined, x: Tensor, place: DropoutPlace, layer = 0): Tensor {
  return drop ? dropout(x, drop.rate, keyAt(drop, place, layer)) : x;
}

/** What attention takes of it: a draw for each weight. */
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
