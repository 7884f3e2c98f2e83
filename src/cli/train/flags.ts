/** The options that `gqa train` and `gqa uptrain` share. */
import type { Command } from 'commander';
import { RunDirectory } from '../../checkpoint/run-directory.ts';
import type { BackendFlags } from '../backend-options.ts';
import { UsageError } from '../errors.ts';
import * as parse from '../options.ts';
import { writeNote } from '../output.ts';

/** Where a run goes and how often it says something. */
export interface RunFlags extends BackendFlags {
  readonly data: string;
  readonly out: string;
  readonly evalEvery: number;
  readonly saveEvery?: number;
  readonly keep: number;
  readonly resume?: true;
}

/** Settings as `Trainer` has them, of which `gqa uptrain` finds those that are not given in the checkpoint. */
export interface SettingFlags {
  readonly block: number;
  readonly batch: number;
  readonly accumulate: number;
  readonly learningRate: number;
  readonly minLearningRate?: number;
  readonly warmup?: number;
  readonly weightDecay: number;
  readonly beta2: number;
  readonly clip: number;
  readonly dropout: number;
  readonly seed: number;
  readonly validation: number;
  readonly evalBatches: number;
}

/** Adds where the text comes from and the run goes to. */
export function addPlaceOptions(command: Command): Command {
  return command
    .requiredOption('--data <text>', 'a text file, a folder of them, or moby-dick', parse.path)
    .requiredOption('--out <folder>', 'where checkpoints, metrics and the page of curves go', parse.path);
}

/**
 * Adds the settings.
 * @param defaults what a setting is when it is not given; without one it stays undefined
 */
export function addSettingOptions(command: Command, defaults: Partial<SettingFlags>): Command {
  return command
    .option('--block <T>', 'tokens per block', parse.positiveInteger, defaults.block)
    .option('--batch <B>', 'blocks per batch', parse.positiveInteger, defaults.batch)
    .option('--accumulate <n>', 'batches per step', parse.positiveInteger, defaults.accumulate)
    .option('--learning-rate <r>', 'peak learning rate', parse.notNegative, defaults.learningRate)
    .option('--min-learning-rate <r>', 'at the end (default: a tenth of the peak)', parse.notNegative)
    .option('--warmup <n>', 'steps up to the peak (default: 100, at most a tenth)', parse.wholeNumber)
    .option('--weight-decay <d>', 'of matrices', parse.notNegative, defaults.weightDecay)
    .option('--beta2 <b>', "AdamW's second beta", parse.fraction, defaults.beta2)
    .option(
      '--clip <norm>',
      'largest norm of the gradients; 0 switches clipping off',
      parse.notNegative,
      defaults.clip,
    )
    .option(
      '--dropout <p>',
      'share that training steps drop, as nanoGPT does',
      parse.belowOne,
      defaults.dropout,
    )
    .option('--seed <n>', 'of the batches, the dropout and fresh weights', parse.wholeNumber, defaults.seed)
    .option('--validation <share>', 'last part of the text, held out', parse.fraction, defaults.validation)
    .option('--eval-batches <n>', 'batches per estimate', parse.positiveInteger, defaults.evalBatches);
}

/** Adds how often to estimate and to save. */
export function addRunOptions(command: Command, evalEvery: number): Command {
  return command
    .option('--eval-every <n>', 'steps between estimates of both losses', parse.positiveInteger, evalEvery)
    .option('--save-every <n>', 'steps between checkpoints (default: --eval-every)', parse.positiveInteger)
    .option('--keep <n>', 'checkpoints that are kept', parse.positiveInteger, 2)
    .option('--resume', 'go on from the newest checkpoint in --out, with the settings of its run');
}

/** @throws UsageError for values that no run can have */
export function checkSettings({ validation, beta2 }: Partial<SettingFlags>): void {
  if (validation !== undefined && (validation <= 0 || validation >= 1)) {
    throw new UsageError(`--validation must be between 0 and 1, got ${validation}`);
  }
  if (beta2 !== undefined && beta2 >= 1) throw new UsageError(`--beta2 must be below 1, got ${beta2}`);
}

/** Flags under the names that `Trainer` has for them. */
interface SettingsOf<F extends Partial<SettingFlags>> {
  readonly batchSize: F['batch'];
  readonly blockLength: F['block'];
  readonly accumulate: F['accumulate'];
  readonly learningRate: F['learningRate'];
  readonly minLearningRate: F['minLearningRate'];
  readonly warmupSteps: F['warmup'];
  readonly weightDecay: F['weightDecay'];
  readonly b2: F['beta2'];
  readonly clip: F['clip'];
  readonly dropout: F['dropout'];
  readonly seed: F['seed'];
  readonly validation: F['validation'];
  readonly evaluationBatches: F['evalBatches'];
}

/** Under which name a run keeps each flag that it goes on with. */
const KEPT_AS: Readonly<Record<string, string>> = {
  layers: 'numLayers',
  dim: 'hiddenSize',
  heads: 'numHeads',
  kvHeads: 'numKeyValueHeads',
  steps: 'steps',
  block: 'blockLength',
  batch: 'batchSize',
  accumulate: 'accumulate',
  learningRate: 'learningRate',
  minLearningRate: 'minLearningRate',
  warmup: 'warmupSteps',
  weightDecay: 'weightDecay',
  beta2: 'b2',
  clip: 'clip',
  dropout: 'dropout',
  seed: 'seed',
  validation: 'validation',
  evalBatches: 'evaluationBatches',
};

/**
 * With `--resume`, the flags that were not given are those of the run; one that was given stays, and is refused where it is
 * another.
 */
export function withFlagsOfRun<F extends RunFlags>(flags: F, command: Command): F {
  if (!flags.resume) return flags;
  const directory = new RunDirectory(flags.out);
  const latest = directory.latest();
  if (latest === undefined) {
    writeNote(`no checkpoint to go on from in ${flags.out}: starting anew`);
    return flags;
  }
  const { identity = {} } = directory.state(latest) as { identity?: Record<string, unknown> };
  const kept = command.options
    .map((option) => option.attributeName())
    .filter((name) => command.getOptionValueSource(name) !== 'cli' && KEPT_AS[name] in identity)
    .map((name) => [name, identity[KEPT_AS[name]]]);
  return { ...flags, ...Object.fromEntries(kept) };
}

export function settingsOf<F extends Partial<SettingFlags>>(flags: F): SettingsOf<F> {
  return {
    batchSize: flags.batch,
    blockLength: flags.block,
    accumulate: flags.accumulate,
    learningRate: flags.learningRate,
    minLearningRate: flags.minLearningRate,
    warmupSteps: flags.warmup,
    weightDecay: flags.weightDecay,
    b2: flags.beta2,
    clip: flags.clip,
    dropout: flags.dropout,
    seed: flags.seed,
    validation: flags.validation,
    evaluationBatches: flags.evalBatches,
  };
}
