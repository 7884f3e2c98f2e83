/**
 * The demo's work: the bundled multi-head model is converted to fewer key/value heads, uptrained, and
 * measured. Messages go to `say`, checkpoints into a folder.
 */
import { cp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getBackend } from '../../backend/index.ts';
import { convertCheckpoint, measureDrift } from '../../convert/index.ts';
import { loadTrainableModel } from '../../models/trainable-model.ts';
import { planKvCache } from '../../plan/index.ts';
import { eventLoopTurn } from '../../tensor/event-loop.ts';
import type { Trainer } from '../../train/trainer.ts';
import { prepareUptraining } from '../../train/uptrain.ts';
import { binarySize, count, percent, wrapped } from '../output.ts';
import { withProgress } from '../progress.ts';
import { TrainingBar } from '../train/bar.ts';
import { decodeSpeeds, lossOf, PROMPT, sampleOf, withModel } from './measure.ts';
import type { DemoConversion, DemoResult } from './result.ts';

const BUNDLED = fileURLToPath(new URL('../../../demo/', import.meta.url));
const CONTEXT = 512;
/** Share of the bundled text, at its end, that the model was not trained on. */
const HELD_OUT = 0.1;
/** The numbers of key/value heads to convert to. */
const FEWER = [2, 1];
/** Steps of uptraining at most, as a share of the model's training. */
const MAX_ALPHA = 0.1;
/** Number of loss estimates during uptraining. */
const CURVE_POINTS = 4;

/** The amount of work in each stage. */
export interface DemoScale {
  /** Planned seconds of one uptraining, which is stopped after a quarter more. */
  readonly seconds: number;
  /** Steps of one uptraining; overrides `seconds`. */
  readonly steps?: number;
  /** Windows of 512 tokens per loss. */
  readonly validationWindows: number;
  /** Sequences decoded in one batch. */
  readonly decodeBatch: number;
}

export interface DemoJob {
  /** An empty folder. */
  readonly folder: string;
  readonly scale: DemoScale;
  readonly say: (text: string) => void;
  readonly signal: AbortSignal;
}

/** Shared by all stages. */
interface Stage extends DemoJob {
  /** The checkpoint of the bundled model. */
  readonly bundled: string;
  readonly text: string;
  /** The part of the text that losses are measured on. */
  readonly heldOut: string;
  /** Steps that trained the bundled model. */
  readonly trainedSteps: number;
}

/** @throws the signal's reason when aborted */
export async function runDemo(job: DemoJob): Promise<DemoResult> {
  const started = performance.now();
  const { folder, say, scale, signal } = job;
  const bundled = join(BUNDLED, 'model');
  const text = await readFile(join(BUNDLED, 'moby-dick.txt'), 'utf8');
  const config = JSON.parse(await readFile(join(bundled, 'config.json'), 'utf8'));
  const recipe = JSON.parse(await readFile(join(bundled, 'gqa-train.json'), 'utf8'));
  const at = Math.floor(text.length * (1 - HELD_OUT));
  const heldOut = text.slice(at, at + scale.validationWindows * CONTEXT + 1);
  const stage: Stage = { ...job, bundled, text, heldOut, trainedSteps: recipe.training.step };
  const N: number = config.num_key_value_heads;
  const names = [`k${N}`, ...FEWER.map((K) => `k${K}`)];
  const facts = [N, ...FEWER].map((numKeyValueHeads, i) => {
    const plan = planKvCache(config, { kvDtype: 'f32', contextLength: CONTEXT, numKeyValueHeads });
    return { numKeyValueHeads, checkpoint: names[i], kvBytesPerToken: plan.bytesPerToken };
  });

  await cp(bundled, join(folder, names[0]), { recursive: true });
  await writeFile(join(folder, 'moby-dick.txt'), text);
  await writeFile(join(folder, 'held-out.txt'), heldOut);
  const { model, ...original } = await showOriginal(stage, facts[0].kvBytesPerToken);

  say(`\nFewer heads, before any training (loss on held-out text; K=${N} has ${original.loss.toFixed(3)}):`);
  const conversions = await inTurn(FEWER, (K) => convertTo(stage, K));

  const steps = scale.steps ?? (await stepsWithin(stage, conversions[0].checkpoint));
  const { trainedSteps } = stage;
  say(`\nUptraining: ${steps} steps each, ${percent(steps / trainedSteps)} of the model's own training`);
  const uptrained = await inTurn(conversions, (conversion) => uptrain(stage, conversion, steps));

  const decode = { batchSize: scale.decodeBatch, contextLength: CONTEXT };
  const paths = names.map((name) => join(folder, name));
  const speeds = await decodeSpeeds(paths, { ...decode, text, signal });
  const taken = Math.min(...uptrained.map(({ curve }) => curve[curve.length - 1].step));
  const { tokensPerStep, learningRate } = uptrained[0];
  return {
    backend: getBackend().description,
    model,
    validationTokens: heldOut.length - 1,
    uptraining: { steps: taken, alpha: taken / trainedSteps, tokensPerStep, learningRate },
    decode,
    original: { ...facts[0], decodeTokensPerSecond: speeds[0], ...original },
    converted: conversions.map(({ method, drift, loss }, i): DemoConversion => {
      const { sample, curve, seconds } = uptrained[i];
      return {
        ...{ ...facts[i + 1], decodeTokensPerSecond: speeds[i + 1], sample, method, drift, curve, seconds },
        loss: { ...loss, converted: loss[method], uptrained: curve[curve.length - 1].loss },
      };
    }),
    seconds: (performance.now() - started) / 1000,
  };
}

/** A line of a list, wrapped to the terminal's width. */
function item(K: number, text: string): string {
  return `  K=${K}  ${wrapped(text, '       ').trimStart()}`;
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

/** Says what the bundled model is. @returns its facts, a sample, and its loss */
async function showOriginal({ bundled, heldOut, say, scale, signal }: Stage, kvBytesPerToken: number) {
  const model = await loadTrainableModel(bundled);
  try {
    const { numLayers, numHeads, numKeyValueHeads, headDim } = model.config;
    const { parameterCount: parameters } = model;
    say(
      wrapped(
        `A small character-level GPT trained on Moby-Dick: ${count(parameters)} parameters, ${numLayers} layers, N=${numHeads} query heads, each with a key/value head of its own (K=${numKeyValueHeads}, H=${headDim}). It writes:`,
      ),
    );
    const sample = await sampleOf(model, signal);
    say(`\n${wrapped(`${PROMPT}${sample} …`, '    ')}`);
    const size = binarySize(kvBytesPerToken * scale.decodeBatch * CONTEXT);
    say(
      `\n${wrapped(`Its KV cache takes ${count(kvBytesPerToken)} bytes per token: ${size} for ${scale.decodeBatch} texts of ${CONTEXT} characters.`)}`,
    );
    const loss = await lossOf(model, heldOut, signal);
    return { loss, sample, model: { parameters, numLayers, numHeads, numKeyValueHeads, headDim } };
  } finally {
    model.dispose();
  }
}

/** Converts by `mean` and by `similar`, and keeps the better one. */
async function convertTo(stage: Stage, K: number) {
  const { folder, bundled, text, heldOut, say, signal } = stage;
  const converted = async (method: 'mean' | 'similar') => {
    signal.throwIfAborted();
    const to = join(folder, `k${K}-${method}`);
    const calibration = method === 'similar' ? text : undefined;
    const how = { numKeyValueHeads: K, method, calibration, signal };
    const result = await convertCheckpoint({ from: bundled, to, ...how });
    return { to, result, method, loss: await withModel(to, (model) => lossOf(model, heldOut, signal)) };
  };
  return await withProgress(`converting to K=${K}`, undefined, async (update) => {
    const mean = await converted('mean');
    update(1, 4);
    const similar = await converted('similar');
    update(2, 4);
    const [best, worse] = similar.loss <= mean.loss ? [similar, mean] : [mean, similar];
    const { method, to, result } = best;
    const onProgress = (done: number, total: number) => {
      signal.throwIfAborted();
      update(2 + (2 * done) / total, 4);
    };
    const drift = await measureDrift({ from: bundled, to, result, text: heldOut, onProgress });
    await rm(worse.to, { recursive: true });
    const checkpoint = join(folder, `k${K}-converted`);
    await rename(to, checkpoint);
    const worst = Math.max(...drift.layers.map((layer) => layer.attentionOutput));
    const loss = { mean: mean.loss, similar: similar.loss };
    const losses = `loss ${loss.mean.toFixed(3)} by mean, ${loss.similar.toFixed(3)} by similar`;
    const same = percent(drift.topOneAgreement);
    say(
      item(
        K,
        `${losses}; by ${method}, the error of attention is at most ${percent(worst)}, and ${same} of the likeliest characters are the same`,
      ),
    );
    return { numKeyValueHeads: K, checkpoint, method, loss, drift };
  });
}

/** Steps that fit into the time, estimated from two discarded ones; at most `MAX_ALPHA` of the original. */
async function stepsWithin({ text, scale, trainedSteps }: Stage, from: string): Promise<number> {
  const maxSteps = Math.round(MAX_ALPHA * trainedSteps);
  const { trainer } = await prepareUptraining({ from, text, steps: 2 });
  try {
    trainer.advance(); // memory is allocated, code is compiled
    const start = performance.now();
    trainer.advance();
    const seconds = (performance.now() - start) / 1000;
    return Math.max(2, Math.min(maxSteps, Math.floor(scale.seconds / seconds)));
  } finally {
    trainer.model.dispose();
  }
}

type Converted = Awaited<ReturnType<typeof convertTo>>;

async function uptrain(stage: Stage, from: Converted, steps: number) {
  const { folder, text, say, signal } = stage;
  const K = from.numKeyValueHeads;
  // `out` gives the checkpoint format; the run itself writes no checkpoint.
  const out = join(folder, `k${K}`);
  const { trainer, place, settings } = await prepareUptraining({ from: from.checkpoint, text, steps, out });
  const { model, tokensPerStep } = trainer;
  try {
    const start = performance.now();
    const curve = [{ step: 0, loss: from.loss[from.method] }, ...(await train(stage, trainer, `K=${K} `))];
    const seconds = (performance.now() - start) / 1000;
    const last = curve[curve.length - 1];
    await place?.directory.folder.create();
    await place?.form.write(place.directory.folder, model, place.recipe(last.step));
    const losses = `loss ${curve[0].loss.toFixed(3)} to ${last.loss.toFixed(3)}`;
    const cut = last.step < steps ? `, after ${last.step} of ${steps} steps: out of time` : '';
    say(item(K, `${losses} in ${Math.round(seconds)} s${cut}`));
    const sample = await sampleOf(model, signal);
    return { tokensPerStep, learningRate: settings.learningRate, curve, sample, seconds };
  } finally {
    model.dispose();
  }
}

/** Trains for the allowed time, with a bar. @returns the validation losses during and after training */
async function train({ heldOut, signal, scale }: Stage, trainer: Trainer, label: string) {
  const { steps } = trainer.settings;
  const every = Math.ceil(steps / CURVE_POINTS);
  const bar = new TrainingBar({ steps, tokensPerStep: trainer.tokensPerStep, label });
  const curve: { step: number; loss: number }[] = [];
  const deadline =
    scale.steps === undefined ? performance.now() + 1250 * scale.seconds : Number.POSITIVE_INFINITY;
  try {
    for (let isLast = false; !isLast; ) {
      bar.stepped(trainer.step + 1, trainer.advance());
      const { step } = trainer;
      isLast = step === steps || performance.now() > deadline;
      if (step % every === 0 || isLast) {
        curve.push({ step, loss: await lossOf(trainer.model, heldOut, signal) });
      }
      // Let the event loop deliver Ctrl-C between steps.
      await eventLoopTurn();
      signal.throwIfAborted();
    }
  } finally {
    bar.stop();
  }
  return curve;
}
