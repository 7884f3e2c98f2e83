/** One run of `gqa train`: text to batches, steps, estimates, checkpoints, and going on from one. */
import { join } from 'node:path';
import { getBackend } from '../backend/index.ts';
import { loadTensor } from '../checkpoint/load-tensor.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { RunDirectory } from '../checkpoint/run-directory.ts';
import { llamaConfig } from '../models/llama-config.ts';
import { tokenizerMaker } from '../models/text-parts.ts';
import { createModel, loadTrainableModel } from '../models/trainable-model.ts';
import { characterTokenizer } from '../text/character-tokenizer.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { splitTokens } from '../train/token-data.ts';
import { Trainer } from '../train/trainer.ts';
import { UsageError } from './errors.ts';
import { count, writeJson, writeNote } from './output.ts';
import { readTrainingText } from './train-data.ts';
import type { TrainFlags } from './train-flags.ts';
import { type Metric, TrainReport } from './train-report.ts';

/** Text as tokens, and the files a checkpoint needs to read and write text. */
interface Tokenized {
  readonly tokens: Int32Array;
  readonly vocabSize: number;
  readonly files: Readonly<Record<string, unknown>>;
  readonly tokenizer: Tokenizer;
}

/** @returns false when it was stopped by Ctrl-C. */
export async function trainRun(flags: TrainFlags): Promise<boolean> {
  const directory = new RunDirectory(flags.out);
  const latest = directory.latest();
  if (!flags.resume && directory.entries().length > 0) {
    throw new UsageError(`${flags.out} is not empty: --resume goes on with it, another --out starts anew`);
  }
  if (flags.resume && latest === undefined && directory.entries().some((name) => name.startsWith('step-'))) {
    throw new Error(`${flags.out}: expected a file named latest beside its checkpoints, got none`);
  }
  const text = await readTrainingText(flags.data);
  const tokenized = await tokenize(text, flags);
  const data = splitTokens(tokenized.tokens, flags.block, flags.validation);
  const shape = {
    vocabSize: tokenized.vocabSize,
    hiddenSize: flags.dim,
    numLayers: flags.layers,
    numHeads: flags.heads,
    numKeyValueHeads: flags.kvHeads ?? flags.heads,
    maxPositionEmbeddings: flags.block,
  };
  const recipe = recipeOf(flags, tokenized, shape);
  if (latest !== undefined) checkSameRun(latest, directory.state(latest), recipe);

  const model =
    latest === undefined
      ? createModel(llamaConfig(shape), { seed: flags.seed })
      : await loadTrainableModel(latest);
  try {
    const trainer = new Trainer(model, data, {
      batchSize: flags.batch,
      blockLength: flags.block,
      steps: flags.steps,
      accumulate: flags.accumulate,
      learningRate: flags.learningRate,
      minLearningRate: flags.minLearningRate,
      warmupSteps: flags.warmup,
      weightDecay: flags.weightDecay,
      b2: flags.beta2,
      clip: flags.clip,
      seed: flags.seed,
      evaluationBatches: flags.evalBatches,
    });
    directory.create();
    const metrics = latest === undefined ? [] : await restore(directory, latest, trainer);
    // Also of a run that was killed before its first checkpoint.
    await directory.replace('metrics.jsonl', metrics.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const report = new TrainReport(directory, flags, model, tokenized.tokenizer, metrics);
    writeNote(
      `${latest === undefined ? 'training' : `going on from ${latest}`}: ${count(model.parameterCount)} parameters, ` +
        `N=${shape.numHeads} K=${shape.numKeyValueHeads}, ${count(data.train.length)} + ${count(data.validation.length)} tokens, ` +
        `V=${shape.vocabSize}, on ${getBackend().description}`,
    );
    const finished = await loop(trainer, directory, report, flags, () => ({
      files: { 'config.json': model.configJson, ...tokenized.files },
      state: { recipe },
    }));
    await report.finish(trainer, finished);
    if (flags.json) writeJson(report.result(trainer, finished));
    return finished;
  } finally {
    model.dispose();
  }
}

/** Steps until the last, or until Ctrl-C. */
async function loop(
  trainer: Trainer,
  directory: RunDirectory,
  report: TrainReport,
  flags: TrainFlags,
  about: () => { files: Record<string, unknown>; state: Record<string, unknown> },
): Promise<boolean> {
  let stopped = false;
  const stop = () => {
    // A second Ctrl-C ends the process at once.
    stopped = true;
    process.off('SIGINT', stop);
  };
  process.on('SIGINT', stop);
  const save = async () => {
    const { files, state } = about();
    const weights = [...trainer.model.parameters()].map(([path, { value }]) => [path, value]);
    await directory.save(
      {
        step: trainer.step,
        files,
        weights: Object.fromEntries(weights),
        optimizer: trainer.optimizer.tensors,
        state: { ...state, step: trainer.step, counters: trainer.optimizer.counters },
      },
      flags.keep,
    );
  };
  const saveEvery = flags.saveEvery ?? flags.evalEvery;
  let saved = trainer.step;
  try {
    if (trainer.step === 0) await report.evaluated(trainer);
    while (trainer.step < flags.steps && !stopped) {
      await report.stepped(trainer, trainer.advance());
      const last = trainer.step === flags.steps;
      if (trainer.step % flags.evalEvery === 0 || last) await report.evaluated(trainer);
      if (trainer.step % saveEvery === 0 || last) {
        await save();
        saved = trainer.step;
      }
    }
    if (saved !== trainer.step) await save();
  } finally {
    process.off('SIGINT', stop);
    report.stop();
  }
  return !stopped || trainer.step === flags.steps;
}

async function tokenize(text: string, { tokenizer: path }: TrainFlags): Promise<Tokenized> {
  if (path === undefined) {
    const made = characterTokenizer(text);
    return {
      tokens: made.encode(text),
      vocabSize: made.characters.length,
      files: made.files,
      tokenizer: made.tokenizer,
    };
  }
  const checkpoint = await openCheckpoint(path);
  try {
    const make = await tokenizerMaker(checkpoint);
    if (!make) throw new Error(`${path}: expected a checkpoint with a tokenizer, got one without`);
    const tokenizer = make();
    const files: Record<string, unknown> = {};
    for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
      const json = await checkpoint.readText(name);
      if (json !== undefined) files[name] = JSON.parse(json);
    }
    if (files['tokenizer.json'] === undefined) {
      throw new Error(`${path}: expected a tokenizer.json, which the new checkpoint can carry`);
    }
    const tokens = Int32Array.from(tokenizer.encode(text, { addSpecialTokens: false }));
    return { tokens, vocabSize: tokenizer.vocabSize, files, tokenizer };
  } finally {
    await checkpoint.close();
  }
}

/** What must be the same for a run to go on: everything that its numbers depend on. */
function recipeOf(
  flags: TrainFlags,
  { tokens, vocabSize }: Tokenized,
  shape: object,
): Record<string, unknown> {
  let hash = 0x811c9dc5;
  for (const id of tokens) hash = Math.imul(hash ^ id, 0x01000193);
  const { block, batch, accumulate, steps, learningRate, weightDecay, beta2, clip, seed, validation } = flags;
  return {
    ...shape,
    vocabSize,
    tokens: tokens.length,
    tokensHash: hash >>> 0,
    ...{ block, batch, accumulate, steps, learningRate, weightDecay, beta2, clip, seed, validation },
    minLearningRate: flags.minLearningRate ?? null,
    warmup: flags.warmup ?? null,
  };
}

function checkSameRun(
  latest: string,
  state: Record<string, unknown>,
  recipe: Readonly<Record<string, unknown>>,
): void {
  const before = (state.recipe ?? {}) as Record<string, unknown>;
  const different = Object.keys(recipe).filter((key) => before[key] !== recipe[key]);
  if (different.length === 0) return;
  const [key] = different;
  throw new UsageError(
    `--resume: expected the run of ${latest}, whose ${key} is ${before[key]}, got ${recipe[key]}`,
  );
}

/** Puts a checkpoint's state into the trainer. @returns the metrics up to it; what was logged later will be logged again. */
async function restore(directory: RunDirectory, latest: string, trainer: Trainer): Promise<Metric[]> {
  const state = directory.state(latest) as { step: number; counters: Record<string, number> };
  const checkpoint = await openCheckpoint(join(latest, 'optimizer.safetensors'));
  try {
    for (const [name, tensor] of Object.entries(trainer.optimizer.tensors)) {
      const backend = getBackend();
      const loaded = loadTensor(checkpoint, name, { backend, dtype: 'f32' });
      backend.convert(tensor, 0, loaded, 0, tensor.size);
      loaded.dispose();
    }
  } finally {
    await checkpoint.close();
  }
  trainer.resumeAt(state.step, state.counters);
  const metrics = directory
    .readLines('metrics.jsonl')
    .filter((line) => Number(line.step) <= state.step) as unknown as Metric[];
  return metrics;
}
