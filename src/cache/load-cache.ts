/** Reads a cache from the file that `saveCache` wrote. */
import { checkObject, describe } from '../arguments/kinds.ts';
import type { BackendHandle } from '../backend/handle.ts';
import { type FileSource, withFile } from '../files/folder.ts';
import { checkPlace, outputPlace, type PlaceLike } from '../files/place.ts';
import { FormatError } from '../format/format-error.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from '../format/safetensors.ts';
import { BlockPool } from './block-pool.ts';
import type { CacheLayer, KeyValueCache } from './cache.ts';
import { CACHE_FORMAT, chunksOf, storedTensors } from './cache-file.ts';
import { PagedCache } from './paged-cache.ts';
import { readCacheState } from './read-cache-state.ts';
import { type CacheSnapshot, type CacheState, restoreState } from './snapshot.ts';
import { StaticCache } from './static-cache.ts';
import { WindowCache } from './window-cache.ts';

/** What a cache is loaded for: a model, or any object with these properties of one. */
export interface CachedModel {
  /** The backend that will hold the cache. */
  readonly backend: BackendHandle;
  /** What each layer of the model keeps per token. */
  readonly cacheLayers: readonly CacheLayer[];
}

/**
 * Loads a cache of `saveCache`, of the kind, size and dtype that it had, with all its tokens: continuing it
 * gives the same bits as continuing the one that was saved. A paged cache gets a pool of its own, of the
 * size of the former one.
 *
 * The file does not say which weights its tokens went through: load it with the model that filled it. Models
 * whose rotary frequencies change with the length (LongRoPE, dynamic NTK scaling) cannot feed its tokens
 * again: `forward` throws where that is necessary.
 * @throws FormatError for a file that is damaged or no cache; RangeError for one whose layers are not the
 *   model's, and when out of memory
 * @example
 * const cache = await loadCache('prompt.safetensors', model);
 * const logits = model.forward([[5]], { cache });
 */
export async function loadCache(place: PlaceLike, model: CachedModel): Promise<KeyValueCache> {
  checkPlace('loadCache', 'a path first', place);
  checkObject('loadCache', 'a model second', model);
  if (!Array.isArray(model.cacheLayers) || model.backend === undefined) {
    throw new TypeError(
      `loadCache: expected a model with backend and cacheLayers second, got ${describe(model)}`,
    );
  }
  const { folder, file } = await outputPlace(place);
  return withFile(folder, file, async (source) => {
    const header = await readSafetensorsHeader(source);
    const { format, cache: text } = header.metadata;
    if (format !== CACHE_FORMAT) {
      const got = format === undefined ? 'none' : JSON.stringify(format);
      throw new FormatError(source.name, undefined, `expected a cache of format ${CACHE_FORMAT}, got ${got}`);
    }
    const state = readCacheState(source.name, text);
    checkLayers(source.name, state.layers, model.cacheLayers);
    const cache = emptyCache(state, model.backend);
    try {
      await fill(source, header, restoreState(cache, state));
      return cache;
    } catch (error) {
      cache.dispose();
      throw error;
    }
  });
}

/** @throws RangeError unless the layers of the file are those of the model, windows of the cache's own apart */
function checkLayers(file: string, stored: readonly CacheLayer[], own: readonly CacheLayer[]): void {
  if (stored.length !== own.length) {
    throw new RangeError(
      `loadCache: expected a cache of ${own.length} layers, got ${stored.length} in ${file}`,
    );
  }
  const sizes = ({ numKeyValueHeads, headDim, valueHeadDim = headDim, latentDim }: CacheLayer) =>
    `numKeyValueHeads=${numKeyValueHeads}, headDim=${headDim}, ${latentDim === undefined ? `valueHeadDim=${valueHeadDim}` : `latentDim=${latentDim}`}`;
  stored.forEach((layer, i) => {
    const withWindow = own[i].window !== undefined;
    const text = (one: CacheLayer) => sizes(one) + (withWindow ? `, window=${one.window}` : '');
    if (text(layer) === text(own[i])) return;
    throw new RangeError(
      `loadCache: expected layer ${i} with ${text(own[i])}, got ${text(layer)} in ${file}`,
    );
  });
}

function emptyCache(state: CacheState, backend: BackendHandle): KeyValueCache {
  const { batchSize, maxLength, layers, dtype } = state;
  const common = { backend, layers, dtype };
  switch (state.kind) {
    case 'static':
      return new StaticCache({ ...common, batchSize, maxLength });
    case 'window':
      return new WindowCache({ ...common, batchSize, maxLength, sinks: state.sinks });
    case 'paged': {
      const { numBlocks, blockSize } = state;
      const pool = new BlockPool({ ...common, numBlocks, blockSize });
      return new PagedCache({ pool, batchSize, maxLength, ownsPool: true });
    }
  }
}

/** @throws FormatError when the file's tensors are not those of the cache */
async function fill(source: FileSource, header: SafetensorsHeader, to: CacheSnapshot): Promise<void> {
  const tensors = storedTensors(to);
  const text = (dtype: string, shape: readonly number[]) => `${dtype} [${shape.join(', ')}]`;
  for (const { name, dtype, shape } of tensors) {
    const info = header.tensors.get(name);
    const got = info === undefined ? 'none' : text(info.dtype, info.shape);
    if (got === text(dtype, shape)) continue;
    throw new FormatError(source.name, undefined, `${name}: expected ${text(dtype, shape)}, got ${got}`);
  }
  if (header.tensors.size !== tensors.length) {
    const detail = `expected ${tensors.length} tensors, got ${header.tensors.size}`;
    throw new FormatError(source.name, undefined, detail);
  }
  for (const tensor of tensors) {
    let at = header.tensors.get(tensor.name)?.byteOffset as number;
    for (const [slot, count] of chunksOf(tensor)) {
      const bytes = await source.read(at, count * tensor.side.tokenBytes);
      tensor.store.restore(tensor.side.name, slot, bytes);
      at += bytes.byteLength;
    }
  }
}
