/**
 * The demo's work: the bundled multi-head model is converted to fewer key/value heads, uptrained, and
 * measured. Messages go to `say`, checkpoints into a folder.
 */
import { cp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getBackend } from '../../backend/index.ts';
import {
  type ConvertMethod,
  type ConvertResult,
  convertCheckpoint,
  measureDrift,
} from '../../convert/index.ts';
import { loadTrainableModel } from '../../models/trainable-model.ts';
import { type KvCachePlan, planKvCache } from '../../plan/index.ts';
import { eventLoopTurn } from '../../tensor/event-loop.ts';
import type { Trainer } from '../../train/trainer.ts';
import { prepareUptraining } from '../../train/uptrain.ts';
import { binarySize, count, percent, wrapped } from '../output.ts';
import { startProgress } from '../progress.ts';
import { TrainingBar } from '../train/bar.ts';
import { decodeSpeeds, lossOf, PROMPT, sampleOf, withModel } from './measure.ts';
import type { DemoConversion, DemoModel, DemoResult } from './result.ts';

const BUNDLED = fileURLToPath(new URL('../../../demo/', import.meta.url));
const CONTEXT = 512;
/** Share of the bundled text that the model was not trained on: its end. */
const HELD_OUT = 0.1;
/** The numbers of key/value heads to convert to. */
const FEWER = [2, 1];
/** Steps of uptraining at most, as a share of the model's training. */
const MAX_ALPHA = 0.1;
/** Number of loss estimates during uptraining. */
const CURVE_POINTS = 4;

/** The amount of work in each stage. */
export interface DemoScale {
  /**
   * Planned seconds of one uptraining; it is stopped after a quarter more.
   */
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
  readonly bundled: string;
  readonly text: string;
  readonly heldOut: string;
  readonly trainedSteps: number;
}

/** @throws the signal's reason when aborted */
export async function runDemo(job: DemoJob): Promise<DemoResult> {
  const started = performance.now();
  const { folder, say, scale } = job;
  const bundled = join(BUNDLED, 'model');
  const text = await readFile(join(BUNDLED, 'moby-dick.txt'), 'utf8');
  const config = JSON.parse(await readFile(join(bundled, 'config.json'), 'utf8'));
  const recipe = JSON.parse(await readFile(join(bundled, 'gqa-train.json'), 'utf8'));
  const at = Math.floor(text.length * (1 - HELD_OUT));
  const heldOut = text.slice(at, at + scale.validationWindows * CONTEXT + 1);
  const stage: Stage = { ...job, bundled, text, heldOut, trainedSteps: recipe.training.step };
  const plan = (K: number, batchSize = 1) =>
    planKvCache(config, { kvDtype: 'f32', contextLength: CONTEXT, batchSize, numKeyValueHeads: K });

  const N = config.num_key_value_heads as number;
  const own = `k${N}`;
  await cp(bundled, join(folder, own), { recursive: true });
  await writeFile(join(folder, 'moby-dick.txt'), text);
  await writeFile(join(folder, 'held-out.txt'), heldOut);
  const original = await showOriginal(stage, plan(N), plan(N, scale.decodeBatch));

  say(`\nFewer heads, before any training (loss on held-out text; K=${N} has ${original.loss.toFixed(3)}):`);
  const conversions: Converted[] = [];
  for (const K of FEWER) conversions.push(await convertTo(stage, K));

  const steps = scale.steps ?? (await stepsWithin(stage, conversions[0].checkpoint));
  say(
    `\nUptraining: ${steps} steps each, ${percent(steps / stage.trainedSteps)} of the model's own training`,
  );
  const uptrained: Uptrained[] = [];
  for (const conversion of conversions) uptrained.push(await uptrain(stage, conversion, steps));

  const names = [own, ...FEWER.map((K) => `k${K}`)];
  const speeds = await decodeSpeeds(
    names.map((name) => join(folder, name)),
    { batchSize: scale.decodeBatch, contextLength: CONTEXT, text, signal: job.signal },
  );
  const modelOf = (K: number, i: number, sample: string): DemoModel => ({
    numKeyValueHeads: K,
    checkpoint: names[i],
    kvBytesPerToken: plan(K).bytesPerToken,
    decodeTokensPerSecond: speeds[i],
    sample,
  });
  const fewestSteps = Math.min(...uptrained.map((one) => one.steps));
  return {
    backend: getBackend().description,
    model: original.model,
    validationTokens: heldOut.length - 1,
    uptraining: {
      steps: fewestSteps,
      alpha: fewestSteps / stage.trainedSteps,
      ...uptrained[0].settings,
    },
    decode: { batchSize: scale.decodeBatch, contextLength: CONTEXT },
    original: { ...modelOf(N, 0, original.sample), loss: original.loss },
    converted: FEWER.map((K, i): DemoConversion => {
      const { method, drift, loss } = conversions[i];
      const { sample, curve, seconds } = uptrained[i];
      const last = curve[curve.length - 1].loss;
      return {
        ...modelOf(K, i + 1, sample),
        ...{ method, drift, curve, seconds },
        loss: { ...loss, converted: loss[method], uptrained: last },
      };
    }),
    seconds: (performance.now() - started) / 1000,
  };
}

/** Facts, sample, loss and cache size of a model. */
async function showOriginal(
  { bundled, heldOut, say, scale, signal }: Stage,
  one: KvCachePlan,
  many: KvCachePlan,
): Promise<{ loss: number; sample: string; model: DemoResult['model'] }> {
  const model = await loadTrainableModel(bundled);
  try {
    const { numLayers, numHeads, numKeyValueHeads, headDim } = model.config;
    const { parameterCount: parameters } = model;
    say(
      wrapped(
        `A small character-level GPT trained on Moby-Dick: ${count(parameters)} parameters, ${numLayers} layers, N=${numHeads} query heads, each with key/value heads of its own (K=${numKeyValueHeads}, H=${headDim}). It writes:`,
      ),
    );
    const sample = await sampleOf(model, signal);
    say(`\n${wrapped(`${PROMPT}${sample} …`, '    ')}`);
    say(
      `\nIts KV cache takes ${count(one.bytesPerToken)} bytes a token: ${binarySize(many.totalBytes)} for ${scale.decodeBatch} texts of ${CONTEXT}.`,
    );
    const loss = await lossOf(model, heldOut, signal);
    return { loss, sample, model: { parameters, numLayers, numHeads, numKeyValueHeads, headDim } };
  } finally {
    model.dispose();
  }
}

interface Converted {
  readonly numKeyValueHeads: number;
  readonly checkpoint: string;
  readonly method: 'mean' | 'similar';
  readonly loss: { readonly mean: number; readonly similar: number };
  readonly drift: DemoConversion['drift'];
}

/** Converts by `mean` and by `similar`, and keeps the better one. */
async function convertTo(stage: Stage, K: number): Promise<Converted> {
  const { folder, bundled, text, heldOut, say, signal } = stage;
  const progress = startProgress(`converting to K=${K}`);
  try {
    const made = async (
      method: ConvertMethod,
    ): Promise<{ to: string; result: ConvertResult; loss: number }> => {
      signal.throwIfAborted();
      const to = join(folder, `k${K}-${method}`);
      const result = await convertCheckpoint({
        ...{ from: bundled, to, numKeyValueHeads: K, method },
        calibration: method === 'similar' ? text : undefined,
      });
      return { to, result, loss: await withModel(to, (model) => lossOf(model, heldOut, signal)) };
    };
    const mean = await made('mean');
    progress.update(1, 4);
    const similar = await made('similar');
    progress.update(2, 4);
    const method = similar.loss <= mean.loss ? 'similar' : 'mean';
    const best = { mean, similar }[method];
    const drift = await measureDrift({
      ...{ from: bundled, to: best.to, result: best.result, text: heldOut },
      onProgress: (done, total) => {
        signal.throwIfAborted();
        progress.update(2 + (2 * done) / total, 4);
      },
    });
    await rm((method === 'mean' ? similar : mean).to, { recursive: true });
    const checkpoint = join(folder, `k${K}-converted`);
    await rename(best.to, checkpoint);
    progress.stop();
    const loss = { mean: mean.loss, similar: similar.loss };
    const worst = Math.max(...drift.layers.map((layer) => layer.attentionOutput));
    say(
      `  K=${K}  loss ${loss.mean.toFixed(3)} by mean, ${loss.similar.toFixed(3)} by similar; with ${method}, attention\n       drifts by up to ${percent(worst)}, and ${percent(drift.topOneAgreement)} of the likeliest characters are the same`,
    );
    return { numKeyValueHeads: K, checkpoint, method, loss, drift };
  } finally {
    progress.stop();
  }
}

/**
 * Steps that fit into the time, estimated from two discarded ones; at most `MAX_ALPHA` of the original steps.
 */
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

interface Uptrained {
  readonly settings: Pick<DemoResult['uptraining'], 'tokensPerStep' | 'learningRate'>;
  readonly curve: DemoConversion['curve'];
  readonly sample: string;
  readonly seconds: number;
  /** Steps taken. */
  readonly steps: number;
}

async function uptrain(stage: Stage, from: Converted, steps: number): Promise<Uptrained> {
  const { folder, text, say, signal } = stage;
  const K = from.numKeyValueHeads;
  const to = join(folder, `k${K}`);
  // The path gives the checkpoint format; the run writes no checkpoint.
  const run = await prepareUptraining({ from: from.checkpoint, text, steps, out: to });
  const { trainer, place, settings } = run;
  const { model, tokensPerStep } = trainer;
  try {
    const start = performance.now();
    const curve = [{ step: 0, loss: from.loss[from.method] }, ...(await train(stage, trainer, `K=${K} `))];
    const seconds = (performance.now() - start) / 1000;
    const last = curve[curve.length - 1];
    await place?.directory.folder.create();
    await place?.form.write(place.directory.folder, model, place.recipe(last.step));
    const cut = last.step < steps ? `, after ${last.step} of ${steps} steps: this machine became slower` : '';
    say(
      `  K=${K}  loss ${curve[0].loss.toFixed(3)} to ${last.loss.toFixed(3)} in ${Math.round(seconds)} s${cut}`,
    );
    const sample = await sampleOf(model, signal);
    const learning = { tokensPerStep, learningRate: settings.learningRate };
    return { settings: learning, curve, sample, seconds, steps: last.step };
  } finally {
    model.dispose();
  }
}

/** Trains for the allowed time, with a bar. @returns the validation losses during and after training */
async function train(
  { heldOut, signal, scale }: Stage,
  trainer: Trainer,
  label: string,
): Promise<{ step: number; loss: number }[]> {
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
