/** The flags of `gqa train` and `gqa uptrain`, in one table. */
import type { Command } from 'commander';
import { RunDirectory } from '../../checkpoint/run-directory.ts';
import type { TrainSettings } from '../../checkpoint/training-recipe.ts';
import { folderAt } from '../../files/place.ts';
import type { TrainerOptions } from '../../train/trainer.ts';
import { DEFAULT_ALPHA, type UptrainChoice } from '../../train/uptrain-settings.ts';
import type { BackendFlags } from '../backend-options.ts';
import type { CacheFlag } from '../load-checkpoint.ts';
import * as parse from '../options.ts';
import { writeNote } from '../output.ts';
import { DATA_HELP } from '../read-text.ts';

/** The folder of a run, and its intervals. */
export interface RunFlags extends BackendFlags {
  readonly data: string;
  readonly out: string;
  readonly evaluateEvery: number;
  readonly saveEvery?: number;
  readonly keep: number;
  readonly resume?: true;
}

export interface TrainFlags extends RunFlags, TrainerOptions {
  readonly validation: number;
  readonly tokenizer?: string;
  readonly numLayers: number;
  readonly hiddenSize?: number;
  readonly numHeads: number;
  readonly numKeyValueHeads?: number;
}

export interface UptrainFlags extends RunFlags, UptrainChoice, CacheFlag {
  readonly teacher?: string;
  readonly teacherTopK?: number;
  readonly kdRatio?: number;
}

/** The settings with a flag in both commands. */
type SettingName = Exclude<keyof TrainSettings, 'steps' | 'b1' | 'firstBatch'>;

/**
 * One flag: its syntax for commander; the name of its value, also in `Trainer` and the saved run; its parser
 * (none: a switch); its help; its default in each command. Without a default in `gqa uptrain`, the
 * checkpoint's recipe gives the value.
 */
type Flag<Name = keyof TrainFlags | keyof UptrainFlags> = readonly [
  flag: string,
  name: Name,
  check: ((text: string) => unknown) | undefined,
  help: string,
  defaults?: { readonly train?: number; readonly uptrain?: number },
];

const { positiveInteger, wholeNumber, notNegative, belowOne, probability, path } = parse;
const alphaHelp = `steps, as a share of those that trained the checkpoint (default: ${DEFAULT_ALPHA})`;
const teacherHelp = 'also train on KL to the predictions of this checkpoint, such as the original';
const evalHelp = 'steps between estimates of the training and validation loss';

const FLAGS: Readonly<Record<'place' | 'train' | 'uptrain' | 'run', readonly Flag[]>> & {
  readonly settings: readonly Flag<SettingName>[];
} = {
  place: [
    ['--data <text>', 'data', path, DATA_HELP],
    ['--out <folder>', 'out', path, 'folder for checkpoints, metrics and the page of curves'],
  ],
  train: [
    ['--tokenizer <checkpoint>', 'tokenizer', path, 'its tokenizer is used (default: a token per character)'],
    ['--layers <n>', 'numLayers', positiveInteger, 'decoder layers', { train: 4 }],
    ['--dim <D>', 'hiddenSize', positiveInteger, 'model dim (default: 32 per query head)'],
    ['--heads <N>', 'numHeads', positiveInteger, 'query heads', { train: 4 }],
    ['--kv-heads <K>', 'numKeyValueHeads', positiveInteger, 'key/value heads, a divisor of N (default: N)'],
    ['--steps <n>', 'steps', positiveInteger, 'steps of the whole run', { train: 2000 }],
  ],
  uptrain: [
    ['--alpha <share>', 'alpha', notNegative, alphaHelp],
    ['--steps <n>', 'steps', positiveInteger, 'steps, in place of --alpha'],
    ['--teacher <checkpoint>', 'teacher', path, teacherHelp],
    ['--kd-ratio <r>', 'kdRatio', probability, 'share of that KL in the loss (default: 0.5)'],
    ['--teacher-top-k <k>', 'teacherTopK', positiveInteger, 'tokens kept of each prediction (default: 64)'],
  ],
  settings: [
    ['--batch <B>', 'batchSize', positiveInteger, 'blocks per batch', { train: 12 }],
    ['--block <T>', 'blockLength', positiveInteger, 'tokens per block', { train: 64 }],
    ['--accumulate <n>', 'accumulate', positiveInteger, 'batches per step', { train: 1 }],
    ['--learning-rate <r>', 'learningRate', notNegative, 'peak learning rate', { train: 1e-3 }],
    ['--min-learning-rate <r>', 'minLearningRate', notNegative, 'final learning rate (default: peak / 10)'],
    ['--warmup <n>', 'warmupSteps', wholeNumber, 'warm-up steps (default: 100, at most a tenth of all)'],
    ['--weight-decay <d>', 'weightDecay', notNegative, 'AdamW weight decay, matrices only', { train: 0.1 }],
    ['--beta2 <b>', 'b2', belowOne, 'AdamW beta2', { train: 0.99 }],
    ['--clip <norm>', 'clip', notNegative, 'maximum gradient norm; 0: no clipping', { train: 1 }],
    ['--dropout <p>', 'dropout', belowOne, 'dropout rate, applied as in nanoGPT', { train: 0 }],
    ['--seed <n>', 'seed', wholeNumber, 'seed of batches, dropout and initial weights', { train: 1337 }],
    ['--validation <share>', 'validation', parse.share, 'share of the text to hold out', { train: 0.1 }],
    ['--eval-batches <n>', 'evaluationBatches', positiveInteger, 'batches per loss estimate', { train: 20 }],
  ],
  run: [
    ['--eval-every <n>', 'evaluateEvery', positiveInteger, evalHelp, { train: 250, uptrain: 50 }],
    ['--save-every <n>', 'saveEvery', positiveInteger, 'steps between checkpoints (default: --eval-every)'],
    ['--keep <n>', 'keep', positiveInteger, 'checkpoints to keep', { train: 2, uptrain: 2 }],
    ['--resume', 'resume', undefined, 'continue the run in --out from its newest checkpoint'],
  ],
};

/** Adds the flags of a command. */
export function addTrainingFlags(command: Command, name: 'train' | 'uptrain'): Command {
  const flags: readonly Flag[] = [FLAGS.place, FLAGS[name], FLAGS.settings, FLAGS.run].flat();
  for (const [flag, key, check, help, defaults] of flags) {
    const option = parse.named(flag, key, help, check);
    command.addOption(option.default(defaults?.[name]).makeOptionMandatory(key === 'data' || key === 'out'));
  }
  return command;
}

/** With `--resume`, flags that are not given come from the run; a given one must equal the run's. */
export async function withFlagsOfRun<F extends RunFlags>(flags: F, command: Command): Promise<F> {
  if (!flags.resume) return flags;
  const directory = new RunDirectory(await folderAt(flags.out));
  const latest = await directory.latest();
  if (latest === undefined) {
    writeNote(`no checkpoint to resume from in ${flags.out}: starting a new run`);
    return flags;
  }
  const { identity = {} } = (await directory.state(latest)) as { identity?: Record<string, unknown> };
  const kept = command.options
    .map((option) => option.attributeName())
    .filter((name) => command.getOptionValueSource(name) !== 'cli' && (identity[name] ?? null) !== null)
    .map((name) => [name, identity[name]]);
  return { ...flags, ...Object.fromEntries(kept) };
}

/** The settings among a command's flags. */
export function settingsOf<F extends Partial<TrainSettings>>(flags: F): Pick<F, SettingName & keyof F> {
  const kept = FLAGS.settings.map(([, name]) => [name, flags[name]]);
  return Object.fromEntries(kept) as Pick<F, SettingName & keyof F>;
}

/** The flags that give these settings, for the help: `--batch 4, --block 256`. */
export function asFlags(settings: Partial<TrainSettings>): string {
  const given = FLAGS.settings.filter(([, name]) => settings[name] !== undefined);
  return given.map(([flag, name]) => `${flag.split(' ')[0]} ${settings[name]}`).join(', ');
}
