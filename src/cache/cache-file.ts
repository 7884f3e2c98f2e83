/**
 * The file of a cache: safetensors, with the cache's numbers as JSON in `__metadata__` and the tokens of each
 * layer as tensors `layers.0.key` and `layers.0.value` of `[tokens, K, H]`, with the slots in the order of
 * the snapshot's ranges. Blocks of `q8_0`, which safetensors does not have, are stored as bytes.
 */
import type { StorageType } from '../format/storage-type.ts';
import type { LayerStore, StoredSide } from './layer-store.ts';
import type { CacheSnapshot, SlotRange } from './snapshot.ts';

/** The value of `format` in `__metadata__`. */
export const CACHE_FORMAT = 'gqa-cache-1';

/** Most bytes read or written at a time; at least one token. */
const CHUNK_BYTES = 8 << 20;

/** One tensor of the file. */
export interface StoredTensor {
  readonly name: string;
  readonly dtype: StorageType;
  readonly shape: readonly number[];
  readonly store: LayerStore;
  readonly side: StoredSide;
  readonly ranges: readonly SlotRange[];
}

/** The tensors of a cache's file. */
export function storedTensors({ stores, ranges }: CacheSnapshot): StoredTensor[] {
  return stores.flatMap((store, layer) => {
    const tokens = ranges[layer].reduce((sum, [, count]) => sum + count, 0);
    return store.stored.map((side) => ({
      name: `layers.${layer}.${side.name}`,
      dtype: side.dtype,
      shape: [tokens, ...side.shape],
      ...{ store, side, ranges: ranges[layer] },
    }));
  });
}

/** The slots of a tensor in pieces of bounded size, in the order of its bytes. */
export function* chunksOf({ side, ranges }: StoredTensor): Generator<SlotRange> {
  const most = Math.max(1, Math.floor(CHUNK_BYTES / side.tokenBytes));
  for (const [slot, count] of ranges) {
    for (let at = 0; at < count; at += most) yield [slot + at, Math.min(most, count - at)];
  }
}
