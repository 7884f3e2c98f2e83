/**
 * Tiny checkpoints of every family against transformers' logits, from safetensors and from GGUF, on every
 * backend.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fill } from '../../src/backend/calls/copy.ts';
import { open } from '../../src/backend/registry.ts';
import { loadModel, type Model } from '../../src/models/index.ts';
import { allocate } from '../../src/ops/operands.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { copyTiny, type Json, removeCheckpoints } from './checkpoints.ts';
import { BACKENDS, collect, expectClose, GOLDEN, Golden } from './golden.ts';

const TOLERANCE = 2e-5;
const [B, T, V] = [2, 29, 61];

const OPTIONS: readonly string[] = [
  'tiny-mistral/window',
  'tiny-mistral/plain',
  'tiny-qwen2/plain',
  'tiny-qwen2/window',
  'tiny-qwen3/plain',
  'tiny-qwen3/window',
  'tiny-phi3/plain',
  'tiny-phi3/window',
  'tiny-phi3/longrope',
  'tiny-phi3/partial',
  'tiny-gpt2/prefix',
  'tiny-gpt2/bare',
  'tiny-gemma2/plain',
  'tiny-gemma2/scale',
  'tiny-gemma3/plain',
  'tiny-gemma3/options',
  'tiny-gemma3/images',
  'tiny-starcoder2/plain',
  'tiny-starcoder2/window',
  'tiny-falcon/7b',
  'tiny-falcon/40b',
  'tiny-falcon/11b',
  'tiny-falcon/sequential',
  'tiny-gpt_bigcode/one',
  'tiny-gpt_bigcode/many',
  'tiny-gpt_oss/plain',
  'tiny-gpt_oss/options',
  'tiny-deepseek/v2-dense',
  'tiny-deepseek/v3-dense',
  'tiny-deepseek/v2-lite',
  'tiny-deepseek/v2',
  'tiny-deepseek/v3',
  'tiny-smollm3/plain',
  'tiny-smollm3/options',
  'tiny-mixtral/plain',
  'tiny-mixtral/window',
  'tiny-qwen3_moe/plain',
  'tiny-qwen3_moe/options',
  'tiny-olmo2/plain',
  'tiny-olmo2/grouped',
  'tiny-olmo/plain',
  'tiny-olmo/clip',
  'tiny-olmo3/plain',
  'tiny-olmo3/yarn',
  'tiny-granite/plain',
  'tiny-granite/options',
  'tiny-gpt_neox/plain',
  'tiny-gpt_neox/sequential',
  'tiny-opt/plain',
  'tiny-opt/options',
  'tiny-phi/plain',
  'tiny-phi/grouped',
  'tiny-stablelm/plain',
  'tiny-stablelm/parallel',
  'tiny-gemma/plain',
  'tiny-gemma/many',
  'tiny-glm4/plain',
  'tiny-glm4/options',
  'tiny-cohere2/plain',
  'tiny-cohere2/options',
  'tiny-ernie4_5/plain',
  'tiny-ernie4_5/biases',
  'tiny-exaone4/plain',
  'tiny-exaone4/full',
  'tiny-ministral3/plain',
  'tiny-hunyuan_v1_dense/plain',
  'tiny-hunyuan_v1_dense/alpha',
  'tiny-seed_oss/plain',
  'tiny-seed_oss/biases',
  'tiny-nanochat/plain',
  'tiny-nanochat/grouped',
  'tiny-arcee/plain',
  'tiny-arcee/biases',
  'tiny-apertus/plain',
  'tiny-apertus/biases',
  'tiny-llama4_text/plain',
  'tiny-llama4_text/options',
  'tiny-llama4_text/long',
  'tiny-llama4_text/images',
  'tiny-gemma4_text/plain',
  'tiny-gemma4_text/keys',
  'tiny-gemma4_text/experts',
];

/** The same weights as GGUF where llama.cpp has a way to say them. */
const CHECKPOINTS: readonly (readonly [path: string, golden: string])[] = OPTIONS.flatMap((name) =>
  [name, `${name}.gguf`, `${name}-joint.gguf`]
    .filter((path) => existsSync(join(GOLDEN, path)))
    .map((path) => [path, name] as const),
);

test('the GGUF forms are there', () => {
  expect(CHECKPOINTS.map(([path]) => path).filter((path) => path.endsWith('.gguf'))).toEqual([
    'tiny-mistral/window.gguf',
    'tiny-mistral/plain.gguf',
    'tiny-qwen2/plain.gguf',
    'tiny-qwen3/plain.gguf',
    'tiny-phi3/plain.gguf',
    'tiny-phi3/longrope.gguf',
    'tiny-phi3/partial.gguf',
    'tiny-gpt2/prefix.gguf',
    'tiny-gemma2/plain.gguf',
    'tiny-gemma3/plain.gguf',
    'tiny-starcoder2/plain.gguf',
    'tiny-falcon/7b.gguf',
    'tiny-falcon/40b.gguf',
    'tiny-falcon/11b.gguf',
    'tiny-gpt_bigcode/one.gguf',
    'tiny-gpt_oss/plain.gguf',
    'tiny-deepseek/v2-lite.gguf',
    'tiny-deepseek/v2.gguf',
    'tiny-deepseek/v3.gguf',
    'tiny-deepseek/v3-joint.gguf',
    'tiny-smollm3/plain.gguf',
    'tiny-mixtral/plain.gguf',
    'tiny-qwen3_moe/plain.gguf',
    'tiny-olmo2/plain.gguf',
    'tiny-olmo/plain.gguf',
    'tiny-olmo/clip.gguf',
    'tiny-olmo3/plain.gguf',
    'tiny-olmo3/yarn.gguf',
    'tiny-granite/plain.gguf',
    'tiny-granite/options.gguf',
    'tiny-gpt_neox/plain.gguf',
    'tiny-phi/plain.gguf',
    'tiny-stablelm/plain.gguf',
    'tiny-stablelm/parallel.gguf',
    'tiny-gemma/plain.gguf',
    'tiny-glm4/plain.gguf',
    'tiny-cohere2/plain.gguf',
    'tiny-ernie4_5/plain.gguf',
    'tiny-exaone4/plain.gguf',
    'tiny-exaone4/full.gguf',
    'tiny-ministral3/plain.gguf',
    'tiny-hunyuan_v1_dense/plain.gguf',
    'tiny-seed_oss/plain.gguf',
    'tiny-arcee/plain.gguf',
    'tiny-apertus/plain.gguf',
    'tiny-llama4_text/long.gguf',
    'tiny-gemma4_text/plain.gguf',
    'tiny-gemma4_text/keys.gguf',
    'tiny-gemma4_text/experts.gguf',
  ]);
});

/**
 * The backend with all sizes of chunks and with generation. Both are the same TypeScript on all backends, whose
 * kernels test/ops compares at many shapes: the others run one pass, one row of chunks and ragged rows.
 */
const THOROUGH = BACKENDS.find((name) => name === 'native') ?? BACKENDS[BACKENDS.length - 1];

describe.each(BACKENDS)('%s', (backend) => {
  describe.each(CHECKPOINTS)('%s', (path, name) => {
    let model: Model;
    let golden: Golden;
    beforeAll(async () => {
      golden = await Golden.open(name);
      model = await loadModel(join(GOLDEN, path), { backend });
    });
    afterAll(() => model.dispose());

    test('one pass gives the logits', () => {
      const logits = model.forward(golden.rows('tokens'));
      expect(logits.shape).toEqual([B, T, V]);
      expectClose(logits.dataSync(), golden.floats('logits'), TOLERANCE);
      const last = model.forward(golden.rows('tokens'), { logits: 'last' });
      const want = golden.floats('logits');
      const ends = [0, 1].flatMap((row) => [...want.slice((row * T + T - 1) * V, (row + 1) * T * V)]);
      expectClose(last.dataSync(), ends, TOLERANCE);
    });

    /** Logits of `rows` fed through a cache in pieces; per row the last piece's. */
    const fed = (
      rows: number[][],
      chunks: readonly number[][],
      check: (at: number[], got: Float32Array[]) => void,
    ) => {
      const cache = model.initCache({ batchSize: rows.length, maxLength: T });
      let at = rows.map(() => 0);
      for (const counts of chunks) {
        const end = at.map((start, row) => start + counts[row]);
        const logits = model.forward(
          rows.map((row, i) => row.slice(at[i], end[i])),
          { cache },
        );
        const flat = logits.dataSync() as Float32Array;
        const width = logits.shape[1] * V;
        check(
          at,
          counts.map((count, row) => flat.slice(row * width, row * width + count * V)),
        );
        logits.dispose();
        at = end;
      }
      expect(cache.lengths).toEqual(at);
      cache.dispose();
    };

    // LongRoPE computes a row by its length so far, so only a pass to the end gives what one pass over it
    // gives.
    const sizes = name.endsWith('longrope')
      ? [
          [28, 1],
          [17, 12],
          [14, 15],
        ]
      : [[28, 1], [1, 28], [5, 12, 3, 9], new Array(T).fill(1)];
    test.each((backend === THOROUGH ? sizes : [sizes[2]]).map((chunks) => ({ chunks })))(
      'chunks of $chunks through a cache equal one pass',
      ({ chunks }) => {
        const want = golden.floats('logits');
        const long = name.endsWith('longrope');
        fed(
          golden.rows('tokens'),
          chunks.map((count) => [count, count]),
          (at, got) => {
            if (long && at[0] + got[0].length / V <= 16) return;
            got.forEach((logits, row) => {
              const from = (row * T + at[row]) * V;
              expectClose(
                logits,
                want.slice(from, from + logits.length),
                TOLERANCE,
                `row ${row} from ${at[row]}`,
              );
            });
          },
        );
      },
    );

    test('ragged rows equal rows run alone, with and without a cache', () => {
      const rows = [0, 1, 2].map((row) => golden.ids(`ragged/${row}/tokens`));
      const wants = [0, 1, 2].map((row) => golden.floats(`ragged/${row}/logits`));
      const logits = model.forward(rows);
      const flat = logits.dataSync() as Float32Array;
      rows.forEach((row, i) => {
        const got = flat.slice(i * 23 * V, (i + 1) * 23 * V);
        expectClose(got.slice(0, row.length * V), wants[i], TOLERANCE, `row ${i}`);
        expect(got.slice(row.length * V).every((value) => value === 0)).toBe(true);
      });
      // Each row continues at its own length; the middle one crosses the window and LongRoPE's boundary on
      // its own.
      fed(
        rows,
        [
          [2, 14, 10],
          [3, 9, 1],
        ],
        (at, got) => {
          got.forEach((part, i) => {
            const crossing = name.endsWith('longrope') && i === 1 && at[i] === 0;
            const from = at[i] * V;
            if (!crossing)
              expectClose(
                part,
                wants[i].slice(from, from + part.length),
                TOLERANCE,
                `row ${i} from ${at[i]}`,
              );
          });
        },
      );
    });

    const answers = name.endsWith('longrope') ? ['greedy', 'crossing'] : ['greedy'];
    test.each(backend === THOROUGH ? answers : [])('%s tokens are the same', async (answer) => {
      const want = golden.ids(`${answer}/tokens`);
      const prompt = golden.ids(`${answer}/prompt`);
      expect(await collect(model, prompt, { maxNewTokens: want.length, stop: [] })).toEqual(want);
    });
  });
});

describe('LongRoPE and caches', () => {
  const backend = 'reference';
  const zeros = (shape: number[]): Tensor => {
    const out = allocate(open(backend), 'f32', shape);
    open(backend).run(fill, { out, count: out.size, value: 0 });
    return out;
  };
  let model: Model;
  let row: number[];
  beforeAll(async () => {
    model = await loadModel(join(GOLDEN, 'tiny-phi3/longrope'), { backend });
    row = (await Golden.open('tiny-phi3/longrope')).rows('tokens')[0];
  });
  afterAll(() => model.dispose());

  test('a row cut back behind the boundary is short again, a reset one starts anew', () => {
    const cache = model.initCache({ batchSize: 1, maxLength: T });
    const alone = (tokens: number[]) => model.forward([tokens], { logits: 'last' }).dataSync();
    const next = (tokens: number[]) => model.forward([tokens], { cache, logits: 'last' }).dataSync();
    next(row.slice(0, 12));
    expectClose(next(row.slice(12, 20)), alone(row.slice(0, 20)), 1e-6);
    cache.truncate(0, 10);
    expectClose(next([7]), alone([...row.slice(0, 10), 7]), 1e-6);
    cache.reset();
    expectClose(next(row.slice(3, 9)), alone(row.slice(3, 9)), 1e-6);
    expectClose(next(row.slice(9, 22)), alone(row.slice(3, 22)), 1e-6);
    expect(cache.lengths).toEqual([19]);
    cache.dispose();
  });

  test('no room leaves the cache as it was; foreign tokens are refused where they would matter', () => {
    const cache = model.initCache({ batchSize: 1, maxLength: 18 });
    model.forward([row.slice(0, 15)], { cache }).dispose();
    expect(() => model.forward([row.slice(15, 19)], { cache })).toThrow('no room for 4 more');
    expect(cache.lengths).toEqual([15]);
    const foreign = model.initCache({ batchSize: 1, maxLength: 18 });
    foreign.reserve(15);
    for (const layer of [0, 1]) {
      const { keyDtype, rows } = cache.view(layer);
      expect([keyDtype, rows[0].length]).toEqual(['f32', 15]);
      foreign.write(layer, zeros([1, 15, 1, 16]), zeros([1, 15, 1, 16]));
    }
    foreign.commit();
    expect(() => model.forward([row.slice(15, 17)], { cache: foreign })).toThrow(
      "row 0 crosses 16 tokens, where this model's rotary frequencies change, and its cache holds 15 tokens of which 0 came from this model",
    );
    expect(foreign.lengths).toEqual([15]);
    cache.dispose();
    foreign.dispose();
  });
});

describe('config keys', () => {
  afterAll(removeCheckpoints);
  const backend = 'reference';

  test("Phi-3's older spelling, with `su` for LongRoPE, is the same model", async () => {
    const folder = join(GOLDEN, 'tiny-phi3/longrope');
    const old = JSON.parse(readFileSync(join(folder, 'config.v4.json'), 'utf8')) as Json;
    const model = await loadModel(copyTiny('tiny-phi3/longrope', { rope_parameters: undefined, ...old }), {
      backend,
    });
    const now = await loadModel(folder, { backend });
    expect(model.config).toEqual(now.config);
    expect(now.config.rope).toMatchObject({
      rotaryDim: 12,
      scaling: { type: 'longrope', originalMaxPositionEmbeddings: 16, attentionFactor: Math.sqrt(1.5) },
    });
  });

  test("Gemma 3's older spelling, with two thetas side by side and the pattern as a number, is the same model", async () => {
    const folder = join(GOLDEN, 'tiny-gemma3/plain');
    const old = JSON.parse(readFileSync(join(folder, 'config.v4.json'), 'utf8')) as Json;
    const none = { rope_parameters: undefined, layer_types: undefined };
    const model = await loadModel(copyTiny('tiny-gemma3/plain', { ...none, ...old }), { backend });
    const now = await loadModel(folder, { backend });
    expect(model.config).toEqual(now.config);
    expect(now.config.rope).toMatchObject({ theta: 1e6, scaling: { type: 'linear', factor: 8 } });
    expect(now.config.windowRope).toEqual({ theta: 1e4, rotaryDim: 12, interleaved: false });
  });

  test('what GGUF does not say is what the config says', async () => {
    for (const name of [
      'tiny-gemma2/plain',
      'tiny-gemma3/plain',
      'tiny-falcon/40b',
      'tiny-gpt_bigcode/one',
    ]) {
      const [config, header] = await Promise.all(
        [name, `${name}.gguf`].map(async (path) => (await loadModel(join(GOLDEN, path), { backend })).config),
      );
      const { attention, embeddingScale, windowRope, logitsSoftCap, residual, numKeyValueHeads } = config;
      expect(header).toMatchObject({ attention, numKeyValueHeads });
      expect(header).toMatchObject(
        JSON.parse(JSON.stringify({ embeddingScale, windowRope, logitsSoftCap, residual })),
      );
    }
  });

  test.each([
    ['tiny-gemma2/plain', [9, undefined, 9]],
    ['tiny-gemma3/plain', [9, 9, 9, 9, 9, undefined]],
    ['tiny-gemma3/options', [undefined, 9]],
    ['tiny-starcoder2/window', [9, 9]],
    ['tiny-falcon/40b', [undefined, undefined]],
    ['tiny-mistral/window', [9, 9]],
    ['tiny-mistral/window.gguf', [9, 9]],
    ['tiny-mistral/plain', [undefined, undefined]],
    ['tiny-qwen2/plain', [undefined, undefined]],
    ['tiny-qwen2/window', [undefined, 9, 9]],
    ['tiny-qwen3/window', [undefined, 9]],
    ['tiny-phi3/window', [9, 9]],
  ])('windows of %s', async (name, windows) => {
    const model = await loadModel(join(GOLDEN, name), { backend });
    expect(model.config.attention.map(({ window }) => window)).toEqual(windows);
    model.dispose();
  });
});
