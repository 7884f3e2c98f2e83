/**
 * The demo's work: the bundled multi-head model is converted to fewer key/value heads, with and without
 * distillation, and measured. Messages go to `say`, checkpoints into a folder.
 */
import { cp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getBackend } from '../../backend/index.ts';
import { convertCheckpoint, measureDrift } from '../../convert/index.ts';
import { loadTrainableModel } from '../../models/trainable-model.ts';
import { planKvCache } from '../../plan/index.ts';
import { binarySize, count, percent, wrapped } from '../output.ts';
import { withProgress } from '../progress.ts';
import { decodeSpeeds, lossOf, PROMPT, sampleOf, withModel } from './measure.ts';
import type { DemoConversion, DemoResult } from './result.ts';

const BUNDLED = fileURLToPath(new URL('../../../demo/', import.meta.url));
const CONTEXT = 512;
/** Share of the bundled text, at its end, that the model was not trained on. */
const HELD_OUT = 0.1;
/** The numbers of key/value heads to convert to. */
const FEWER = [2, 1];

/** The amount of work in each stage. */
export interface DemoScale {
  /** Steps of distillation for each layer. */
  readonly steps: number;
  /** Steps of distillation after these, of all layers together. */
  readonly finalSteps: number;
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
  /** The part of the text that heads are compared on and layers learn from. */
  readonly text: string;
  /** A later part, that losses are measured on. */
  readonly heldOut: string;
}

/** @throws the signal's reason when aborted */
export async function runDemo(job: DemoJob): Promise<DemoResult> {
  const started = performance.now();
  const { folder, say, scale, signal } = job;
  const bundled = join(BUNDLED, 'model');
  const novel = await readFile(join(BUNDLED, 'moby-dick.txt'), 'utf8');
  const config = JSON.parse(await readFile(join(bundled, 'config.json'), 'utf8'));
  const at = Math.floor(novel.length * (1 - HELD_OUT));
  const text = novel.slice(0, at);
  const heldOut = novel.slice(at, at + scale.validationWindows * CONTEXT + 1);
  const stage: Stage = { ...job, bundled, text, heldOut };
  const N: number = config.num_key_value_heads;
  const names = [`k${N}`, ...FEWER.map((K) => `k${K}`)];
  const facts = [N, ...FEWER].map((numKeyValueHeads, i) => {
    const plan = planKvCache(config, { kvDtype: 'f32', contextLength: CONTEXT, numKeyValueHeads });
    return { numKeyValueHeads, checkpoint: names[i], kvBytesPerToken: plan.bytesPerToken };
  });

  await cp(bundled, join(folder, names[0]), { recursive: true });
  await writeFile(join(folder, 'moby-dick.txt'), novel);
  await writeFile(join(folder, 'held-out.txt'), heldOut);
  const { model, ...original } = await showOriginal(stage, facts[0].kvBytesPerToken);

  say(`\nFewer heads, before any training (loss on held-out text; K=${N} has ${original.loss.toFixed(3)}):`);
  const conversions = await inTurn(FEWER, (K) => convertTo(stage, K));

  const { steps, finalSteps } = scale;
  say(`\nDistillation: ${steps} steps for each layer, then ${finalSteps} for all layers together:`);
  const distilled = await inTurn(conversions, (conversion) => distill(stage, conversion));

  const decode = { batchSize: scale.decodeBatch, contextLength: CONTEXT };
  const paths = names.map((name) => join(folder, name));
  const speeds = await decodeSpeeds(paths, { ...decode, text, signal });
  return {
    backend: getBackend().description,
    model,
    validationTokens: heldOut.length - 1,
    distillation: { steps, finalSteps },
    decode,
    original: { ...facts[0], decodeTokensPerSecond: speeds[0], ...original },
    converted: conversions.map(({ method, drift, loss }, i): DemoConversion => {
      const { sample, seconds, loss: after } = distilled[i];
      return {
        ...{ ...facts[i + 1], decodeTokensPerSecond: speeds[i + 1], sample, method, drift, seconds },
        loss: { ...loss, converted: loss[method], distilled: after },
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

type Converted = Awaited<ReturnType<typeof convertTo>>;

/** Converts by the better method once more, and trains the converted layers. */
async function distill(stage: Stage, { numKeyValueHeads: K, method, loss: before }: Converted) {
  const { folder, bundled, text, heldOut, scale, say, signal } = stage;
  const { steps, finalSteps } = scale;
  const to = join(folder, `k${K}`);
  const calibration = method === 'similar' ? text : undefined;
  const start = performance.now();
  await withProgress(`distilling to K=${K}`, undefined, (update) =>
    convertCheckpoint({
      ...{ from: bundled, to, numKeyValueHeads: K, method, calibration, signal },
      distill: { text, steps, finalSteps },
      onProgress: (done, total, _phase, activity) => update(done, total, `K=${K}, ${activity}`),
    }),
  );
  const seconds = (performance.now() - start) / 1000;
  return await withModel(to, async (model) => {
    const loss = await lossOf(model, heldOut, signal);
    say(item(K, `loss ${before[method].toFixed(3)} to ${loss.toFixed(3)} in ${Math.round(seconds)} s`));
    return { loss, sample: await sampleOf(model, signal), seconds };
  });
}
