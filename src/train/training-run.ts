/**
 * A training run: steps, estimates of both losses, checkpoints in a folder. A resumed run gives the same bits
 * on the same backend and instruction set, with any number of threads. It prints nothing; `onMetric` reports.
 */

import { checkInteger, show } from '../arguments/kinds.ts';
import { convert } from '../backend/calls/copy.ts';
import { backendOfHandle } from '../backend/handle.ts';
import { loadTensor } from '../checkpoint/load-tensor.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { OPTIMIZER, RunDirectory } from '../checkpoint/run-directory.ts';
import type { TrainRecipe, TrainSettings } from '../checkpoint/training-recipe.ts';
import type { Folder } from '../files/folder.ts';
import { folderAt, type PlaceLike } from '../files/place.ts';
import { FormatError } from '../format/format-error.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { sameShape, shapeText } from '../tensor/shape.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { CheckpointForm } from './checkpoint-form.ts';
import type { TokenSplit } from './token-data.ts';
import type { Trainer } from './trainer.ts';

/** A line of metrics.jsonl: a step and the loss of its batches, or estimates of both losses after a step. */
export interface Metric {
  /** Steps taken; 0 before the first. */
  readonly step: number;
  /** Mean cross-entropy of the step's batches, in nats. */
  readonly loss?: number;
  /** Learning rate of the step. */
  readonly learningRate?: number;
  /** Estimate on the training part, in nats. */
  readonly trainLoss?: number;
  /** Estimate on the held-out part, in nats. */
  readonly validationLoss?: number;
}

/** The settings that determine a run's numbers; a run can resume only if all of them are equal. */
export type RunIdentity = Readonly<Record<string, string | number | null>>;

/** Intervals, folder and callbacks of a run. */
export interface RunOptions {
  /**
   * Steps between estimates of both losses; default 250. There is one before the first step and one after the
   * last.
   */
  readonly evaluateEvery?: number;
  /** Steps between checkpoints; default `evaluateEvery`. */
  readonly saveEvery?: number;
  /** Checkpoints that are kept; default 2. */
  readonly keep?: number;
  /** Called with each metric as it is logged. */
  readonly onMetric?: (metric: Metric) => void | Promise<void>;
  /** Stops the run after the current step and writes a checkpoint. */
  readonly signal?: AbortSignal;
}

/** Where a run keeps its checkpoints, and their contents. */
export interface RunPlace {
  readonly directory: RunDirectory;
  readonly identity: RunIdentity;
  readonly form: CheckpointForm;
  readonly recipe: (step: number) => TrainRecipe;
  /** Backends of the earlier steps, as in `RunResult`. */
  readonly computedOn: readonly string[];
}

/** A run that is ready for its next step. */
export interface PreparedRun {
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

/** How a run ended. */
export interface RunResult {
  /** False when the signal ended it before its last step. */
  readonly finished: boolean;
  /** All metrics, those before a resume included. */
  readonly metrics: readonly Metric[];
  /**
   * Backends and instruction sets, such as `native (avx512)`, oldest first. More than one: the run was
   * interrupted and went on elsewhere, and its numbers may differ in their last bits from those of one
   * without a break.
   */
  readonly computedOn: readonly string[];
}

/** The options conflict with the run in the folder. */
export class RunConflictError extends Error {
  override readonly name = 'RunConflictError';
}

/**
 * The folder of a run and, when resuming, its newest checkpoint.
 * @throws RunConflictError when it is not empty and `resume` is not set; FolderInUseError while another
 * process trains there
 */
export async function openRun(
  path: PlaceLike,
  resume: boolean,
): Promise<{ readonly directory: RunDirectory; readonly latest: Folder | undefined }> {
  const folder = await folderAt(path);
  const directory = new RunDirectory(folder);
  if ((await folder.list()).length > 0) (await folder.lock())();
  const latest = await directory.latest();
  const entries = await directory.entries();
  if (!resume && entries.length > 0) {
    throw new RunConflictError(
      `${folder.name} is not empty: { resume: true } goes on with it, another { out } starts anew`,
    );
  }
  if (latest === undefined && entries.some((name) => name.startsWith('step-'))) {
    throw new Error(`${folder.name}: expected a file named latest beside its checkpoints, got none`);
  }
  return { directory, latest };
}

/** @throws RunConflictError naming the first thing that is not as in the checkpoint. */
export async function checkSameRun(
  directory: RunDirectory,
  latest: Folder,
  identity: RunIdentity,
): Promise<void> {
  // Runs from before there was dropout, or a start of blocks, do not name them.
  const before: RunIdentity = {
    dropout: 0,
    blockStart: '',
    ...((await directory.state(latest)).identity as RunIdentity | undefined),
  };
  const key = Object.keys(identity).find((name) => before[name] !== identity[name]);
  if (key === undefined) return;
  throw new RunConflictError(
    `{ resume: true }: expected the run of ${latest.name}, whose ${key} is ${before[key]}, got ${identity[key]}`,
  );
}

/** Backend and instruction set, which decide the last bits of a run; the number of threads does not. */
export function computedOn({ description }: { readonly description: string }): string {
  return description.replace(/, \d+ threads?\)$/, ')');
}

/** What the steps up to a checkpoint were computed on; empty where it does not say. */
export async function computedBefore(
  directory: RunDirectory,
  latest: Folder | undefined,
): Promise<readonly string[]> {
  const found = latest && (await directory.state(latest)).computedOn;
  return Array.isArray(found) ? found.filter((name) => typeof name === 'string') : [];
}

/** Tokens, and what blocks of them begin with, as entries of an identity. */
export function tokensIdentity(tokens: Int32Array, start: readonly number[]): RunIdentity {
  let hash = 0x811c9dc5; // FNV-1a over ids
  for (const id of tokens) hash = Math.imul(hash ^ id, 0x01000193);
  return { tokens: tokens.length, tokensHash: hash >>> 0, blockStart: start.join(' ') };
}

/**
 * Restores optimiser state and step from the checkpoint that the trainer's model was loaded from.
 * @returns the metrics up to it; later ones are logged again
 */
export async function restoreRun(
  directory: RunDirectory,
  latest: Folder,
  trainer: Trainer,
): Promise<readonly Metric[]> {
  const state = await directory.state(latest);
  const backend = backendOfHandle(trainer.model.backend);
  await using checkpoint = await openCheckpoint({ folder: latest, file: OPTIMIZER });
  for (const [name, tensor] of Object.entries(trainer.optimizer.tensors)) {
    const { shape } = checkpoint.tensor(name);
    if (!sameShape(shape, tensor.shape)) {
      const detail = `${name}: expected shape ${shapeText(tensor.shape)}, got ${shapeText(shape)}`;
      throw new FormatError(checkpoint.path, undefined, detail);
    }
    const loaded = loadTensor(checkpoint, name, { backend, dtype: 'f32' });
    backend.run(convert, { out: tensor, x: loaded, count: tensor.size });
    loaded.dispose();
  }
  const counters = { ...(state.counters as object | undefined) } as Record<string, unknown>;
  for (const name of Object.keys(trainer.optimizer.counters)) {
    const value = counters[name];
    if (!Number.isSafeInteger(value) || Number(value) < 0) {
      const detail = `counters.${name}: expected an integer of at least 0, got ${show(value)}`;
      throw new FormatError(latest.nameOf('trainer.json'), undefined, detail);
    }
  }
  trainer.resumeAt(state.step, counters as Record<string, number>);
  const lines = (await directory.readLines('metrics.jsonl')).filter(
    (line) => Number(line.step) <= state.step,
  );
  return lines as unknown as Metric[];
}

/**
 * Trains until the last step, or until the signal is aborted.
 * @param place where checkpoints go; without it none is written
 * @param before metrics of the run so far
 * @throws RangeError for numbers among the options that are no positive integers; DivergedError as
 * `Trainer.advance`; what was saved before stays. FolderInUseError while another process trains there.
 */
export async function runTraining(
  trainer: Trainer,
  options: RunOptions = {},
  place?: RunPlace,
  before: readonly Metric[] = [],
): Promise<RunResult> {
  for (const name of ['evaluateEvery', 'saveEvery', 'keep'] as const) {
    const value = options[name];
    if (value !== undefined) checkInteger('train', name, value, 1);
  }
  await place?.directory.folder.create();
  const unlock = await place?.directory.folder.lock();
  try {
    return await advanceToTheEnd(trainer, options, place, before);
  } finally {
    unlock?.();
  }
}

async function advanceToTheEnd(
  trainer: Trainer,
  options: RunOptions,
  place: RunPlace | undefined,
  before: readonly Metric[],
): Promise<RunResult> {
  const { evaluateEvery = 250, keep = 2, onMetric, signal } = options;
  const { saveEvery = evaluateEvery } = options;
  const { steps } = trainer.settings;
  const metrics = [...before];
  // Also of a run that was killed before its first checkpoint.
  const lines = before.map((line) => `${JSON.stringify(line)}\n`);
  await place?.directory.folder.write('metrics.jsonl', lines.join(''));

  const note = async (metric: Metric): Promise<void> => {
    metrics.push(metric);
    await place?.directory.appendLine('metrics.jsonl', metric);
    await onMetric?.(metric);
  };
  const evaluate = (): Promise<void> => {
    const trainLoss = trainer.evaluate('train');
    return note({ step: trainer.step, trainLoss, validationLoss: trainer.evaluate('validation') });
  };
  let saved = trainer.step;
  const save = async (): Promise<void> => {
    if (place) await saveRun(trainer, place, keep);
    saved = trainer.step;
  };

  if (trainer.step === 0) await evaluate();
  while (trainer.step < steps && !signal?.aborted) {
    const loss = trainer.advance();
    const { step } = trainer;
    await note({ step, loss, learningRate: trainer.schedule(step - 1) });
    if (step % evaluateEvery === 0 || step === steps) await evaluate();
    if (step % saveEvery === 0 || step === steps) await save();
    // Let the event loop deliver signals between steps.
    await eventLoopTurn();
  }
  if (saved !== trainer.step) await save();
  return { finished: trainer.step === steps, metrics, computedOn: places(trainer, place) };
}

/** The backends of a run so far, the current one included. */
function places(trainer: Trainer, place: RunPlace | undefined): readonly string[] {
  const before = place?.computedOn ?? [];
  const now = computedOn(trainer.model.backend);
  return before.at(-1) === now ? before : [...before, now];
}

async function saveRun(trainer: Trainer, place: RunPlace, keep: number): Promise<void> {
  const { step, model, optimizer } = trainer;
  await place.directory.save(
    {
      step,
      writeModel: (folder) => place.form.write(folder, model, place.recipe(step)),
      optimizer: optimizer.tensors,
      state: {
        identity: place.identity,
        step,
        counters: optimizer.counters,
        computedOn: places(trainer, place),
      },
    },
    keep,
  );
}
