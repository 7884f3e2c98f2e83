/** Prepares a training run: a new one, or one that resumes from its newest checkpoint. */

import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { OPTIMIZER, RunDirectory, type RunState } from '../checkpoint/run-directory.ts';
import type { TrainRecipe, TrainSettings } from '../checkpoint/training-recipe.ts';
import type { Folder } from '../files/folder.ts';
import { folderAt, type PlaceLike } from '../files/place.ts';
import { loadTrainableModel, type TrainableModel } from '../models/trainable-model.ts';
import { matmulPrecision } from '../ops/matmul-precision.ts';
import { documentStart } from '../text/documents.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { CheckpointForm } from './checkpoint-form.ts';
import { restoreOptimizer } from './optimizer-file.ts';
import { differenceText, hashOf, RunConflictError, type RunIdentity } from './run-identity.ts';
import { splitTokens, type TokenSplit } from './token-data.ts';
import { type BatchLoss, Trainer, type TrainerSettings, trainerSettings } from './trainer.ts';
import type { Metric, RunPlace } from './training-run.ts';

/** A run's folder and its newest checkpoint, from which it resumes; undefined for a new run. */
export interface OpenedRun {
  readonly directory: RunDirectory;
  readonly latest: { readonly folder: Folder; readonly state: RunState } | undefined;
}

/** What a run is made of. */
export interface RunParts {
  /** Without it nothing is written. */
  readonly opened: OpenedRun | undefined;
  readonly tokenizer: Tokenizer;
  /** The text, of which the last part is held out. */
  readonly tokens: Int32Array;
  readonly settings: TrainSettings;
  /** The sizes of the model, for the identity of the run. */
  readonly sizes: RunIdentity;
  /** The model to start from; not called when resuming. */
  readonly initialModel: () => TrainableModel | Promise<TrainableModel>;
  readonly form: (model: TrainableModel) => CheckpointForm | Promise<CheckpointForm>;
  readonly recipe: (step: number) => TrainRecipe;
  /** Makes the loss of the run; called before a model is loaded. Default: the cross-entropy of the text. */
  readonly loss?: (start: RunStart) => Promise<BatchLoss>;
}

/** What is known of a run before its model is loaded. */
export interface RunStart {
  readonly data: TokenSplit;
  readonly settings: TrainerSettings;
  readonly identity: RunIdentity;
  /** Steps that were taken already. */
  readonly firstStep: number;
}

/** A run that is ready for its next step. */
export interface PreparedRun {
  /** Its model is the caller's to dispose. */
  readonly trainer: Trainer;
  readonly settings: TrainSettings;
  readonly tokenizer: Tokenizer;
  readonly data: TokenSplit;
  readonly place: RunPlace | undefined;
  /** The checkpoint it resumes from. */
  readonly resumedFrom: string | undefined;
  /** Metrics of the earlier steps. */
  readonly metrics: readonly Metric[];
}

/**
 * Opens the folder of a run.
 * @throws RunConflictError when it is not empty and `resume` is not set; FolderInUseError while another
 * process trains there
 */
export async function openRun(path: PlaceLike, resume: boolean): Promise<OpenedRun> {
  const folder = await folderAt(path);
  const directory = new RunDirectory(folder);
  if ((await folder.list()).length > 0) (await folder.lock())();
  const latest = await directory.latest();
  const entries = await directory.entries();
  if (!resume && entries.length > 0) {
    throw new RunConflictError(
      `${folder.name} is not empty: { resume: true } continues the run in it, another { out } starts a new one`,
    );
  }
  if (latest === undefined && entries.some((name) => name.startsWith('step-'))) {
    throw new Error(`${folder.name}: expected a file named latest beside its checkpoints, got none`);
  }
  return { directory, latest: latest && { folder: latest, state: await directory.state(latest) } };
}

/** @throws RunConflictError when the run in the folder has other settings, FormatError for a damaged one */
export async function prepareRun(parts: RunParts): Promise<PreparedRun> {
  const { opened, tokenizer, tokens, settings } = parts;
  const { validation, ...training } = settings;
  const start = documentStart(tokenizer);
  const data = splitTokens(tokens, settings.blockLength, validation, start);
  const blockStart = start.join(' ');
  const text = { tokens: tokens.length, tokensHash: hashOf(tokens), blockStart };
  const identity = { ...parts.sizes, ...settings, ...text, matmulPrecision: matmulPrecision() };
  const latest = opened?.latest;
  if (latest) checkSameRun(latest.folder, latest.state, identity);
  const firstStep = latest?.state.step ?? 0;
  const loss = await parts.loss?.({ data, settings: trainerSettings(training), identity, firstStep });
  const model = latest ? await loadTrainableModel(latest.folder) : await parts.initialModel();
  try {
    const trainer = new Trainer(model, data, training, loss);
    const place = opened && {
      directory: opened.directory,
      identity,
      form: await parts.form(model),
      recipe: parts.recipe,
      computedOn: computedBefore(latest?.state),
    };
    const metrics = opened && latest ? await restoreRun(opened.directory, latest, trainer) : [];
    return { trainer, settings, tokenizer, data, place, resumedFrom: latest?.folder.name, metrics };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** @throws RunConflictError naming the first setting that differs from the checkpoint's */
function checkSameRun(latest: Folder, state: RunState, identity: RunIdentity): void {
  // A checkpoint may lack these.
  const teacher = { teacher: null, teacherTopK: null, kdRatio: null };
  const defaults = { dropout: 0, blockStart: '', matmulPrecision: 'highest', ...teacher };
  const before: RunIdentity = { ...defaults, ...(state.identity as RunIdentity | undefined) };
  const difference = differenceText(before, identity);
  if (difference === undefined) return;
  throw new RunConflictError(`{ resume: true }: expected the run of ${latest.name}, ${difference}`);
}

/** What the steps up to a checkpoint were computed on; empty where it does not say. */
function computedBefore(state: RunState | undefined): readonly string[] {
  const found = state?.computedOn;
  return Array.isArray(found) ? found.filter((name) => typeof name === 'string') : [];
}

/**
 * Restores optimiser state and step from the checkpoint that the trainer's model was loaded from.
 * @returns the metrics up to it; later ones are logged again
 */
async function restoreRun(
  directory: RunDirectory,
  { folder, state }: NonNullable<OpenedRun['latest']>,
  trainer: Trainer,
): Promise<readonly Metric[]> {
  await using checkpoint = await openCheckpoint({ folder, file: OPTIMIZER });
  await restoreOptimizer(checkpoint, trainer.optimizer, state.counters, folder.nameOf('trainer.json'));
  trainer.resumeAt(state.step);
  const lines = await directory.readLines('metrics.jsonl');
  return lines.filter((line) => Number(line.step) <= state.step) as unknown as Metric[];
}
