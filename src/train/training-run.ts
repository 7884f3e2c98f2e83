/**
 * A training run: steps, estimates of both losses, checkpoints in a folder. A resumed run gives the same bits
 * on the same backend and instruction set, with any number of threads. It prints nothing; `onMetric` reports.
 */

import { checkInteger } from '../arguments/kinds.ts';
import type { RunDirectory } from '../checkpoint/run-directory.ts';
import type { TrainRecipe } from '../checkpoint/training-recipe.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import type { CheckpointForm } from './checkpoint-form.ts';
import type { RunIdentity } from './run-identity.ts';
import type { Trainer } from './trainer.ts';

/** A line of metrics.jsonl: a step and the loss of its batches, or estimates of both losses after a step. */
export interface Metric {
  /** Steps taken; 0 before the first. */
  readonly step: number;
  /** Mean loss of the step's batches, in nats: the cross-entropy; with a teacher, the loss of distillation. */
  readonly loss?: number;
  /** Learning rate of the step. */
  readonly learningRate?: number;
  /** Estimate on the training part, in nats. */
  readonly trainLoss?: number;
  /** Estimate on the held-out part, in nats. */
  readonly validationLoss?: number;
}

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

/** Backend and instruction set, which decide the last bits of a run; the number of threads does not. */
export function computedOn({ description }: { readonly description: string }): string {
  return description.replace(/, \d+ threads?(: .*)?\)$/, ')');
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
    await trainer.prepare();
    const loss = trainer.advance();
    const { step } = trainer;
    await note({ step, loss, learningRate: trainer.schedule(step - 1) });
    if (step % evaluateEvery === 0 || step === steps) await evaluate();
    if (step % saveEvery === 0 || step === steps) await save();
    // Let the event loop deliver signals between steps.
    await eventLoopTurn();
  }
  if (saved !== trainer.step) await save();
  if (trainer.step === steps) await trainer.finish();
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
