/** Files of caches: what they are checked for, and that a model goes on from one with the same bits. */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { open, setBackend } from '../../src/backend/registry.ts';
import {
  BlockPool,
  type CacheLayer,
  type KeyValueCache,
  loadCache,
  PagedCache,
  StaticCache,
  saveCache,
  WindowCache,
} from '../../src/cache/index.ts';
import { readSmallFile } from '../../src/files/folder.ts';
import { MemoryFolder } from '../../src/files/memory-folder.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { type InitCacheOptions, loadModel } from '../../src/models/index.ts';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { BACKENDS, GOLDEN } from '../models/golden.ts';
import { feed, randomSequences } from './attention-oracle.ts';

const backend = open('reference');
const layer: CacheLayer = { numKeyValueHeads: 1, headDim: 4 };
const model = { backend, cacheLayers: [layer] };
const sizes = { backend, layers: [layer], batchSize: 2, maxLength: 9 };
const MAKE: Readonly<Record<string, () => KeyValueCache>> = {
  static: () => new StaticCache(sizes),
  window: () => new WindowCache({ ...sizes, window: 3, sinks: 1 }),
  paged: () => {
    const pool = new BlockPool({ backend, layers: [layer], numBlocks: 6, blockSize: 2 });
    return new PagedCache({ pool, batchSize: 2, maxLength: 9, ownsPool: true });
  },
};

const FILE = 'cache.safetensors';

beforeAll(async () => {
  await setBackend('reference');
});

/** A filled cache's file. */
async function stored(kind: string): Promise<Uint8Array> {
  const cache = MAKE[kind]();
  feed(cache, randomSequences(2, 9, 1, layer), [0, 0], [6, 1]);
  const folder = new MemoryFolder('memory');
  await saveCache({ folder, file: FILE }, cache);
  cache.dispose();
  return (await readSmallFile(folder, FILE)) as Uint8Array;
}

const load = (bytes: Uint8Array, of = model) =>
  loadCache({ folder: new MemoryFolder('memory', { [FILE]: bytes }), file: FILE }, of);

/** The file with some text of its header replaced by one of the same length. */
function replaced(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1');
  expect(text).toContain(from);
  expect(to).toHaveLength(from.length);
  return Buffer.from(text.replace(from, to), 'latin1');
}

describe.each(Object.keys(MAKE))('%s', (kind) => {
  test('a file cut short at any byte is refused', async () => {
    const bytes = await stored(kind);
    for (let end = 0; end < bytes.length; end++) {
      await expect(load(bytes.subarray(0, end))).rejects.toThrow(FormatError);
    }
  });

  test('a changed byte of the header gives one clear error, or another cache that works', async () => {
    const bytes = await stored(kind);
    const end = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    let refused = 0;
    for (let at = 0; at < end; at++) {
      for (const flip of [1, 2, 16]) {
        const changed = bytes.slice();
        changed[at] ^= flip;
        try {
          const cache = await load(changed);
          cache.view(0);
          cache.reset();
          cache.dispose();
        } catch (error) {
          refused++;
          const isClear = error instanceof FormatError || error instanceof RangeError;
          expect(isClear, `byte ${at}: ${error}`).toBe(true);
        }
      }
    }
    expect(refused).toBeGreaterThan(end);
  });

  test('the layers must be those of the model', async () => {
    const bytes = await stored(kind);
    const of = (cacheLayers: CacheLayer[]) => load(bytes, { backend, cacheLayers });
    await expect(of([layer, layer])).rejects.toThrow('loadCache: expected a cache of 2 layers, got 1');
    await expect(of([{ ...layer, numKeyValueHeads: 2 }])).rejects.toThrow(
      'loadCache: expected layer 0 with numKeyValueHeads=2, headDim=4, valueHeadDim=4, got numKeyValueHeads=1, headDim=4, valueHeadDim=4',
    );
    await expect(of([{ ...layer, latentDim: 4 }])).rejects.toThrow('latentDim=4, got numKeyValueHeads=1');
    await expect(of([{ ...layer, window: 5 }])).rejects.toThrow('window=5, got');
  });
});

test('numbers that contradict each other are refused', async () => {
  const bytes = await stored('window');
  const cases: [from: string, to: string, error: string][] = [
    ['gqa-cache-1', 'gqa-cache-2', 'expected a cache of format gqa-cache-1, got "gqa-cache-2"'],
    ['\\"lengths\\":[6,1]', '\\"lengths\\":[3,1]', 'writtenEnd[0]: expected at most 4, got 6'],
    ['\\"lengths\\":[6,1]', '\\"lengths\\":[9,1]', 'writtenEnd[0]: expected an integer from 9 to 9, got 6'],
    ['\\"capacity\\":4', '\\"capacity\\":3', 'rings[0].capacity: expected an integer from 4 to 9, got 3'],
    ['\\"key\\":\\"f32\\"', '\\"key\\":\\"f64\\"', 'dtype.key: expected f32, f16, bf16 or q8_0, got "f64"'],
    ['\\"key\\":\\"f32\\"', '\\"key\\":\\"f16\\"', 'layers.0.key: expected f16 [5, 1, 4], got f32 [5, 1, 4]'],
    ['\\"kind\\":\\"window\\"', '\\"kind\\":\\"static\\"', 'layers.0.key: expected f32 [7, 1, 4], got f32'],
  ];
  for (const [from, to, error] of cases) {
    await expect(load(replaced(bytes, from, to))).rejects.toThrow(error);
  }
  const paged = await stored('paged');
  await expect(load(replaced(paged, '\\"free\\":[5,4]', '\\"free\\":[5,5]'))).rejects.toThrow(
    'free: expected distinct blocks of no row, got 5',
  );
  await expect(load(replaced(paged, '[0,1,2]', '[0,1,6]'))).rejects.toThrow(
    'tables[0][2]: expected an integer from 0 to 5, got 6',
  );
});

test('a cache that changes while it is saved gives no file', async () => {
  const cache = MAKE.static();
  feed(cache, randomSequences(2, 9, 1, layer), [0, 0], [6, 1]);
  const folder = new MemoryFolder('memory');
  const saving = saveCache({ folder, file: FILE }, cache);
  cache.truncate(0, 5);
  await expect(saving).rejects.toThrow('expected a cache that does not change meanwhile');
  expect(await folder.list()).toEqual([]);
  cache.dispose();
});

test('wrong arguments', async () => {
  const cache = MAKE.static();
  await expect(saveCache(cache as never, 'a' as never)).rejects.toThrow('saveCache: expected a path first');
  await expect(saveCache('a', {} as never)).rejects.toThrow(
    'saveCache: expected a StaticCache, WindowCache or PagedCache second, got Object',
  );
  await expect(loadCache('a', {} as never)).rejects.toThrow(
    'loadCache: expected a model with backend and cacheLayers second, got Object',
  );
  cache.dispose();
});

const MODELS: readonly [string, Omit<InitCacheOptions, 'batchSize' | 'maxLength'>][] = [
  ['tiny-llama/gqa-tied', {}],
  ['tiny-llama/gqa-tied', { dtype: 'q8_0', kind: 'window', window: 9, sinks: 2 }],
  ['tiny-mistral/window', { dtype: 'bf16' }],
  ['tiny-mistral/window', { kind: 'paged', blockSize: 4 }],
  ['tiny-deepseek/v2-lite', { dtype: 'f16' }],
];
test.each(MODELS)('%s goes on with the same bits from a file %j', async (name, choice) => {
  const loaded = await loadModel(join(GOLDEN, name), { backend: BACKENDS[0] });
  const cache = loaded.initCache({ batchSize: 1, maxLength: 40, ...choice });
  const prompt = Array.from({ length: 23 }, (_, i) => (i * 17 + 3) % 61);
  loaded.forward([prompt], { cache }).dispose();
  const again = await withFolder({}, async (folder) => {
    await saveCache(join(folder, FILE), cache);
    return loadCache(join(folder, FILE), loaded);
  });
  for (const tokens of [[5], [7, 11, 13], [2]]) {
    const [want, got] = [cache, again].map((one) => loaded.forward([tokens], { cache: one }).dataSync());
    expect(got).toEqual(want);
  }
  expect(again.lengths).toEqual([28]);
  for (const one of [cache, again, loaded]) one.dispose();
});
