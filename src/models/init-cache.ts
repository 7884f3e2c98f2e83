/**
 * The cache kinds a model offers, from its config: which layers have a window, and what each kind allocates
 * for them.
 */

import { aNumber, anything } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import { BlockPool } from '../cache/block-pool.ts';
import type { CacheLayer, CacheStorage, KeyValueCache } from '../cache/cache.ts';
import { PagedCache } from '../cache/paged-cache.ts';
import { StaticCache } from '../cache/static-cache.ts';
import { WindowCache } from '../cache/window-cache.ts';
import { type DecoderConfig, layerHeads } from './decoder-config.ts';

/** Options of `model.initCache`. */
export interface InitCacheOptions {
  /** B */
  readonly batchSize: number;
  /** Tokens a row can hold. */
  readonly maxLength: number;
  /** How keys and values are stored, K and V apart if need be; default `f32`. */
  readonly dtype?: CacheStorage;
  /**
   * `static` (the default): the model's layers with a window keep min(maxLength, window) tokens, the others
   * maxLength. `window`: layers without one keep the last `window` tokens and the first `sinks`, whatever the
   * model was trained on. `paged`: blocks for batchSize rows of maxLength tokens, which rows may share;
   * layers with a window keep all tokens.
   */
  readonly kind?: 'static' | 'window' | 'paged';
  /** For `window`: tokens kept, >= 1. */
  readonly window?: number;
  /** For `window`: first tokens kept as well; default 0. */
  readonly sinks?: number;
  /** For `paged`: tokens of a block; default 32. */
  readonly blockSize?: number;
  /**
   * For `paged`: blocks of the pool; default: enough for batchSize rows of maxLength tokens. Rows that share
   * a prefix need fewer.
   */
  readonly numBlocks?: number;
}

const OPTIONS = optionKinds<InitCacheOptions>({
  batchSize: anything,
  maxLength: anything,
  dtype: anything,
  kind: anything,
  window: aNumber,
  sinks: aNumber,
  blockSize: aNumber,
  numBlocks: aNumber,
});

/**
 * @throws TypeError for an unknown kind or one without its options; RangeError for sizes out of range, or
 * without memory
 */
export function makeCache(config: DecoderConfig, backend: Backend, options: InitCacheOptions): KeyValueCache {
  checkOptions('initCache', options, OPTIONS);
  const { batchSize, maxLength, dtype = 'f32', kind = 'static', window, sinks, blockSize = 32 } = options;
  const layers = cacheLayers(config);
  const common = { backend, layers, dtype };
  switch (kind) {
    case 'static':
      if (layers.every((layer) => layer.window === undefined)) {
        return new StaticCache({ ...common, batchSize, maxLength });
      }
      return new WindowCache({ ...common, batchSize, maxLength });
    case 'window':
      if (window === undefined) throw new TypeError('initCache: expected a window for kind window, got none');
      return new WindowCache({ ...common, batchSize, maxLength, window, sinks });
    case 'paged': {
      const { numBlocks = batchSize * Math.ceil(maxLength / blockSize) } = options;
      const pool = new BlockPool({ ...common, numBlocks, blockSize });
      return new PagedCache({ pool, batchSize, maxLength, ownsPool: true });
    }
    default:
      throw new TypeError(`initCache: expected kind static, window or paged, got ${String(kind)}`);
  }
}

/** What each layer of a model keeps per token; layers that read another's, the last ones, have no entry. */
export function cacheLayers(config: DecoderConfig): CacheLayer[] {
  return config.attention.flatMap(({ window, reads }, layer) =>
    reads === undefined ? [{ ...cachedHeads(config, layer), ...(window !== undefined && { window }) }] : [],
  );
}

/**
 * The cached row of a layer per token: keys and values per head, or one latent with its rope key for all
 * heads.
 */
function cachedHeads(config: DecoderConfig, layer: number): CacheLayer {
  const { K: numKeyValueHeads, H: headDim } = layerHeads(config, layer);
  if (!config.latent) return { numKeyValueHeads, headDim };
  const { kvLoraRank: latentDim, qkRopeHeadDim } = config.latent;
  return { numKeyValueHeads: 1, headDim: latentDim + qkRopeHeadDim, latentDim };
}
