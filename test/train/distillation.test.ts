/** The loss of distillation against PyTorch's (tools/golden/distillation.py), and uptraining with a teacher. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { NodeFolder } from '../../src/files/node-folder.ts';
import {
  type BackendName,
  setBackend,
  setThreads,
  type Tensor,
  tensor,
  valueAndGrad,
} from '../../src/index.ts';
import { characterTokenizer } from '../../src/text/character-tokenizer.ts';
import type { WritableTokenizer } from '../../src/text/tokenizer.ts';
import { huggingFaceForm } from '../../src/train/checkpoint-form.ts';
import { distillationLoss } from '../../src/train/distillation-loss.ts';
import {
  createModel,
  llamaConfig,
  type Metric,
  splitTokens,
  Trainer,
  type UptrainOptions,
  uptrain,
} from '../../src/train/index.ts';
import { topKOf } from '../../src/train/top-k-tokens.ts';
import type { CaseInput } from '../cases/inputs.ts';
import { BACKENDS } from '../models/golden.ts';
import { backends } from '../ops/backends.ts';
import { readGolden } from '../ops/golden.ts';
import { difference } from '../ops/run-cases.ts';

interface Case {
  readonly name: string;
  readonly k: number;
  readonly kd_ratio: number;
  readonly loss: number;
}

describe('the loss', () => {
  const golden = readGolden<Case>('train/distillation');
  for (const backend of backends) {
    test.each(golden.cases.map((row, index) => ({ ...row, index })))(
      `${backend.name}: $name`,
      async ({ index, k, kd_ratio, loss }) => {
        await setBackend(backend.name as BackendName);
        const student = golden.input(`${index}/student`) as CaseInput;
        const [B, T, V] = student.shape;
        const teacher = topKOf(Float32Array.from(golden.values(`${index}/teacher`)), V, k);
        expect(teacher.ids).toEqual(golden.values(`${index}/ids`));
        expect(difference(teacher.logProbs, golden.values(`${index}/logProbs`), 1e-5)).toBeUndefined();
        const labels = Array.from(golden.values(`${index}/labels`));
        const rows = Array.from({ length: B }, (_, b) => [0, ...labels.slice(b * T, (b + 1) * T)]);
        const lossOf = (logits: Tensor) =>
          distillationLoss({ forward: () => logits }, rows, teacher, kd_ratio);
        const logits = tensor(Float32Array.from(student.values), { shape: student.shape });
        const [value, gradient] = valueAndGrad(lossOf)(logits);
        expect(Math.abs(value.dataSync()[0] - loss)).toBeLessThan(1e-5 * Math.max(1, loss));
        const want = golden.values(`${index}/gradient`);
        expect(difference(gradient.dataSync(), want, 1e-6)).toBeUndefined();
        for (const made of [value, gradient, logits]) made.dispose();
      },
    );
  }
});

describe('the top k tokens', () => {
  test('of equal logits the first, in the order of their ids', () => {
    const logits = Float32Array.from([1, 3, 3, 0, 3, 2]);
    expect(Array.from(topKOf(logits, 6, 2).ids)).toEqual([1, 2]);
    expect(Array.from(topKOf(logits, 6, 4).ids)).toEqual([1, 2, 4, 5]);
  });

  test('as a sort gives them, and probabilities that add up to 1', () => {
    const V = 211;
    const rows = 20;
    const logits = Float32Array.from({ length: rows * V }, (_, i) => ((i * 7919) % 113) / 9 - 3);
    for (const k of [1, 2, 7, 64, V - 1]) {
      const { ids, logProbs } = topKOf(logits, V, k);
      for (let row = 0; row < rows; row++) {
        const values = logits.subarray(row * V, (row + 1) * V);
        const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
        const want = order.slice(0, k).sort((a, b) => a - b);
        expect(Array.from(ids.subarray(row * k, (row + 1) * k))).toEqual(want);
        const own = logProbs.subarray(row * (k + 1), (row + 1) * (k + 1));
        expect(own.reduce((sum, log) => sum + Math.exp(log), 0)).toBeCloseTo(1, 5);
      }
    }
  });

  test('a teacher that is certain leaves nothing for the rest, and finite numbers', () => {
    const { logProbs } = topKOf(Float32Array.from([0, 500, 0]), 3, 1);
    expect(Array.from(logProbs)).toEqual([0, -100]);
  });
});

describe('uptrain with a teacher', () => {
  const words = ['whale', 'sea', 'ship', 'captain', 'and', 'the', 'of', 'white'];
  const text = Array.from({ length: 3000 }, (_, i) => words[(i * i + 3 * i + (i >> 4)) % 8]).join(' ');
  let folder: string;
  let original: string;
  let from: string;

  async function makeModel(name: string, ofText: string, steps: number): Promise<string> {
    const tokenizer = characterTokenizer(ofText);
    const tokens = Int32Array.from(tokenizer.encode(ofText));
    const sizes = { vocabSize: tokenizer.vocabSize, hiddenSize: 32, numLayers: 2, numHeads: 4 };
    const config = llamaConfig({ ...sizes, maxPositionEmbeddings: 32 });
    const model = createModel(config, { seed: 3 });
    const settings = { steps, batchSize: 8, blockLength: 32, learningRate: 5e-3 };
    const trainer = new Trainer(model, splitTokens(tokens, 32, 0.2), settings);
    while (trainer.step < steps) trainer.advance();
    const out = join(folder, name);
    await new NodeFolder(out).create();
    const files = await (tokenizer as WritableTokenizer).files();
    await huggingFaceForm(config, files).write(new NodeFolder(out), model, { uptraining: [] });
    model.dispose();
    return out;
  }

  beforeAll(async () => {
    await setBackend('native').catch(() => setBackend('wasm'));
    folder = mkdtempSync(join(tmpdir(), 'gqa-teacher-'));
    original = await makeModel('original', text, 120);
    from = join(folder, 'mqa');
    await convertCheckpoint({ from: original, to: from, numKeyValueHeads: 1 });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const choice = { batchSize: 2, blockLength: 16, accumulate: 2, evaluateEvery: 6, evaluationBatches: 4 };
  const run = async (options: Partial<UptrainOptions>) => {
    const done: number[] = [];
    const all = { from, text, steps: 6, teacher: original, ...choice, ...options };
    const result = await uptrain({ onTeacher: (count) => void done.push(count), ...all });
    result.model.dispose();
    return { ...result, done };
  };

  test('the original as its own teacher leaves it as it is', async () => {
    const { metrics } = await run({ from: original, kdRatio: 1, steps: 1 });
    const losses = metrics.flatMap(({ loss }) => loss ?? []);
    expect(losses.length).toBe(1);
    expect(Math.abs(losses[0])).toBeLessThan(2e-6);
  });

  test('the loss to the original falls, and so does the loss on the text', async () => {
    const { metrics } = await run({ kdRatio: 1, learningRate: 5e-3, steps: 40, evaluateEvery: 40 });
    const losses = metrics.flatMap(({ loss }) => (loss === undefined ? [] : [loss]));
    const mean = (list: number[]) => list.reduce((sum, value) => sum + value, 0) / list.length;
    expect(mean(losses.slice(-5))).toBeLessThan(0.7 * mean(losses.slice(0, 5)));
    const [first, last] = metrics.flatMap(({ validationLoss }) => validationLoss ?? []);
    expect(last).toBeLessThan(first - 0.1);
  });

  test('a stopped run goes on to the same bits; the predictions are computed once, and removed', async () => {
    const [out, whole] = [join(folder, 'stopped'), join(folder, 'whole')];
    const { metrics } = await run({ out: whole, keep: 9, dropout: 0.2 });
    const stopping = new AbortController();
    const onMetric = ({ step }: Metric) => {
      if (step === 2) stopping.abort();
    };
    const stopped = await run({ out, keep: 9, dropout: 0.2, onMetric, signal: stopping.signal });
    expect([stopped.finished, stopped.done.length]).toEqual([false, 12]);
    expect(readdirSync(join(out, 'teacher')).length).toBe(13);
    await expect(run({ out, dropout: 0.2, resume: true, kdRatio: 0.4 })).rejects.toThrow(
      /whose kdRatio is 0.5, got 0.4/,
    );
    await expect(run({ out, dropout: 0.2, resume: true, teacher: undefined })).rejects.toThrow(
      /whose teacher is .*original, got null/,
    );
    const resumed = await run({ out, keep: 9, dropout: 0.2, resume: true });
    expect(resumed.done).toEqual([]);
    expect(resumed.metrics).toEqual(metrics);
    for (const file of ['model.safetensors', 'optimizer.safetensors']) {
      expect(readFileSync(join(out, 'step-6', file))).toEqual(readFileSync(join(whole, 'step-6', file)));
    }
    expect(existsSync(join(out, 'teacher'))).toBe(false);
  });

  test('predictions that were stopped go on; those of another run are refused', async () => {
    const out = join(folder, 'predictions');
    const stopping = new AbortController();
    const onTeacher = (done: number) => {
      if (done === 4) stopping.abort(new Error('stopped here'));
    };
    await expect(run({ out, onTeacher, signal: stopping.signal })).rejects.toThrow('stopped here');
    expect(readdirSync(join(out, 'teacher')).length).toBe(6); // five batches, and which they are
    await expect(run({ out, resume: true, seed: 7 })).rejects.toThrow(/a run whose seed is 7, got 1337/);
    const { done, metrics } = await run({ out, resume: true });
    expect(done).toEqual([5, 6, 7, 8, 9, 10, 11]);
    expect(metrics).toEqual((await run({})).metrics);
  });

  test.skipIf(!BACKENDS.includes('native'))('the same bits on any number of threads', async () => {
    const results = [];
    for (const threads of [1, 2]) {
      await setThreads(threads);
      results.push((await run({})).metrics);
    }
    expect(results[1]).toEqual(results[0]);
  });

  test('what cannot be taught says why', async () => {
    const other = await makeModel('other', `${text}!`, 1);
    const out = join(folder, 'untaught');
    await expect(run({ out, teacher: other })).rejects.toThrow(
      /expected a teacher with the model's vocabulary of 15 tokens, got 16 in .*other$/,
    );
    expect(readdirSync(out)).toEqual([]);
    await expect(run({ teacher: undefined, kdRatio: 0.5 })).rejects.toThrow(
      'uptrain: expected a teacher with kdRatio, got kdRatio=0.5 alone',
    );
    await expect(run({ kdRatio: 0 })).rejects.toThrow('uptrain: expected 0 < kdRatio <= 1, got 0');
    await expect(run({ teacherTopK: 15 })).rejects.toThrow('expected teacherTopK below V=15, got 15');
  });
});
