/** The options of commands that choose tokens: one flag for each of the library's `SamplingOptions`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { SamplingOptions } from '../models/index.ts';
import { UsageError } from './errors.ts';
import * as parse from './options.ts';
import { writeNote } from './output.ts';

/** The options as flags; `--temperature` has a default. */
export interface SamplingFlags extends Omit<SamplingOptions, 'logitsProcessors'> {
  readonly temperature: number;
}

export function addSamplingOptions(command: Command): Command {
  const ngrams = new Option(
    '--no-repeat-ngram-size <n>',
    'let no n tokens in a row come twice, in prompt and text',
  ).argParser(parse.positiveInteger);
  // Part of the name, not the negation of `--repeat-ngram-size`.
  ngrams.negate = false;
  return command
    .option('--temperature <t>', 'sampling temperature; 0 takes the most likely token', parse.notNegative, 0)
    .option('--top-k <k>', 'sample from the k most likely tokens', parse.positiveInteger)
    .option(
      '--top-p <p>',
      'sample from the most likely tokens that together have probability p',
      parse.probability,
    )
    .option('--min-p <p>', 'sample from tokens at least p times as likely as the most likely', parse.fraction)
    .option(
      '--typical-p <p>',
      'sample from the tokens of most typical probability that together have probability p',
      parse.probability,
    )
    .option(
      '--repetition-penalty <x>',
      'divide the logits of tokens of prompt and text by x, multiply negative ones; 1 changes nothing',
      parse.positiveNumber,
    )
    .option(
      '--presence-penalty <x>',
      'subtract x from the logits of tokens generated so far (-2 to 2)',
      parse.penalty,
    )
    .option(
      '--frequency-penalty <x>',
      'subtract x for each time that a token was generated so far (-2 to 2)',
      parse.penalty,
    )
    .addOption(ngrams)
    .option(
      '--logit-bias <id=value,...>',
      'add values to the logits of these token ids; -inf excludes a token',
      logitBias,
    )
    .option('--min-new-tokens <n>', 'let no end token come before n tokens', parse.wholeNumber);
}

/** Notes flags that change nothing, as transformers does. @throws UsageError for flags that contradict. */
export function checkSamplingFlags(flags: SamplingFlags, maxTokens: number): void {
  if (flags.minNewTokens !== undefined && flags.minNewTokens > maxTokens) {
    throw new UsageError(
      `expected --min-new-tokens up to --max-tokens, which is ${maxTokens}, got ${flags.minNewTokens}`,
    );
  }
  if (flags.temperature > 0) return;
  for (const [flag, value] of [
    ['--top-k', flags.topK],
    ['--top-p', flags.topP],
    ['--min-p', flags.minP],
    ['--typical-p', flags.typicalP],
  ]) {
    if (value === undefined) continue;
    writeNote(`${flag} changes nothing at --temperature 0, which takes the likeliest token`);
  }
}

export function samplingOptions(flags: SamplingFlags): SamplingOptions {
  return {
    temperature: flags.temperature,
    topK: flags.topK,
    topP: flags.topP,
    minP: flags.minP,
    typicalP: flags.typicalP,
    repetitionPenalty: flags.repetitionPenalty,
    presencePenalty: flags.presencePenalty,
    frequencyPenalty: flags.frequencyPenalty,
    noRepeatNgramSize: flags.noRepeatNgramSize,
    logitBias: flags.logitBias,
    minNewTokens: flags.minNewTokens,
  };
}

/** `15=-2.5,7=-inf`; the values of several `--logit-bias` come together. */
function logitBias(text: string, before: Readonly<Record<number, number>> = {}): Record<number, number> {
  const bias: Record<number, number> = { ...before };
  for (const item of text.split(',')) {
    const [, id, value] = /^\s*(\d+)\s*=\s*(-inf|[-+.\de]+)\s*$/i.exec(item) ?? [];
    const number = value?.toLowerCase() === '-inf' ? Number.NEGATIVE_INFINITY : Number(value);
    if (Number.isNaN(number) || number === Number.POSITIVE_INFINITY || Number(id) in bias) {
      throw new InvalidArgumentError(
        'Expected token ids with a number each, every id once, such as 15=-2.5,7=-inf.',
      );
    }
    bias[Number(id)] = number;
  }
  return bias;
}
