/**
 * Distillation of converted layers: the gradient against NumPy, weights that reach the file in every family's
 * layout, and training that lowers the error, with the same bits on any number of threads.
 */
import fs, { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { MemoryFolder, openCheckpoint } from '../../src/checkpoint/index.ts';
import { layerMix } from '../../src/convert/head-mix.ts';
import { type ConvertOptions, convertCheckpoint, measureDrift } from '../../src/convert/index.ts';
import { mixedLayer } from '../../src/convert/mixed-layer.ts';
import { layerError } from '../../src/convert/train-layer.ts';
import type { PlaceLike } from '../../src/files/place.ts';
import { setThreads, type Tensor, tensor, valueAndGrad } from '../../src/index.ts';
import type { DecoderConfig } from '../../src/models/decoder-config.ts';
import type { DecoderPass } from '../../src/models/decoder-pass.ts';
import type { DecoderLayer } from '../../src/models/decoder-weights.ts';
import { expectClose, GOLDEN } from '../models/golden.ts';
import { contentOf, FAMILIES, freshPath, logitsOf, multiHead, removeFolders } from './folders.ts';

afterAll(removeFolders);

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEMO = join(ROOT, 'demo/model');
const TEXT = readFileSync(join(ROOT, 'demo/moby-dick.txt'), 'utf8').slice(0, 60_000);

test('the error of a layer and its gradient are those of NumPy', () => {
  const golden = JSON.parse(readFileSync(join(GOLDEN, 'distill/layer.json'), 'utf8'));
  const { B, T, N, K, H, D } = golden.sizes as Record<string, number>;
  const of = (values: number[], ...shape: number[]) => tensor(Float32Array.from(values), { shape });
  const w = {
    q: of(golden.weights.q, N * H, D),
    k: of(golden.weights.k, K * H, D),
    v: of(golden.weights.v, K * H, D),
    o: of(golden.weights.o, D, N * H),
  };
  const angles = Array.from({ length: B * T * (H / 2) }, (_, i) => {
    const [t, pair] = [Math.floor(i / (H / 2)) % T, i % (H / 2)];
    return t * 10000 ** (-pair / (H / 2));
  });
  const rotation = {
    cos: of(angles.map(Math.cos), B, T, H / 2),
    sin: of(angles.map(Math.sin), B, T, H / 2),
  };
  const config = {
    ...{ numHeads: N, numKeyValueHeads: K, headDim: H, attention: [{}] },
    rope: { theta: 10000, rotaryDim: H, interleaved: false },
  } as unknown as DecoderConfig;
  const pass: DecoderPass = {
    ids: of(new Array(B * T).fill(0), B, T),
    lengths: [T, T],
    offsets: [0, 0],
    rotation,
  };
  const batch = {
    ...{ pass, input: of(golden.x, B, T, D), target: of(golden.target, B, T, D) },
    weight: of(golden.weight, B, T, 1),
  };
  const layer = (own: typeof w) =>
    ({
      queryKeyValue: [{ weight: own.q }, { weight: own.k }, { weight: own.v }],
      attentionOutput: { weight: own.o },
    }) as unknown as DecoderLayer;
  const [error, gradient] = valueAndGrad((own: typeof w): Tensor => layerError(config, layer(own), 0, batch))(
    w,
  );
  expectClose(error.dataSync() as Float32Array, Float32Array.of(golden.error), 1e-5);
  for (const name of ['q', 'k', 'v', 'o'] as const) {
    expectClose(gradient[name].dataSync() as Float32Array, Float32Array.from(golden.gradient[name]), 1e-5);
  }
});

const ONE = ['gpt2', 'gpt_bigcode'];
const TOKENS = Array.from({ length: 96 }, (_, i) => (i * i + 3 * i) % 37);

describe.each(FAMILIES)('%s', (family) => {
  test('untrained, the weights in memory are the ones that the conversion writes', async () => {
    const options = {
      from: multiHead(family),
      numKeyValueHeads: ONE.includes(family) ? 1 : 2,
      // similar refuses a model that clamps q, k and v
      method: family === 'olmo' ? 'mean' : 'similar',
    } as const;
    const [plain, given] = [freshPath('plain'), freshPath('given')];
    await convertCheckpoint({ ...options, to: plain });
    await convertCheckpoint({
      ...options,
      to: given,
      distill: { tokens: TOKENS, layers: [], finalSteps: 0 },
    });
    const tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    expectClose(await logitsOf(given, tokens), await logitsOf(plain, tokens), 1e-5);
  });

  test('all layers train together', async () => {
    const to = freshPath('together');
    const numKeyValueHeads = ONE.includes(family) ? 1 : 2;
    const distill = { tokens: TOKENS, layers: [], finalSteps: 1 };
    const done = await convertCheckpoint({ from: multiHead(family), to, numKeyValueHeads, distill });
    expect(done.numKeyValueHeads.after).toBe(numKeyValueHeads);
  });
});

test.each(['llama', 'mistral'])('%s, written as GGUF', async (family) => {
  const options = { from: multiHead(family), numKeyValueHeads: 2, method: 'similar', dtype: 'f32' } as const;
  const [plain, given] = [freshPath('plain'), freshPath('given.gguf')];
  await convertCheckpoint({ ...options, to: plain });
  await convertCheckpoint({ ...options, to: given, distill: { tokens: TOKENS, layers: [], finalSteps: 0 } });
  const tokens = [3, 1, 4, 1, 5, 9, 2, 6];
  expectClose(await logitsOf(given, tokens), await logitsOf(plain, tokens), 1e-5);
});

test('training wins back most of what merging lost, the same bits with any number of threads', async () => {
  const text = TEXT.slice(0, 6_000);
  const options = { from: DEMO, numKeyValueHeads: 1, calibration: text } as const;
  const plain = freshPath('plain');
  const result = await convertCheckpoint({ ...options, to: plain });
  const held = TEXT.slice(50_000);
  const lossOf = async (to: string) => {
    const { before, after } = await measureDrift({ from: DEMO, to, result, text: held, windows: 2 });
    return after.loss - before.loss;
  };
  const phases = new Set<string>();
  const trained = ['one', 'two'].map(freshPath);
  for (const [i, to] of trained.entries()) {
    setThreads(i + 1);
    const onProgress: ConvertOptions['onProgress'] = (_done, _total, phase) => phases.add(phase);
    await convertCheckpoint({ ...options, to, distill: { text, steps: 8, finalSteps: 2 }, onProgress });
  }
  expect([...phases]).toEqual(['calibrating', 'distilling', 'writing']);
  expect(await contentOf(trained[0])).toEqual(await contentOf(trained[1]));
  expect(await lossOf(trained[0])).toBeLessThan(0.5 * (await lossOf(plain)));
}, 300_000);

test('final steps bring the predictions closer to those of the original', async () => {
  const text = TEXT.slice(0, 6_000);
  const options = { from: DEMO, numKeyValueHeads: 1, calibration: text } as const;
  const held = TEXT.slice(50_000);
  const klAfter = async (finalSteps: number) => {
    const to = freshPath(`final-${finalSteps}`);
    const result = await convertCheckpoint({ ...options, to, distill: { text, steps: 8, finalSteps } });
    return (await measureDrift({ from: DEMO, to, result, text: held, windows: 2 })).kl;
  };
  expect(await klAfter(20)).toBeLessThan(0.8 * (await klAfter(0)));
}, 300_000);

describe('an interrupted distillation', () => {
  const text = TEXT.slice(0, 2_000);
  const distill = { text, steps: 2, finalSteps: 1 };
  const options = { from: DEMO, numKeyValueHeads: 2, calibration: text } as const;
  /** Stops in the second layer. */
  const interrupted = async (to: PlaceLike, given: Partial<ConvertOptions> = {}) => {
    const controller = new AbortController();
    const onProgress: ConvertOptions['onProgress'] = (done, _total, phase) => {
      if (phase === 'distilling' && done === 3) controller.abort(new Error('stopped'));
    };
    const run = convertCheckpoint({
      ...options,
      distill,
      ...given,
      to,
      signal: controller.signal,
      onProgress,
    });
    await expect(run).rejects.toThrow('stopped');
  };

  test.each(['a path', 'a folder in memory'])(
    'is resumed with the same bits: %s',
    async (kind) => {
      const memory = new MemoryFolder('memory');
      const folder = kind === 'a path' ? freshPath('resumed') : undefined;
      const to = folder ?? { folder: memory, file: 'resumed' };
      const beside = async () =>
        folder
          ? readdirSync(`${folder}.distill`)
          : (await memory.folder('resumed.distill').list()).map(({ name }) => name);
      await interrupted(to);
      expect(await beside()).toEqual(['layer-0.safetensors', 'settings.json']);
      await expect(convertCheckpoint({ ...options, to, distill })).rejects.toThrow(
        /resumed\.distill: expected no layers of an earlier distillation, got some; \{ resume: true \} continues it/,
      );
      const other = convertCheckpoint({ ...options, to, distill: { ...distill, steps: 3, resume: true } });
      await expect(other).rejects.toThrow('whose steps is 2, got 3');
      const seen: number[] = [];
      const onProgress: ConvertOptions['onProgress'] = (done, _total, phase) => {
        if (phase === 'distilling') seen.push(done);
      };
      await convertCheckpoint({ ...options, to, distill: { ...distill, resume: true }, onProgress });
      expect(seen[0]).toBe(3);
      const whole = freshPath('whole');
      await convertCheckpoint({ ...options, to: whole, distill });
      expect(await contentOf(folder ?? memory.folder('resumed'))).toEqual(await contentOf(whole));
      const left = folder ? existsSync(`${folder}.distill`) : (await memory.list()).length > 1;
      expect(left).toBe(false);
    },
    300_000,
  );

  test('is resumed from a copy of the checkpoint, and refused after its weights or config change', async () => {
    const [from, copy, to] = ['from', 'copy', 'changed'].map(freshPath);
    for (const path of [from, copy]) cpSync(DEMO, path, { recursive: true });
    await interrupted(to, { from });
    const resume = { ...options, to, distill: { ...distill, resume: true } };
    const config = join(from, 'config.json');
    const text = readFileSync(config, 'utf8');
    writeFileSync(config, text.replace(/"rms_norm_eps": [\de.-]+/, '"rms_norm_eps": 0.5'));
    await expect(convertCheckpoint({ ...resume, from })).rejects.toThrow(
      /the distillation of .*changed\.distill, got different config; delete the folder/,
    );
    writeFileSync(config, text);
    // One bit of a weight that no layer holds.
    const weights = join(from, 'model.safetensors');
    const original = await openCheckpoint(from);
    const offset = original.tensor('model.embed_tokens.weight').byteOffset;
    await original.close();
    const bytes = readFileSync(weights);
    bytes[offset + 5] ^= 1;
    writeFileSync(weights, bytes);
    await expect(convertCheckpoint({ ...resume, from })).rejects.toThrow(/got different weights/);
    const other = { ...resume, from: copy, calibration: `${options.calibration} ` };
    await expect(convertCheckpoint(other)).rejects.toThrow(/got different calibration/);
    expect((await convertCheckpoint({ ...resume, from: copy })).method).toBe('similar');
  }, 120_000);

  test('a full disk: the error names the file', async () => {
    const to = freshPath('full');
    const write = vi.spyOn(fs, 'writeSync').mockImplementation(() => {
      const message = 'ENOSPC: no space left on device, write';
      throw Object.assign(new Error(message), { code: 'ENOSPC', syscall: 'write' });
    });
    const run = convertCheckpoint({ ...options, to, distill });
    await expect(run).rejects.toThrow(`write '${join(`${to}.distill`, 'layer-0.safetensors')}'`);
    write.mockRestore();
    expect(existsSync(`${to}.distill`)).toBe(false);
  }, 60_000);

  test('leaves nothing behind without a trained layer', async () => {
    const to = freshPath('none');
    const run = convertCheckpoint({ ...options, to, distill: { tokens: [1, 1e6] } });
    await expect(run).rejects.toThrow('expected token ids');
    expect(existsSync(`${to}.distill`)).toBe(false);
    const resumed = convertCheckpoint({ ...options, to, distill: { ...distill, layers: [0], resume: true } });
    expect((await resumed).method).toBe('similar');
  });

  test('refuses a damaged layer, and trains it again without its file', async () => {
    const to = freshPath('damaged');
    await interrupted(to);
    const file = join(`${to}.distill`, 'layer-0.safetensors');
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.fill(0xff, bytes.length - 400));
    const resumed = { ...options, to, distill: { ...distill, resume: true } };
    await expect(convertCheckpoint(resumed)).rejects.toThrow(
      /finite numbers in "\w+", got others; delete the file/,
    );
    writeFileSync(file, bytes.subarray(0, 1000));
    await expect(convertCheckpoint(resumed)).rejects.toThrow(/layer-0.*delete the file/s);
    rmSync(file);
    expect((await convertCheckpoint(resumed)).distill).toEqual({ steps: 2, finalSteps: 1 });
  }, 60_000);

  test('refuses a folder of other files', async () => {
    const to = freshPath('other');
    mkdirSync(`${to}.distill`);
    writeFileSync(`${to}.distill/mine.txt`, 'mine');
    const run = convertCheckpoint({ ...options, to, distill: { ...distill, resume: true } });
    await expect(run).rejects.toThrow(
      'expected layers and their settings.json, got others or no settings.json',
    );
    expect(readdirSync(`${to}.distill`)).toEqual(['mine.txt']);
  });
});

test('a merged layer keeps what is not merged', () => {
  const rows = (count: number) =>
    tensor(
      Float32Array.from({ length: count * 3 }, (_, i) => i),
      { shape: [count, 3] },
    );
  const layer = {
    queryKeyValue: [{ weight: rows(4) }, { weight: rows(4) }, { weight: rows(4) }],
    attentionOutput: {
      weight: tensor(
        Float32Array.from({ length: 12 }, (_, i) => i),
        { shape: [3, 4] },
      ),
    },
  } as unknown as DecoderLayer;
  const mixed = mixedLayer({ headDim: 2 } as DecoderConfig, layer, layerMix('mean', 2, 2, 1));
  expect(mixed.queryKeyValue.map(({ weight }) => weight.shape)).toEqual([
    [4, 3],
    [2, 3],
    [2, 3],
  ]);
  expect([...mixed.queryKeyValue[1].weight.dataSync()]).toEqual([3, 4, 5, 6, 7, 8]);
  expect([...mixed.attentionOutput.weight.dataSync()]).toEqual([...layer.attentionOutput.weight.dataSync()]);
});

describe('wrong options', () => {
  const base = { from: multiHead('llama'), numKeyValueHeads: 2 };
  const cases: [string, Partial<ConvertOptions>, string][] = [
    ['an unknown one', { distill: { texts: '' } as object }, 'got texts; did you mean text?'],
    ['no text', { distill: {} }, 'expected either text or tokens, got none'],
    ['both', { distill: { text: 'a', tokens: [1, 2] } }, 'expected either text or tokens, got both'],
    [
      'text without a tokenizer',
      { distill: { text: 'a b c' } },
      'expected a tokenizer for the text of distill',
    ],
    ['one token', { distill: { tokens: [1] } }, 'expected at least 2 tokens, got 1'],
    ['an id', { distill: { tokens: [1, 37] } }, 'expected token ids from 0 to 36, got 37'],
    ['no steps', { distill: { tokens: TOKENS, steps: 0 } }, 'expected steps to be a positive integer, got 0'],
    [
      'less than no final steps',
      { distill: { tokens: TOKENS, finalSteps: -1 } },
      'expected finalSteps to be a non-negative integer, got -1',
    ],
    ['a layer', { distill: { tokens: TOKENS, layers: [2] } }, 'expected layers from 0 to 1, got 2'],
    ['more heads', { numKeyValueHeads: 6, distill: { tokens: TOKENS } }, "than the checkpoint's K=6, got 6"],
    [
      'random',
      { method: 'random', distill: { tokens: TOKENS } },
      'expected method mean, first or similar, which give heads to begin with, got random',
    ],
  ];
  test.each(cases)('%s', async (_, options, message) => {
    const to = freshPath('out');
    await expect(convertCheckpoint({ ...base, to, ...options })).rejects.toThrow(message);
  });
});
