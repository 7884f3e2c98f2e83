/**
 * How a model was trained, stored with its checkpoint so that uptraining can continue the recipe:
 * `gqa-train.json` beside config.json, in GGUF the metadata key `gqa.train`.
 */
import { show } from '../arguments/kinds.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';

export const RECIPE_FILE = 'gqa-train.json';
export const RECIPE_KEY = 'gqa.train';

/** The settings that, with the model and the text, determine the numbers of a run. */
export interface TrainSettings {
  /** B; blocks per batch. */
  readonly batchSize: number;
  /** T; tokens per block. */
  readonly blockLength: number;
  /** Optimiser steps of the whole run; the learning rate falls until the last one. */
  readonly steps: number;
  /** Batches per step; their gradients are averaged. Default 1. */
  readonly accumulate: number;
  /** Peak learning rate. */
  readonly learningRate: number;
  /** Final learning rate; default a tenth of the peak. */
  readonly minLearningRate: number;
  /** Steps in which the learning rate rises to its peak; default 100, at most a tenth of `steps`. */
  readonly warmupSteps: number;
  /** AdamW weight decay, of matrices only; default 0.1. */
  readonly weightDecay: number;
  /** Decay of AdamW's first moment; default 0.9. */
  readonly b1: number;
  /** Decay of AdamW's second moment; default 0.99. */
  readonly b2: number;
  /**
   * Largest global norm of the gradients; default 1. 0, Infinity and values beyond f32 mean no clipping,
   * stored as 0.
   */
  readonly clip: number;
  /** Dropout rate after the embedding, of attention's weights, and after attention and the MLP; default 0. */
  readonly dropout: number;
  /** Seed of batches and dropout; default 1337. */
  readonly seed: number;
  /** Batches per estimate of the loss; default 20. */
  readonly evaluationBatches: number;
  /** First batch in the stream of batches, so that a run can go on where another one ended; default 0. */
  readonly firstBatch: number;
  /** Share of the text, at its end, that is held out. */
  readonly validation: number;
}

/** A run: its settings, and the steps taken. */
export interface RunRecord {
  /** The settings of the run. */
  readonly settings: TrainSettings;
  /** Steps taken. */
  readonly step: number;
}

/** How a checkpoint was trained. `convertCheckpoint` copies it to its output. */
export interface TrainRecipe {
  /** The first training; absent for a model that was trained elsewhere. */
  readonly training?: RunRecord;
  /** The uptraining after it, oldest first. */
  readonly uptraining: readonly RunRecord[];
}

type Rule = readonly [expected: string, holds: (value: number) => boolean];

const atLeast0: Rule = ['a number of at least 0', (value) => value >= 0 && value < Number.POSITIVE_INFINITY];
/** Of loops and lengths: a damaged file must not ask for more than can be meant. */
const upTo = (most: number): Rule => [
  `an integer from 1 to ${most}`,
  (value) => Number.isInteger(value) && value >= 1 && value <= most,
];

/** Values that a file may hold. */
const RULES: Readonly<Record<keyof TrainSettings, Rule>> = {
  batchSize: upTo(2 ** 20),
  blockLength: upTo(2 ** 24),
  steps: upTo(2 ** 31),
  accumulate: upTo(2 ** 16),
  learningRate: atLeast0,
  minLearningRate: atLeast0,
  warmupSteps: atLeast0,
  weightDecay: atLeast0,
  b1: atLeast0,
  b2: atLeast0,
  clip: atLeast0,
  dropout: ['a number from 0 to below 1', (value) => value >= 0 && value < 1],
  seed: atLeast0,
  evaluationBatches: upTo(2 ** 20),
  firstBatch: atLeast0,
  validation: ['a number between 0 and 1', (value) => value > 0 && value < 1],
};

/**
 * @param file the name of the file in errors
 * @param key the metadata key of the text; undefined for a file of its own
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
  const step = run?.step as number;
  // A file without dropout is valid: it means none.
  const settings = { dropout: 0, ...run?.settings } as TrainSettings;
  if (!Number.isInteger(step) || step < 0) {
    throw fail(`step to be an integer of at least 0, got ${show(step)}`);
  }
  for (const [name, [expected, holds]] of Object.entries(RULES)) {
    const value = settings[name as keyof TrainSettings];
    if (typeof value !== 'number' || !holds(value)) {
      throw fail(`settings.${name} to be ${expected}, got ${show(value)}`);
    }
  }
  if (step > settings.steps) {
    throw fail(`step to be at most settings.steps, ${settings.steps}, got ${show(step)}`);
  }
  return { settings, step };
}
