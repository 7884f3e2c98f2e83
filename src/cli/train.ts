/**
 * `gqa train`: a GPT with any number of key/value heads on a text, by nanoGPT's recipe. Losses go to `metrics.jsonl` and a page
 * of curves; checkpoints are Hugging Face directories with what it takes to go on.
 */
import { Command, Option } from 'commander';
import { setBackend, setThreads } from '../backend/index.ts';
import { exitCode, UsageError } from './errors.ts';
import * as parse from './options.ts';
import type { TrainFlags } from './train-flags.ts';
import { trainRun } from './train-run.ts';

const example = `
Examples:
  npx gqa train --data moby-dick --out run --heads 4 --kv-heads 2
  npx gqa train --data notes/ --out run --layers 6 --dim 384 --heads 6 --kv-heads 2 --block 256 --batch 16
  npx gqa train --data moby-dick --out run --resume
  npx gqa generate run/step-2000 --prompt "Call me" --temperature 0.8`;

export function trainCommand(): Command {
  return new Command('train')
    .description('train a GPT with any number of key/value heads on a text')
    .requiredOption('--data <text>', 'a text file, a folder of them, or moby-dick')
    .requiredOption('--out <folder>', 'where checkpoints, metrics and the page of curves go')
    .option('--tokenizer <checkpoint>', 'use its tokenizer (default: one token per character)')
    .option('--layers <n>', 'decoder layers', parse.positiveInteger, 4)
    .option('--dim <D>', 'model dim', parse.positiveInteger, 128)
    .option('--heads <N>', 'query heads', parse.positiveInteger, 4)
    .option('--kv-heads <K>', 'key/value heads, a divisor of N (default: N)', parse.positiveInteger)
    .option('--block <T>', 'tokens per block', parse.positiveInteger, 64)
    .option('--batch <B>', 'blocks per batch', parse.positiveInteger, 12)
    .option('--accumulate <n>', 'batches per step', parse.positiveInteger, 1)
    .option('--steps <n>', 'steps of the whole run', parse.positiveInteger, 2000)
    .option('--learning-rate <r>', 'peak learning rate', parse.temperature, 1e-3)
    .option('--min-learning-rate <r>', 'at the end (default: a tenth of the peak)', parse.temperature)
    .option('--warmup <n>', 'steps up to the peak (default: 100, at most a tenth)', parse.wholeNumber)
    .option('--weight-decay <d>', 'of matrices', parse.temperature, 0.1)
    .option('--beta2 <b>', "AdamW's second beta", parse.fraction, 0.99)
    .option('--clip <norm>', 'largest norm of the gradients', parse.temperature, 1)
    .option('--seed <n>', 'of the weights and the batches', parse.wholeNumber, 1337)
    .option('--validation <share>', 'last part of the text that is not trained on', parse.fraction, 0.1)
    .option('--eval-every <n>', 'steps between estimates of both losses', parse.positiveInteger, 250)
    .option('--eval-batches <n>', 'batches per estimate', parse.positiveInteger, 20)
    .option('--save-every <n>', 'steps between checkpoints (default: --eval-every)', parse.positiveInteger)
    .option('--keep <n>', 'checkpoints that are kept', parse.positiveInteger, 2)
    .option('--resume', 'go on from the newest checkpoint in --out')
    .addOption(
      new Option('--backend <name>', 'what computes (default: native where it was built)').choices([
        'native',
        'wasm',
        'reference',
      ]),
    )
    .option('--threads <n>', 'threads of the native backend (default: one per processor)', parse.threadCount)
    .option('--json', 'print one JSON object at the end')
    .addHelpText('after', example)
    .action(async (flags: TrainFlags) => {
      const { heads: N, kvHeads: K = N } = flags;
      if (N % K !== 0) throw new UsageError(`--kv-heads must divide --heads, got K=${K} and N=${N}`);
      if (flags.validation <= 0 || flags.validation >= 1) {
        throw new UsageError(`--validation must be between 0 and 1, got ${flags.validation}`);
      }
      if (flags.clip === 0) throw new UsageError('--clip must be above 0');
      if (flags.beta2 >= 1) throw new UsageError(`--beta2 must be below 1, got ${flags.beta2}`);
      if (flags.backend !== undefined) await setBackend(flags.backend);
      if (flags.threads !== undefined) setThreads(flags.threads);
      process.exitCode = (await trainRun(flags)) ? exitCode.done : exitCode.interrupted;
    });
}
