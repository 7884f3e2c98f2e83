/** The trainer: the same losses on any number of threads and within 1e-4 on WASM, and bounded memory. */
import { describe, expect, test } from 'vitest';
import { getBackend } from '../../src/backend/registry.ts';
import { setBackend, setThreads } from '../../src/index.ts';
import { createModel, llamaConfig } from '../../src/train/index.ts';
import { splitTokens } from '../../src/train/token-data.ts';
import { Trainer } from '../../src/train/trainer.ts';
import { backends } from '../ops/backends.ts';

const SIZES = { vocabSize: 31, hiddenSize: 96, numLayers: 2, numHeads: 6, numKeyValueHeads: 2 };
const BLOCK = 64;

function makeTrainer(steps: number): Trainer {
  const tokens = Int32Array.from({ length: 6000 }, (_, i) => (i * i + 7 * i + (i >> 5)) % 31);
  const model = createModel(llamaConfig({ ...SIZES, maxPositionEmbeddings: BLOCK }), { seed: 3 });
  return new Trainer(model, splitTokens(tokens, BLOCK, 0.1), {
    batchSize: 8,
    blockLength: BLOCK,
    steps,
    learningRate: 3e-3,
    seed: 5,
  });
}

async function losses(backend: 'native' | 'wasm', threads: number, steps: number): Promise<number[]> {
  await setBackend(backend);
  await setThreads(threads);
  const trainer = makeTrainer(steps);
  const found = Array.from({ length: steps }, () => trainer.advance());
  trainer.model.dispose();
  return found;
}

const hasNative = backends.some(({ name }) => name === 'native');

describe.each(backends.map(({ name }) => name).filter((name) => name !== 'reference'))('%s', (backend) => {
  test('trains with the same bits on 1, 2 and 3 threads', async () => {
    const one = await losses(backend, 1, 20);
    expect(await losses(backend, 2, 20)).toEqual(one);
    expect(await losses(backend, 3, 20)).toEqual(one);
    expect(one[19]).toBeLessThan(one[0]);
  });
});

describe.skipIf(!hasNative)('training on the native backend', () => {
  test('WASM stays within 1e-4 over the first 20 steps', async () => {
    const native = await losses('native', 2, 20);
    const wasm = await losses('wasm', 1, 20);
    for (const [i, loss] of wasm.entries())
      expect(Math.abs(loss - native[i]), `step ${i}`).toBeLessThan(1e-4);
  });

  test('memory stays flat in a plain loop: as many buffers and bytes after step 50 as after step 10', async () => {
    await setBackend('native');
    await setThreads(1);
    const trainer = makeTrainer(400);
    const backend = getBackend();
    const live = { buffers: 0, bytes: 0 };
    const { allocate, free } = { allocate: backend.allocate.bind(backend), free: backend.free.bind(backend) };
    backend.allocate = (bytes) => {
      live.buffers++;
      live.bytes += bytes;
      return allocate(bytes);
    };
    backend.free = (storage) => {
      live.buffers--;
      live.bytes -= storage.byteLength;
      free(storage);
    };
    try {
      for (let i = 0; i < 10; i++) trainer.advance();
      const before = { ...live };
      for (let i = 10; i < 50; i++) trainer.advance();
      expect(live).toEqual(before);
    } finally {
      backend.allocate = allocate;
      backend.free = free;
    }
    trainer.model.dispose();
  });
});

test('refuses data that is no split, or shorter than a block', () => {
  const model = createModel(llamaConfig(SIZES));
  const settings = { batchSize: 1, blockLength: 8, steps: 1, learningRate: 1e-3 };
  const make = (data: unknown) => () => new Trainer(model, data as ReturnType<typeof splitTokens>, settings);
  const tokens = (length: number) => new Int32Array(length);
  expect(make(undefined)).toThrow(/^Trainer: expected data from splitTokens, got undefined$/);
  expect(make([[1, 2, 3]])).toThrow(/^Trainer: expected data.train as an Int32Array, got undefined$/);
  expect(make({ train: tokens(20), validation: [1] })).toThrow(
    /^Trainer: expected data.validation as an Int32Array, got an array of 1$/,
  );
  expect(make({ train: tokens(8), validation: tokens(9) })).toThrow(
    /^Trainer: expected more tokens than a block of 8 in data.train, got 8$/,
  );
  expect(make({ train: tokens(9), validation: tokens(9), start: ['1'] })).toThrow(
    /data.start to be a list of/,
  );
  expect(make({ train: tokens(9), validation: tokens(9) })).not.toThrow();
  model.dispose();
});
