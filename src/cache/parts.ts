/** What all caches have in common: the backend, what each layer keeps per token, and the storage dtypes. */

import { aNumber, checkObject, checkPositiveInteger, describe } from '../arguments/kinds.ts';
import { checkOptions, type OptionTable, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import { type BackendHandle, backendOfHandle } from '../backend/handle.ts';
import type { CacheDType, CacheLayer, CacheStorage } from './cache.ts';

/** Storage dtypes of keys and values. */
export interface CacheSides {
  readonly key: CacheDType;
  readonly value: CacheDType;
}

/** The parts common to all caches, copied from the options and checked. */
export interface CacheParts {
  readonly backend: Backend;
  readonly layers: readonly CacheLayer[];
  readonly dtype: CacheSides;
}

const LAYER = optionKinds<CacheLayer>({
  numKeyValueHeads: aNumber,
  headDim: aNumber,
  valueHeadDim: aNumber,
  latentDim: aNumber,
  window: aNumber,
});

/**
 * @param kinds the kinds of all options
 * @param window default for layers without `window`
 * @throws TypeError for invalid options, backend, layers or dtypes; RangeError for invalid sizes
 */
export function checkParts(
  name: string,
  options: {
    readonly backend: BackendHandle;
    readonly layers: readonly CacheLayer[];
    readonly dtype?: CacheStorage;
  },
  kinds: OptionTable,
  window?: number,
): CacheParts {
  checkOptions(name, options, kinds);
  const { backend, layers, dtype = 'f32' } = options;
  const own = backendOfHandle(backend);
  if (typeof own?.allocate !== 'function') {
    throw new TypeError(
      `${name}: expected backend to be a Backend, such as getBackend(), got ${describe(backend)}`,
    );
  }
  if (!Array.isArray(layers)) {
    throw new TypeError(`${name}: expected layers as an array of head counts, got ${describe(layers)}`);
  }
  const sides = checkStorage(name, dtype);
  return {
    backend: own,
    layers: Array.from(layers, (layer) => checkedLayer(name, layer, sides, window)),
    dtype: sides,
  };
}

function checkedLayer(name: string, layer: CacheLayer, dtype: CacheSides, window?: number): CacheLayer {
  checkObject(name, 'layers of head counts', layer);
  checkOptions(name, layer, LAYER);
  const own = { ...layer };
  own.window ??= window;
  const { numKeyValueHeads, headDim, valueHeadDim = headDim, latentDim } = own;
  checkSizes(name, { numKeyValueHeads, headDim, valueHeadDim });
  if (own.window !== undefined) checkSizes(name, { window: own.window });
  if (latentDim !== undefined) checkLatent(name, headDim, latentDim, dtype);
  return own;
}

/** @throws TypeError unless sizes are numbers, RangeError below 1 */
export function checkSizes(name: string, sizes: Readonly<Record<string, number>>): void {
  for (const [size, value] of Object.entries(sizes)) {
    checkPositiveInteger(name, size, value);
  }
}

/** @throws RangeError unless latentDim <= headDim; TypeError when key and value dtypes differ */
function checkLatent(name: string, headDim: number, latentDim: number, { key, value }: CacheSides): void {
  if (!Number.isSafeInteger(latentDim) || latentDim < 1 || latentDim > headDim) {
    throw new RangeError(`${name}: expected latentDim from 1 to headDim=${headDim}, got ${latentDim}`);
  }
  if (key !== value) {
    throw new TypeError(`${name}: expected one dtype for latent rows, got ${key} and ${value}`);
  }
}

/** Whether caches store it. */
export function isCacheDType(value: unknown): value is CacheDType {
  return value === 'f32' || value === 'f16' || value === 'bf16' || value === 'q8_0';
}

/** @throws TypeError for a dtype that caches do not support */
function checkStorage(name: string, dtype: CacheStorage): CacheSides {
  const { key, value } = typeof dtype === 'string' ? { key: dtype, value: dtype } : dtype;
  for (const type of [key, value]) {
    if (!isCacheDType(type)) {
      throw new TypeError(`${name}: expected dtype f32, f16, bf16 or q8_0, got ${String(type)}`);
    }
  }
  return { key, value };
}
