/** `gqa generate` with several answers or log probabilities: they are printed when all of them are complete. */
import { type GenerateResult, generateBatch, type Model } from '../models/index.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { type BatchFlags, generationOptions } from './batch-options.ts';
import { exitCode } from './errors.ts';
import { untilInterrupt } from './interrupt.ts';
import { count, errColors, outColors, writeJson, writeNote, writeResult } from './output.ts';
import { startProgress } from './progress.ts';
import type { SamplingFlags } from './sampling-options.ts';
import { table } from './table.ts';

interface Flags extends BatchFlags, SamplingFlags {
  readonly maxTokens: number;
  readonly seed: number;
  readonly stop?: readonly string[];
  readonly json?: true;
}

export async function answerBatch(
  model: Model,
  tokenizer: Tokenizer,
  path: string,
  prompts: readonly number[][],
  flags: Flags,
  draftModel: Model | undefined,
): Promise<void> {
  const progress = startProgress('reading the prompts');
  const start = performance.now();
  let results: GenerateResult[][] | undefined;
  try {
    results = await untilInterrupt((signal) =>
      generateBatch(model, prompts, {
        ...generationOptions(model, flags, draftModel),
        n: flags.n,
        numBeams: flags.numBeams,
        logprobs: flags.logprobs ?? false,
        topLogprobs: flags.topLogprobs,
        signal,
        onPrefill: progress.update,
      }).catch((error) => {
        if (signal.aborted) return undefined;
        throw error;
      }),
    );
  } finally {
    progress.stop();
  }
  if (results === undefined) {
    writeNote('interrupted');
    process.exitCode = exitCode.interrupted;
    return;
  }
  const seconds = (performance.now() - start) / 1000;
  const text = ({ tokens }: GenerateResult) => tokenizer.decode([...tokens], { skipSpecialTokens: true });
  const made = results.flat().reduce((sum, { tokens }) => sum + tokens.length, 0);
  const promptTokens = prompts.reduce((sum, { length }) => sum + length, 0);
  const tokensPerSecond = made / seconds;
  if (flags.json) {
    const answers = results.flatMap((row, prompt) =>
      row.map((result) => ({ prompt, text: text(result), ...result })),
    );
    const backend = model.backend.description;
    writeJson({ model: path, backend, seed: flags.seed, promptTokens, seconds, tokensPerSecond, answers });
  } else {
    const several = results.flat().length > 1;
    results.forEach((row, prompt) => {
      row.forEach((result, index) => {
        if (several) writeResult(outColors.bold(heading(result, prompt, index, row.length)));
        writeResult(text(result));
        if (result.logprobs || result.topLogprobs) writeResult(`\n${likelihoods(result, tokenizer)}`);
        if (several) writeResult('');
      });
    });
  }
  writeNote(
    errColors.dim(
      `${count(promptTokens)} tokens of prompts, ${count(made)} generated, ${tokensPerSecond.toFixed(1)} tokens/s with the prompts`,
    ),
  );
}

function heading({ finishReason, score }: GenerateResult, prompt: number, index: number, n: number): string {
  const parts = [n > 1 ? `answer ${index + 1} of ${n}` : undefined, finishReason];
  if (score !== undefined) parts.push(`score ${score.toFixed(4)}`);
  return `prompt ${prompt + 1}: ${parts.filter((part) => part !== undefined).join(', ')}`;
}

/** A row per token: its text, log probability, and the likeliest tokens there. */
function likelihoods({ tokens, logprobs, topLogprobs }: GenerateResult, tokenizer: Tokenizer): string {
  const shown = (token: number) => JSON.stringify(tokenizer.decode([token]));
  const head = ['token', 'id', ...(logprobs ? ['logprob'] : []), ...(topLogprobs ? ['most likely'] : [])];
  const rows = tokens.map((token, i) => [
    shown(token),
    String(token),
    ...(logprobs ? [logprobs[i].toFixed(4)] : []),
    ...(topLogprobs
      ? [topLogprobs[i].map(({ token, logprob }) => `${shown(token)} ${logprob.toFixed(4)}`).join('  ')]
      : []),
  ]);
  return table(head, rows, logprobs ? [1, 2] : [1]);
}
