/** `gqa/cache`: where a decoder keeps the keys and values of the tokens it has seen. */
export type { CacheLayer, KeyValueCache } from './cache.ts';
export { StaticCache, type StaticCacheDType, type StaticCacheOptions } from './static-cache.ts';
