/** Sizes of a model whose layers may differ, for `gqa inspect` and `gqa plan`. */
import type { ModelShape } from '../format/model-shape.ts';
import { count, rangeText } from './output.ts';

/** K and H of the layers with a cache of their own, as one number or a range: `8`, `4 to 16`. */
export function cachedRanges({ layers, numKeyValueHeads, headDim }: ModelShape): {
  readonly numKeyValueHeads: string;
  readonly keyHeadDim: string;
} {
  const cached = layers.filter(({ kind }) => kind !== 'linear' && kind !== 'shared');
  if (cached.length === 0) return { numKeyValueHeads: count(numKeyValueHeads), keyHeadDim: count(headDim) };
  return {
    numKeyValueHeads: rangeText(cached.map((layer) => layer.numKeyValueHeads)),
    keyHeadDim: rangeText(cached.map((layer) => layer.keyHeadDim)),
  };
}
