/**
 * KV caches: the keys and values of the tokens that a decoder has processed.
 * @module gqa/cache
 */
export { BlockPool, type BlockPoolOptions } from './block-pool.ts';
export type { CacheDType, CacheLayer, CacheStorage, KeyValueCache } from './cache.ts';
export { type CachedModel, loadCache } from './load-cache.ts';
export { PagedCache, type PagedCacheOptions } from './paged-cache.ts';
export type { CacheSides } from './parts.ts';
export { saveCache } from './save-cache.ts';
export { StaticCache, type StaticCacheOptions } from './static-cache.ts';
export { WindowCache, type WindowCacheOptions } from './window-cache.ts';
