/** The flags of `gqa generate` for several answers, beams, log probabilities and speculation. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { GenerateOptions, Model } from '../models/index.ts';
import { UsageError } from './errors.ts';
import * as parse from './options.ts';
import { utf8Text } from './read-text.ts';
import { type SamplingFlags, samplingOptions } from './sampling-options.ts';

export interface BatchFlags {
  readonly prompt?: string;
  readonly prompts?: string;
  readonly n: number;
  readonly numBeams: number;
  readonly logprobs?: true;
  readonly topLogprobs: number;
  readonly promptLookup?: number;
  readonly draft?: string;
}

export function addBatchOptions(command: Command): Command {
  return command
    .option('--prompts <file>', 'continue each line of a file, all together', parse.path)
    .option('--n <n>', 'answers per prompt', parse.positiveInteger, 1)
    .option('--num-beams <n>', 'beam search with n beams, at --temperature 0', parse.positiveInteger, 1)
    .option('--logprobs', 'print the log probability of each token')
    .option('--top-logprobs <k>', 'print the k most likely tokens at each token', parse.wholeNumber, 0)
    .option(
      '--prompt-lookup <n>',
      'propose up to n tokens that followed the last ones before, and check them in one pass',
      parse.positiveInteger,
    )
    .option('--draft <checkpoint>', 'a small model of the same vocabulary that proposes tokens', parse.path);
}

/** Whether the answers are printed at the end, by `generateBatch`, and not as they come. */
export function isBatch({ prompts, n, numBeams, logprobs, topLogprobs }: BatchFlags): boolean {
  return prompts !== undefined || n > 1 || numBeams > 1 || logprobs === true || topLogprobs > 0;
}

/** @throws UsageError for flags that contradict each other */
export function checkBatchFlags(
  flags: BatchFlags & SamplingFlags & { context?: number; kvDtype: string; stop?: readonly string[] },
): void {
  const { prompt, prompts, n, numBeams, promptLookup, draft } = flags;
  const refuse = (wrong: boolean, message: string) => {
    if (wrong) throw new UsageError(message);
  };
  refuse(prompt !== undefined && prompts !== undefined, 'expected --prompt or --prompts, got both');
  refuse(promptLookup !== undefined && draft !== undefined, 'expected --prompt-lookup or --draft, got both');
  if (numBeams > 1) {
    refuse(n > numBeams, `expected --n of at most --num-beams, which is ${numBeams}, got ${n}`);
    refuse(flags.temperature > 0, `expected --temperature 0 with --num-beams, got ${flags.temperature}`);
    const speculation = promptLookup === undefined ? '--draft' : '--prompt-lookup';
    refuse((promptLookup ?? draft) !== undefined, `expected no ${speculation} with --num-beams`);
    refuse(flags.stop !== undefined, 'expected no --stop with --num-beams');
  }
  if (!isBatch(flags)) return;
  const why = 'with several answers or log probabilities';
  refuse(flags.context !== undefined, `expected no --context ${why}, got ${flags.context}`);
  refuse(flags.kvDtype !== 'f32', `expected --kv-dtype f32 ${why}, got ${flags.kvDtype}`);
}

/** The options that `generate` and `generateBatch` share. */
export function generationOptions(
  model: Model,
  flags: SamplingFlags & {
    readonly maxTokens: number;
    readonly seed?: number;
    readonly stop?: readonly string[];
    readonly promptLookup?: number;
  },
  draftModel: Model | undefined,
): Omit<GenerateOptions, 'cache'> {
  return {
    ...samplingOptions(flags),
    maxNewTokens: flags.maxTokens,
    seed: flags.seed,
    stop: [...model.endTokenIds, ...(flags.stop ?? [])],
    promptLookup: flags.promptLookup,
    draftModel,
  };
}

/** The lines of the file of `--prompts`. @throws Error when it has none, or an empty one */
export function readPrompts(file: string): readonly string[] {
  const lines = utf8Text(file, readFileSync(file))
    .replace(/\r?\n$/, '')
    .split(/\r?\n/);
  const empty = lines.indexOf('');
  if (empty >= 0) throw new Error(`${file}: expected a prompt in each line, got an empty line ${empty + 1}`);
  return lines;
}
