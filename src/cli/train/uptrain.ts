/**
 * `gqa uptrain`: continues the training of a checkpoint, usually one converted to fewer key/value heads, by
 * its own recipe for a share of its original steps.
 */
import { Command } from 'commander';
import { prepareUptraining } from '../../train/uptrain.ts';
import { ELSEWHERE } from '../../train/uptrain-settings.ts';
import { addBackendOptions, useBackend } from '../backend-options.ts';
import { UsageError } from '../errors.ts';
import * as parse from '../options.ts';
import { writeNote } from '../output.ts';
import { readTrainingText } from '../read-text.ts';
import { addTrainingFlags, asFlags, settingsOf, type UptrainFlags, withFlagsOfRun } from './flags.ts';
import { trainRun } from './run.ts';

const about = `
The settings that are not given are those of the run that trained the checkpoint, which \`gqa train\` keeps with it and
\`gqa convert\` carries over; the learning rate's warm-up and decay run once more, over the new steps. A checkpoint
from elsewhere needs --steps, and gets
${asFlags(ELSEWHERE)}.
Weights are trained as f32 and written so, in the form the checkpoint has (a Hugging Face directory, or GGUF).

Examples:
  npx gqa convert run/step-2000 mqa --kv-heads 1
  npx gqa uptrain mqa --data moby-dick --out mqa-run --alpha 0.05
  npx gqa uptrain mqa --data moby-dick --out mqa-run --alpha 0.05 --resume
  npx gqa uptrain model.gguf --data text.txt --out run --steps 100 --block 128 --batch 2`;

export function uptrainCommand(): Command {
  const command = new Command('uptrain')
    .description('train a converted checkpoint further, by the recipe it was trained with')
    .argument('<checkpoint>', 'a Hugging Face directory or a .gguf file, with a tokenizer', parse.path);
  return addBackendOptions(addTrainingFlags(command, 'uptrain'), 'print one JSON object at the end')
    .addHelpText('after', about)
    .action(run);
}

async function run(from: string, given: UptrainFlags, command: Command): Promise<void> {
  if (given.alpha !== undefined && given.steps !== undefined) {
    throw new UsageError('expected --alpha or --steps, got both');
  }
  const flags = await withFlagsOfRun(given, command);
  const { alpha, out, resume } = flags;
  // A given --alpha must give the run's number of steps.
  const steps = alpha === undefined ? flags.steps : given.steps;
  if (alpha === 0) throw new UsageError('--alpha must be above 0');
  await useBackend(flags);
  const text = await readTrainingText(flags.data);
  const prepared = await prepareUptraining({ ...settingsOf(flags), from, text, alpha, steps, out, resume });
  const { settings } = prepared;
  const { peak, low } = { peak: settings.learningRate, low: settings.minLearningRate };
  writeNote(
    `${settings.steps} steps of ${settings.accumulate * settings.batchSize} x ${settings.blockLength} tokens, ` +
      `learning rate ${peak} to ${low} after ${settings.warmupSteps} steps of warm-up`,
  );
  await trainRun(`gqa uptrain: ${from} on ${flags.data}`, prepared, flags);
}
