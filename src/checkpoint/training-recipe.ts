/**
 * How a model was trained, kept with its checkpoint so that the recipe can be continued: `gqa-train.json` beside config.json, the
 * metadata key `gqa.train` in a GGUF file. Converting carries it over.
 */

import { show } from '../arguments/kinds.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';

export const RECIPE_FILE = 'gqa-train.json';
export const RECIPE_KEY = 'gqa.train';

/** Everything a run's numbers depend on besides its model and text. The defaults are those of `Trainer`. */
export interface TrainSettings {
  /** B; blocks per batch. */
  readonly batchSize: number;
  /** T; tokens per block. */
  readonly blockLength: number;
  /** Optimiser steps of the whole run; the learning rate falls until the last. */
  readonly steps: number;
  /** Batches per step, whose gradients are averaged; default 1. */
  readonly accumulate: number;
  /** Peak of the schedule. */
  readonly learningRate: number;
  /** At the end; default a tenth of the peak. */
  readonly minLearningRate: number;
  /** Default 100, at most a tenth of the steps. */
  readonly warmupSteps: number;
  /** Of matrices; default 0.1. */
  readonly weightDecay: number;
  /** Default 0.9. */
  readonly b1: number;
  /** Default 0.99. */
  readonly b2: number;
  /** Largest norm of all gradients together; default 1. 0, Infinity and what f32 cannot hold switch clipping off, and are kept as 0. */
  readonly clip: number;
  /** Share that training steps drop (after the embedding, of attention's weights, after attention and the MLP); default 0. */
  readonly dropout: number;
  /** Of the batches and the dropout; default 1337. */
  readonly seed: number;
  /** Batches per estimate of a loss; default 20. */
  readonly evaluationBatches: number;
  /** Where in the stream of batches the run begins, so that one can go on where another ended; default 0. */
  readonly firstBatch: number;
  /** Share of the text, its last part, that is not trained on. */
  readonly validation: number;
}

/** A run: what it was to be, and how far it came. */
export interface RunRecord {
  /** The settings of the run. */
  readonly settings: TrainSettings;
  /** Steps taken. */
  readonly step: number;
}

/**
 * How a checkpoint was trained: its first run and the uptraining after it. `convertCheckpoint` copies it to its output.
 */
export interface TrainRecipe {
  /** Of the model from scratch; absent where that was done elsewhere. */
  readonly training?: RunRecord;
  /** What came after it, oldest first. */
  readonly uptraining: readonly RunRecord[];
}

/** Each is a loop or a length: the largest that a file may ask for. */
const MOST = {
  batchSize: 2 ** 20,
  blockLength: 2 ** 24,
  steps: 2 ** 31,
  accumulate: 2 ** 16,
  evaluationBatches: 2 ** 20,
} as const;
const NOT_NEGATIVE = [
  ...(['learningRate', 'minLearningRate', 'warmupSteps', 'weightDecay', 'b1', 'b2', 'clip', 'seed'] as const),
  'firstBatch',
] as const;

/**
 * @param file what errors call the text; `key` names it inside of a file
 * @throws FormatError naming the value that is wrong
 */
export function parseRecipe(text: string, file: string, key?: string): TrainRecipe {
  const fail = (what: string) =>
    new FormatError(file, undefined, `${key === undefined ? '' : `${key}: `}expected ${what}`);
  const json = parseJson(key === undefined ? file : `${file}: ${key}`, text) as Partial<TrainRecipe>;
  const runs = Array.isArray(json?.uptraining) ? json.uptraining : undefined;
  if (runs === undefined) throw fail('an object with a list named uptraining');
  const uptraining = runs.map((run) => checkedRun(run, fail));
  if (json.training === undefined) return { uptraining };
  return { training: checkedRun(json.training, fail), uptraining };
}

function checkedRun(run: Partial<RunRecord> | null, fail: (what: string) => Error): RunRecord {
  const { step } = run ?? {};
  // Runs from before there was dropout do not name it.
  const settings = { dropout: 0, ...run?.settings } as TrainSettings;
  if (!Number.isInteger(step) || Number(step) < 0) {
    throw fail(`step to be an integer of at least 0, got ${show(step)}`);
  }
  for (const [name, most] of Object.entries(MOST)) {
    const value = settings[name as keyof typeof MOST];
    if (!Number.isInteger(value) || value < 1 || value > most) {
      throw fail(`settings.${name} to be an integer from 1 to ${most}, got ${show(value)}`);
    }
  }
  if (Number(step) > settings.steps) {
    throw fail(`step to be at most settings.steps, ${settings.steps}, got ${show(step)}`);
  }
  for (const name of NOT_NEGATIVE) {
    const value = settings[name];
    if (!isNumber(value, 0)) throw fail(`settings.${name} to be a number of at least 0, got ${show(value)}`);
  }
  const { validation, dropout } = settings;
  if (!(validation > 0 && validation < 1)) {
    throw fail(`settings.validation between 0 and 1, got ${show(validation)}`);
  }
  if (!(isNumber(dropout, 0) && dropout < 1)) {
    throw fail(`settings.dropout of at least 0 and below 1, got ${show(dropout)}`);
  }
  return { settings, step: Number(step) };
}

function isNumber(value: unknown, least: number): value is number {
  return typeof value === 'number' && value >= least && value < Number.POSITIVE_INFINITY;
}
