/** A program gets a backend's name and description; its memory and kernels are not reachable. */
import { expect, test } from 'vitest';
import { StaticCache } from '../../src/cache/index.ts';
import * as gqa from '../../src/index.ts';
import { backends } from '../ops/backends.ts';

test.each(backends)(
  '$name has a name and a description, and nothing that takes an address',
  async ({ name }) => {
    const backend = await gqa.setBackend(name);
    expect(gqa.getBackend()).toBe(backend);
    expect(backend.name).toBe(name);
    expect(backend.description).toContain(name);
    expect(Reflect.ownKeys(backend)).toEqual([]);
    expect(Reflect.ownKeys(Object.getPrototypeOf(backend)).sort()).toEqual([
      'constructor',
      'description',
      'name',
    ]);
    for (const method of ['read', 'write', 'allocate', 'free', 'openFile', 'attention'])
      expect(method in backend).toBe(false);
    const cache = new StaticCache({
      backend,
      layers: [{ numKeyValueHeads: 1, headDim: 4 }],
      batchSize: 1,
      maxLength: 2,
    });
    expect(cache.bytes).toBe(64);
    cache.dispose();
  },
);
