/**
 * `gqa uptrain`: continues the training of a checkpoint, usually one converted to fewer key/value heads, by
 * its own recipe for a share of its original steps.
 */
import { Command } from 'commander';
import { prepareUptraining } from '../../train/uptrain.ts';
import { ELSEWHERE } from '../../train/uptrain-settings.ts';
import { addBackendOptions, useBackend } from '../backend-options.ts';
import { UsageError } from '../errors.ts';
import { addCacheOption, CHECKPOINT_HELP } from '../load-checkpoint.ts';
import * as parse from '../options.ts';
import { helpEnd, writeNote } from '../output.ts';
import { withProgress } from '../progress.ts';
import { readTrainingText } from '../read-text.ts';
import { addTrainingFlags, asFlags, settingsOf, type UptrainFlags, withFlagsOfRun } from './flags.ts';
import { trainRun } from './run.ts';

const about = `
Settings that are not given are those of the run that trained the checkpoint: \`gqa train\` stores them with it, and
\`gqa convert\` copies them. The learning rate warms up and decays once more, over the new steps. A checkpoint
without them needs --steps; its defaults are ${asFlags(ELSEWHERE)}.

With --teacher, the predictions of that checkpoint are computed first and kept in --out until the last step; after
Ctrl-C, --resume continues them too. Its vocabulary must be that of the checkpoint.

Weights are trained and written as f32, in the format of the checkpoint (a Hugging Face directory or GGUF).

Examples:
  npx gqa convert run/step-2000 mqa --kv-heads 1
  npx gqa uptrain mqa --data moby-dick --out mqa-run --alpha 0.05
  npx gqa uptrain mqa --data moby-dick --out mqa-run --alpha 0.05 --resume
  npx gqa uptrain model.gguf --data text.txt --out run --steps 100 --block 128 --batch 2
  npx gqa uptrain mqa --data text.txt --out run --steps 100 --teacher original`;

export function uptrainCommand(): Command {
  const command = new Command('uptrain')
    .description('continue the training of a converted checkpoint, by the recipe that trained it')
    .argument('<checkpoint>', `${CHECKPOINT_HELP}, with a tokenizer`, parse.path);
  addCacheOption(addTrainingFlags(command, 'uptrain'));
  return addBackendOptions(command, 'print one JSON object at the end')
    .addHelpText('after', helpEnd(about))
    .action(run);
}

async function run(from: string, given: UptrainFlags, command: Command): Promise<void> {
  if (given.alpha !== undefined && given.steps !== undefined) {
    throw new UsageError('expected --alpha or --steps, got both');
  }
  const flags = await withFlagsOfRun(given, command);
  const { alpha, cache, out, resume } = flags;
  // A given --alpha must give the run's number of steps.
  const steps = alpha === undefined ? flags.steps : given.steps;
  if (alpha === 0) throw new UsageError('--alpha must be above 0');
  await useBackend(flags);
  const text = await readTrainingText(flags.data);
  const { teacher, teacherTopK, kdRatio } = flags;
  const options = {
    ...settingsOf(flags),
    ...{ from, cache, text, alpha, steps, out, resume, teacher, teacherTopK, kdRatio },
  };
  const prepared = await withProgress(
    'teacher',
    teacher && `computing the predictions of ${teacher}`,
    (onTeacher) => prepareUptraining({ ...options, onTeacher }),
  );
  const { accumulate, batchSize, blockLength, learningRate, minLearningRate, warmupSteps } =
    prepared.settings;
  writeNote(
    `${prepared.settings.steps} steps of ${accumulate * batchSize} x ${blockLength} tokens, ` +
      `${warmupSteps} steps of warm-up, learning rate ${learningRate} to ${minLearningRate}`,
  );
  await trainRun(`gqa uptrain: ${from} on ${flags.data}`, prepared, flags);
}
