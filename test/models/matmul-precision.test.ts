/**
 * Models of every family in matmul precision bfloat16: their logits stay near those of highest, and a model's
 * own precision comes before the program's.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type LoadModelOptions, loadModel } from '../../src/models/index.ts';
import { setMatmulPrecision } from '../../src/ops/matmul-precision.ts';
import { BACKENDS, collect, GOLDEN, Golden, loadTiny, SMOLLM2 } from './golden.ts';

/** Root mean squares of the errors of all logits, as a share of the logits'. */
const TINY_BOUND = 2 ** -4;
/** Of mixtures of experts, where a token may go to another expert. */
const EXPERTS_BOUND = 2 ** -2;
const SMOLLM2_BOUND = 2 ** -6;
/** Share of tokens whose likeliest successor is that of highest. */
const AGREEMENT = 0.9;

const MODELS: readonly string[] = readdirSync(GOLDEN)
  .filter((family) => family.startsWith('tiny-'))
  .flatMap((family) => readdirSync(join(GOLDEN, family)).map((name) => `${family}/${name}`))
  .filter((name) => !name.endsWith('.gguf'));

const FAST = BACKENDS.filter((name) => name !== 'reference');

async function logits(
  path: string,
  tokens: number[][],
  options: LoadModelOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const model = await loadModel(path, options);
  try {
    return Float32Array.from(model.forward(tokens).dataSync());
  } finally {
    model.dispose();
  }
}

/** rms(a - b) / rms(a) */
function distance(a: Float32Array, b: Float32Array): number {
  let [error, size] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    error += (a[i] - b[i]) ** 2;
    size += a[i] ** 2;
  }
  return Math.sqrt(error / size);
}

/** Of rows of V logits, the share whose largest is at the same place in both. */
function agreement(a: Float32Array, b: Float32Array, V: number): number {
  let same = 0;
  for (let at = 0; at < a.length; at += V) if (best(a, at, V) === best(b, at, V)) same++;
  return same / (a.length / V);
}

function best(logits: Float32Array, at: number, V: number): number {
  const row = logits.subarray(at, at + V);
  return row.indexOf(row.reduce((a, b) => Math.max(a, b)));
}

afterEach(() => setMatmulPrecision('highest'));

describe.each(FAST)('%s', (backend) => {
  test.each(MODELS)('%s', async (name) => {
    const golden = await Golden.open(name);
    const path = join(GOLDEN, name);
    const tokens = golden.rows('tokens');
    const exact = await logits(path, tokens, { backend });
    const got = await logits(path, tokens, { backend, matmulPrecision: 'bfloat16' });
    const bound = /mixtral|moe|deepseek|gpt_oss|llama4/.test(name) ? EXPERTS_BOUND : TINY_BOUND;
    expect(distance(exact, got)).toBeLessThan(bound);
    expect(agreement(exact, got, exact.length / tokens.flat().length)).toBeGreaterThan(AGREEMENT);
  });

  test("a model's own precision comes before the program's", async () => {
    const path = join(GOLDEN, 'tiny-llama/mha');
    const tokens = (await Golden.open('tiny-llama/mha')).rows('tokens');
    const [highest, bfloat16] = [
      await logits(path, tokens, { backend }),
      await logits(path, tokens, { backend, matmulPrecision: 'bfloat16' }),
    ];
    setMatmulPrecision('bfloat16');
    expect(await logits(path, tokens, { backend })).toEqual(bfloat16);
    expect(await logits(path, tokens, { backend, matmulPrecision: 'highest' })).toEqual(highest);
  });

  test('refuses an unknown precision before it reads the file', async () => {
    const unknown = { backend, matmulPrecision: 'bf16' } as unknown as LoadModelOptions;
    await expect(loadModel('/nowhere', unknown)).rejects.toThrow(
      new RangeError('loadModel: expected highest, bfloat16, int8, got "bf16"'),
    );
  });

  test('a pass that fails leaves the precision of the program', async () => {
    const model = await loadTiny('mha', backend);
    const exact = Float32Array.from(model.forward([Array.from({ length: 29 }, (_, i) => i)]).dataSync());
    model.dispose();
    const failing = await loadModel(join(GOLDEN, 'tiny-llama/mha'), { backend, matmulPrecision: 'bfloat16' });
    expect(() => failing.forward([[0]], { output: ['everything'] } as never)).toThrow();
    failing.dispose();
    const again = await loadTiny('mha', backend);
    expect(again.forward([Array.from({ length: 29 }, (_, i) => i)]).dataSync()).toEqual(exact);
    again.dispose();
  });

  test.skipIf(!SMOLLM2)('SmolLM2', async () => {
    const golden = await Golden.open('smollm2');
    const tokens = [golden.ids('text/tokens')];
    const exact = await logits(SMOLLM2!, tokens, { backend });
    const got = await logits(SMOLLM2!, tokens, { backend, matmulPrecision: 'bfloat16' });
    expect(distance(exact, got)).toBeLessThan(SMOLLM2_BOUND);
    expect(agreement(exact, got, exact.length / tokens[0].length)).toBeGreaterThan(AGREEMENT);
    const model = await loadModel(SMOLLM2!, { backend, matmulPrecision: 'bfloat16' });
    const answer = await collect(model, golden.ids('chat/prompt'), { maxNewTokens: 16, stop: [] });
    expect(answer).toEqual(golden.ids('chat/tokens').slice(0, 16));
    model.dispose();
  });
});

test('a wrong GQA_MATMUL_PRECISION is an error before anything is loaded', async () => {
  vi.resetModules();
  vi.stubEnv('GQA_MATMUL_PRECISION', 'fast');
  const fresh = await import('../../src/models/index.ts');
  await expect(fresh.loadModel('/nowhere')).rejects.toThrow(
    'GQA_MATMUL_PRECISION: expected highest, bfloat16, int8, got "fast"',
  );
  vi.unstubAllEnvs();
});
