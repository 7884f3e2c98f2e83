/**
 * Uptraining: continues the training of a converted checkpoint by its own recipe, for a share of its steps.
 *
 * Source: Ainslie et al., GQA (arXiv 2305.13245), section 2.1.
 */

import { aBoolean, aFunction, aNumber, anything, aString, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { readyBackend } from '../backend/registry.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import type { TrainSettings } from '../checkpoint/training-recipe.ts';
import { aCache, type ModelCache } from '../files/model-cache.ts';
import { aPlace, type PlaceLike } from '../files/place.ts';
import { aSource, type ModelSource, sourceName } from '../files/source.ts';
import { aToken } from '../files/source-options.ts';
import { describeModel } from '../models/describe-model.ts';
import { loadTrainableModel, type TrainableModel } from '../models/trainable-model.ts';
import { matmulPrecision, refuseInt8 } from '../ops/matmul-precision.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { formOf } from './checkpoint-form.ts';
import { openRun, type PreparedRun, prepareRun } from './prepare-run.ts';
import { type TeacherChoice, teacherLoss, teacherSettings } from './teacher.ts';
import { type RunOptions, type RunResult, runTraining } from './training-run.ts';
import { CHOICE_KINDS, type UptrainChoice, uptrainSettings } from './uptrain-settings.ts';

/** Options of `uptrain`. */
export interface UptrainOptions extends UptrainChoice, TeacherChoice, RunOptions {
  /** A Hugging Face directory or a `.gguf` file, with a tokenizer. Its weights are trained as f32. */
  readonly from: ModelSource;
  /** See `SourceOptions`. */
  readonly token?: string;
  /** See `SourceOptions`. */
  readonly cache?: ModelCache;
  /** What to train on; its last part (`validation`, by default the share of the recipe) is held out. */
  readonly text: string;
  /** A folder for checkpoints and `metrics.jsonl`, to resume from; without it nothing is written. */
  readonly out?: PlaceLike;
  /** Whether to resume from the newest checkpoint in `out`; default false. */
  readonly resume?: boolean;
  /** Called as the teacher's predictions are computed, with the number of batches that are done. */
  readonly onTeacher?: (done: number, total: number) => void;
}

const OPTIONS = optionKinds<UptrainOptions>({
  ...CHOICE_KINDS,
  teacher: anything,
  teacherTopK: aNumber,
  kdRatio: aNumber,
  onTeacher: aFunction,
  evaluateEvery: checkPositiveInteger,
  saveEvery: checkPositiveInteger,
  keep: checkPositiveInteger,
  onMetric: aFunction,
  signal: anything,
  from: aSource,
  token: aToken,
  cache: aCache,
  text: aString,
  out: aPlace,
  resume: aBoolean,
});

/** What `uptrain` returns. */
export interface UptrainResult extends RunResult {
  /** Uptrained; the caller's to dispose. */
  readonly model: TrainableModel;
  /** The settings it ran with. */
  readonly settings: TrainSettings;
  /** The newest checkpoint's folder, with `out`. */
  readonly checkpoint: string | undefined;
}

/**
 * Trains a checkpoint further, by its own recipe where it carries one; otherwise by defaults for a small
 * machine (batches of 4 blocks of 256 tokens, learning rate 1e-4). Every block begins as the tokenizer begins
 * a text, with bos where it does. With `out`, checkpoints have the form of `from`, a Hugging Face directory
 * or a GGUF file, with f32 weights.
 *
 * With a `teacher` the model learns its predictions too (knowledge distillation). These are computed before
 * the first step, so that the two models are not in memory at once, and kept in the folder `teacher` in `out`
 * until the last step: 8 bytes per token and kept prediction, 516 bytes per token by default.
 * @throws RangeError for settings out of range, a text shorter than a block or a teacher with another
 * vocabulary, the signal's reason when it is aborted while predictions are computed, FormatError for a checkpoint
 * that is damaged or of no family that trains, RunConflictError for an `out` that is not empty, DivergedError
 * when the loss is not finite, Error for matmul precision int8
 * @example
 * const { model, metrics } = await uptrain({ from: 'mqa', text, alpha: 0.05, onMetric: console.log });
 */
export async function uptrain(options: UptrainOptions): Promise<UptrainResult> {
  const run = await prepareUptraining(options);
  const { settings, place, metrics } = run;
  const { model } = run.trainer;
  try {
    const result = await runTraining(run.trainer, options, place, metrics);
    return { ...result, model, settings, checkpoint: (await place?.directory.latest())?.name };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** Prepares what `uptrain` runs; takes no step. */
export async function prepareUptraining(options: UptrainOptions): Promise<PreparedRun> {
  checkOptions('uptrain', options, OPTIONS);
  aSource('uptrain', 'from', options.from);
  aString('uptrain', 'text', options.text);
  if (options.teacher !== undefined) aSource('uptrain', 'teacher', options.teacher);
  refuseInt8('uptrain', matmulPrecision());
  const { from, out, token, cache } = options;
  const opened = out === undefined ? undefined : await openRun(out, options.resume ?? false);
  await using checkpoint = await openCheckpoint(from, { token, cache });
  const { config } = await describeModel(checkpoint, await readyBackend());
  const recipe = await checkpoint.format.recipe(checkpoint);
  const settings = uptrainSettings(recipe, choiceOf(options), config.maxPositionEmbeddings);
  const tokenizer = await tokenizerOf(checkpoint);
  const tokens = Int32Array.from(tokenizer.encode(options.text, { addSpecialTokens: false }));
  const { vocabSize, hiddenSize, numLayers, numHeads, numKeyValueHeads } = config;
  const taught = teacherSettings(options, vocabSize);
  const teacher = taught === undefined ? null : sourceName(taught.teacher);
  const { teacherTopK = null, kdRatio = null } = taught ?? {};
  const unknown = tokens.find((id) => id >= vocabSize);
  if (unknown !== undefined) {
    throw new RangeError(
      `${sourceName(from)}: expected token ids below V=${vocabSize}, got ${unknown} from its tokenizer`,
    );
  }
  return await prepareRun({
    ...{ opened, tokenizer, tokens, settings },
    sizes: {
      ...{ vocabSize, hiddenSize, numLayers, numHeads, numKeyValueHeads },
      ...{ teacher, teacherTopK, kdRatio },
    },
    initialModel: () => loadTrainableModel(from, { token, cache }),
    form: (model) => formOf(checkpoint, model),
    recipe: (step) => ({ ...recipe, uptraining: [...(recipe?.uptraining ?? []), { settings, step }] }),
    loss:
      taught &&
      ((start) => {
        const { signal, onTeacher: onProgress } = options;
        const folder = opened?.directory.folder;
        return teacherLoss({ ...taught, ...start, vocabSize, folder, token, cache, signal, onProgress });
      }),
  });
}

/** The settings among the options. */
function choiceOf(options: UptrainOptions): UptrainChoice {
  const { from, token, cache, text, out, resume, ...rest } = options;
  const { evaluateEvery, saveEvery, keep, onMetric, signal, ...settings } = rest;
  const { teacher, teacherTopK, kdRatio, onTeacher, ...choice } = settings;
  return choice;
}

async function tokenizerOf(checkpoint: Checkpoint): Promise<Tokenizer> {
  const { makeTokenizer } = await checkpoint.format.text(checkpoint);
  if (!makeTokenizer) {
    throw new Error(
      `${checkpoint.path}: expected a checkpoint with a tokenizer (tokenizer.json, or a vocabulary in GGUF), got one without`,
    );
  }
  return makeTokenizer();
}
