/**
 * Uptraining: settings from the recipe, checkpoints in the layout of their source, and the recovered loss.
 */
import { mkdirSync, mkdtempSync, readFileSync as read, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { NodeFolder } from '../../src/files/node-folder.ts';
import { setBackend, setThreads } from '../../src/index.ts';
import { characterTokenizer, characterTokenizerJson } from '../../src/text/character-tokenizer.ts';
import type { WritableTokenizer } from '../../src/text/tokenizer.ts';
import { formOf, huggingFaceForm } from '../../src/train/checkpoint-form.ts';
import {
  createModel,
  llamaConfig,
  loadTrainableModel,
  type Metric,
  splitTokens,
  Trainer,
  type TrainRecipe,
  uptrain,
} from '../../src/train/index.ts';
import { uptrainSettings } from '../../src/train/uptrain-settings.ts';
import { copyTiny, removeCheckpoints } from '../models/checkpoints.ts';
import { BACKENDS, GOLDEN } from '../models/golden.ts';

const hasNative = BACKENDS.includes('native');

import { caseNamed, variant } from '../models/variants.ts';

let folder: string;
beforeAll(async () => {
  await setBackend('native').catch(() => setBackend('wasm'));
  folder = mkdtempSync(join(tmpdir(), 'gqa-uptrain-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  removeCheckpoints();
});

const settings = {
  ...{ batchSize: 4, blockLength: 16, steps: 1000, accumulate: 2, learningRate: 2e-3, minLearningRate: 3e-4 },
  ...{
    warmupSteps: 100,
    weightDecay: 0.2,
    b1: 0.9,
    b2: 0.98,
    clip: 0.5,
    dropout: 0.3,
    seed: 11,
    evaluationBatches: 3,
  },
  ...{ firstBatch: 0, validation: 0.2 },
};

describe('settings', () => {
  const recipe: TrainRecipe = { training: { settings, step: 870 }, uptraining: [] };

  test('alpha is a share of the steps taken, and the recipe goes on', () => {
    expect(uptrainSettings(recipe, { alpha: 0.1 }, 64)).toEqual({
      ...settings,
      ...{ steps: 87, learningRate: 2e-3, minLearningRate: 3e-4, warmupSteps: 8, firstBatch: 1740 },
    });
    expect(uptrainSettings(recipe, {}, 64).steps).toBe(44); // 0.05
    expect(uptrainSettings(recipe, { alpha: 1e-9 }, 64).steps).toBe(1);
    expect(uptrainSettings(recipe, { alpha: 0.1, steps: 7 }, 64).steps).toBe(7);
  });

  test('what is given goes before the recipe; undefined is not given', () => {
    const choice = { steps: 50, learningRate: 1e-4, batchSize: 9, warmupSteps: 0, b2: undefined };
    expect(uptrainSettings(recipe, choice, 64)).toMatchObject({
      ...{ batchSize: 9, learningRate: 1e-4, minLearningRate: 1e-5, warmupSteps: 0, b2: 0.98 },
    });
  });

  test('a second uptraining goes on behind the first', () => {
    const first = uptrainSettings(recipe, { steps: 50 }, 64);
    const second = uptrainSettings({ ...recipe, uptraining: [{ settings: first, step: 40 }] }, {}, 64);
    expect(second).toMatchObject({ steps: 44, learningRate: 2e-3, firstBatch: 2 * 910 });
    const elsewhere = { uptraining: [{ settings: first, step: 40 }] };
    expect(uptrainSettings(elsewhere, { steps: 5 }, 64)).toMatchObject({
      learningRate: 2e-3,
      firstBatch: 80,
    });
  });

  test('a recipe from before there was dropout has none', async () => {
    const old = copyTiny('mha', {}, { 'gqa-train.json': recipeText({ dropout: undefined }) });
    await using checkpoint = await openCheckpoint(old);
    expect((await checkpoint.format.recipe(checkpoint))?.uptraining[0].settings.dropout).toBe(0);
  });

  test('options out of range', () => {
    expect(() => uptrainSettings(undefined, { alpha: 0.05 }, 64)).toThrow(/expected \{ steps \}/);
    expect(() => uptrainSettings({ uptraining: [] }, {}, 64)).toThrow(/expected \{ steps \}/);
    expect(() => uptrainSettings(recipe, { alpha: 0 }, 64)).toThrow('expected alpha above 0, got 0');
    expect(() => uptrainSettings(recipe, {}, 8)).toThrow("within the model's context of 8 tokens, got 16");
    expect(uptrainSettings(undefined, { steps: 5 }, 8).blockLength).toBe(8);
  });
});

function recipeText(changed: object): string {
  return JSON.stringify({ uptraining: [{ settings: { ...settings, ...changed }, step: 1 }] });
}

describe('checkpoints are written in the form they came in', () => {
  const forms = readdirSync(GOLDEN)
    .filter((family) => family.startsWith('tiny-'))
    .flatMap((family) => readdirSync(join(GOLDEN, family)).map((name) => `${family}/${name}`))
    .filter((name) => !name.endsWith('.json'));
  const recipe = { uptraining: [] };
  const rows = Int32Array.from({ length: 400 }, (_, i) => (i * i + 3 * i) % 53);
  const tokens = [[1, 7, 4, 2, 9, 50, 3, 3]];

  test.each(forms)('%s', async (name) => {
    const from = join(GOLDEN, name);
    const [untouched, stepped] = ['a', 'b'].map((end) => join(folder, name.replace('/', '-') + end));
    mkdirSync(untouched);
    mkdirSync(stepped);
    await using checkpoint = await openCheckpoint(from);
    const model = await loadTrainableModel(from);
    const form = await formOf(checkpoint, model);
    await form.write(new NodeFolder(untouched), model, recipe);
    const trainer = new Trainer(model, splitTokens(rows, 12, 0.2), {
      ...{ batchSize: 2, blockLength: 12, steps: 2, learningRate: 1e-2, warmupSteps: 0 },
    });
    trainer.advance();
    await form.write(new NodeFolder(stepped), model, recipe);

    await using copy = await openCheckpoint(untouched);
    expect(copy.kind).toBe(checkpoint.kind);
    expect(await copy.format.recipe(copy)).toEqual(recipe);
    const used = [...checkpoint.tensors.values()].filter(({ dtype }) => dtype.startsWith('f'));
    for (const { name: tensor, shape, dtype } of used) {
      expect(copy.tensor(tensor).shape, tensor).toEqual(shape);
      if (dtype === 'f32') {
        expect(await copy.readBytes(tensor), tensor).toEqual(await checkpoint.readBytes(tensor));
      }
    }
    const logits = async (path: string) => {
      const loaded = await loadTrainableModel(path);
      const found = loaded.forward(tokens).dataSync();
      loaded.dispose();
      return found;
    };
    const [before, same, after] = [await logits(from), await logits(untouched), await logits(stepped)];
    expect(same).toEqual(before);
    expect(after).toEqual(model.forward(tokens).dataSync());
    expect(after).not.toEqual(before);
    model.dispose();
  });
});

test.each(['llama both', 'llama head only', 'llama rolled', 'gpt2 rolled', 'falcon base'])(
  '%s: trained and written, it is the trained model again, head and all',
  async (name) => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const from = await variant(caseNamed(name));
    const to = join(folder, name);
    mkdirSync(to);
    await using checkpoint = await openCheckpoint(from);
    const model = await loadTrainableModel(from);
    const form = await formOf(checkpoint, model);
    const rows = Int32Array.from({ length: 400 }, (_, i) => (i * i + 3 * i) % 53);
    const trainer = new Trainer(model, splitTokens(rows, 12, 0.2), {
      ...{ batchSize: 2, blockLength: 12, steps: 2, learningRate: 1e-2, warmupSteps: 0 },
    });
    trainer.advance();
    await form.write(new NodeFolder(to), model, { uptraining: [] });
    warn.mockClear();
    const again = await loadTrainableModel(to);
    expect(warn).not.toHaveBeenCalled();
    expect(again.config.tiedEmbeddings).toBe(model.config.tiedEmbeddings);
    expect(again.configJson?.tie_word_embeddings ?? true).toBe(model.config.tiedEmbeddings);
    expect([...again.parameters().keys()]).toEqual([...model.parameters().keys()]);
    const tokens = [[1, 7, 4, 2, 9, 50, 3, 3]];
    expect(again.forward(tokens).dataSync()).toEqual(model.forward(tokens).dataSync());
    again.dispose();
    model.dispose();
    warn.mockRestore();
  },
);

describe('uptrain', () => {
  const words = ['whale', 'sea', 'ship', 'captain', 'and', 'the', 'of', 'white'];
  const text = Array.from({ length: 3000 }, (_, i) => words[(i * i + 3 * i + (i >> 4)) % 8]).join(' ');

  /** A trained multi-head model, as `gqa train` leaves it. */
  async function trained(): Promise<string> {
    const tokenizer = characterTokenizer(text);
    const tokens = Int32Array.from(tokenizer.encode(text));
    const sizes = { vocabSize: tokenizer.vocabSize, hiddenSize: 32, numLayers: 2, numHeads: 4 };
    const config = llamaConfig({ ...sizes, maxPositionEmbeddings: 32 });
    const model = createModel(config, { seed: 3 });
    const { validation, ...training } = settings;
    const own = { ...training, steps: 150, accumulate: 1, batchSize: 8, blockLength: 32, learningRate: 5e-3 };
    const trainer = new Trainer(model, splitTokens(tokens, 32, 0.2), own);
    while (trainer.step < 150) trainer.advance();
    const out = mkdtempSync(join(folder, 'trained-'));
    const files = await (tokenizer as WritableTokenizer).files();
    const recipe = { training: { settings: { ...own, validation }, step: 150 }, uptraining: [] };
    await huggingFaceForm(config, files).write(new NodeFolder(out), model, recipe);
    model.dispose();
    return out;
  }

  test('gives back what pooling took; the recipe travels with the conversion', async () => {
    const to = join(folder, 'mqa');
    await convertCheckpoint({ from: await trained(), to, numKeyValueHeads: 1 });
    const heard: Metric[] = [];
    const onMetric = (metric: Metric) => {
      heard.push(metric);
    };
    const {
      model,
      metrics,
      settings: used,
      finished,
      checkpoint,
    } = await uptrain({
      ...{ from: to, text, alpha: 0.2, evaluateEvery: 10, onMetric },
    });
    model.dispose();
    expect(used).toMatchObject({ steps: 30, blockLength: 32, learningRate: 5e-3, firstBatch: 150 });
    expect([finished, checkpoint]).toEqual([true, undefined]);
    expect(heard).toEqual(metrics);
    const validation = metrics.filter((metric) => metric.validationLoss !== undefined);
    expect(validation.map(({ step }) => step)).toEqual([0, 10, 20, 30]);
    const losses = validation.map(({ validationLoss = Number.NaN }) => validationLoss);
    expect(losses[3]).toBeLessThan(losses[0] - 0.1);
  });

  test('a signal ends it with a checkpoint, from which it goes on to the same numbers', async () => {
    const from = join(folder, 'mqa');
    const options = { from, text, steps: 12, evaluateEvery: 4, keep: 9, dropout: 0.2 };
    const whole = await uptrain({ ...options, out: join(folder, 'whole') });
    whole.model.dispose();
    const stopping = new AbortController();
    const onMetric = ({ step }: Metric) => {
      if (step === 5) stopping.abort();
    };
    const out = join(folder, 'stopped');
    const stopped = await uptrain({ ...options, out, onMetric, signal: stopping.signal });
    stopped.model.dispose();
    expect([stopped.finished, stopped.checkpoint]).toEqual([false, join(out, 'step-5')]);
    await expect(uptrain({ ...options, out })).rejects.toThrow(/is not empty: \{ resume: true \} continues/);
    await expect(uptrain({ ...options, steps: 13, out, resume: true })).rejects.toThrow(
      /whose steps is 12, got 13/,
    );
    const resumed = await uptrain({ ...options, out, resume: true });
    resumed.model.dispose();
    expect(resumed.metrics).toEqual(whole.metrics);
    for (const file of ['model.safetensors', 'optimizer.safetensors', 'gqa-train.json']) {
      expect(read(join(out, 'step-12', file))).toEqual(read(join(folder, 'whole', 'step-12', file)));
    }
    await using last = await openCheckpoint(join(out, 'step-12'));
    expect((await last.format.recipe(last))?.uptraining).toMatchObject([
      { step: 12, settings: { dropout: 0.2 } },
    ]);
  });

  test.skipIf(!hasNative)('a run that goes on elsewhere says on what it was computed', async () => {
    const from = await trained();
    const out = join(folder, 'elsewhere');
    const options = { ...{ from, text, out, steps: 3, saveEvery: 1, keep: 9, evaluateEvery: 3 } };
    const go = async (steps: number, resume: boolean) => {
      const controller = new AbortController();
      let made = 0;
      const onMetric = ({ loss }: Metric) => {
        if (loss !== undefined && ++made === steps) controller.abort();
      };
      const { model, computedOn } = await uptrain({
        ...options,
        resume,
        onMetric,
        signal: controller.signal,
      });
      model.dispose();
      return computedOn;
    };
    const [native, wasm] = [/^native \([\w+]+\)$/, /^wasm \(\w+\)$/].map((name) =>
      expect.stringMatching(name),
    );
    await setBackend('native');
    await setThreads(2);
    try {
      expect(await go(1, false)).toEqual([native]);
      // Threads do not matter.
      await setThreads(1);
      expect(await go(1, true)).toEqual([native]);
      await setBackend('wasm');
      expect(await go(1, true)).toEqual([native, wasm]);
    } finally {
      await setBackend('native');
    }
  });

  test('what cannot be trained says why', async () => {
    const tokenizer = { 'tokenizer.json': JSON.stringify(characterTokenizerJson(text)) };
    const cases: [string, Partial<Parameters<typeof uptrain>[0]>, RegExp][] = [
      [copyTiny('mha'), {}, /expected a checkpoint with a tokenizer/],
      [copyTiny('mha', {}, tokenizer), { steps: undefined }, /expected \{ steps \}/],
      [copyTiny('mha', {}, tokenizer), { text: 'whale' }, /expected at least \d+ tokens/],
      [copyTiny('mha', { model_type: 'mamba' }, tokenizer), {}, /model_type: expected a supported one/],
      [
        copyTiny('mha', {}, { ...tokenizer, 'gqa-train.json': '{"uptraining": [{"step": -1}]}' }),
        {},
        /gqa-train.json: expected step to be an integer of at least 0, got -1/,
      ],
      [copyTiny('mha', {}, { ...tokenizer, 'gqa-train.json': '{' }), {}, /gqa-train.json: expected JSON/],
      [copyTiny('mha', {}, tokenizer), { dropout: 1 }, /train: expected 0 <= dropout < 1, got 1/],
      [
        copyTiny('mha', {}, { ...tokenizer, 'gqa-train.json': recipeText({ dropout: 1 }) }),
        {},
        /settings.dropout to be a number from 0 to below 1, got 1/,
      ],
      [
        copyTiny('mha', {}, { ...tokenizer, 'gqa-train.json': recipeText({ accumulate: 1e9 }) }),
        {},
        /settings.accumulate to be an integer from 1 to 65536, got 1000000000/,
      ],
      [
        copyTiny('mha', {}, { ...tokenizer, 'gqa-train.json': recipeText({ batchSize: 2.5 }) }),
        {},
        /settings.batchSize to be an integer from 1 to 1048576, got 2.5/,
      ],
    ];
    for (const [from, options, message] of cases) {
      await expect(uptrain({ from, text, steps: 2, ...options })).rejects.toThrow(message);
    }
  });
});
