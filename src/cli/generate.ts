/**
 * `gqa generate`: a model continues a prompt or answers a chat. The text streams to stdout; tokens per second
 * and the bytes of the KV cache are printed to stderr at the end.
 */
import { randomInt } from 'node:crypto';
import { Command } from 'commander';
import { getBackend } from '../backend/index.ts';
import type { KeyValueCache } from '../cache/cache.ts';
import { generate, type Model } from '../models/index.ts';
import { documentStart } from '../text/documents.ts';
import { StreamingDecoder } from '../text/streaming-decoder.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { addBackendOptions, type BackendFlags, useBackend } from './backend-options.ts';
import {
  addBatchOptions,
  type BatchFlags,
  checkBatchFlags,
  generationOptions,
  isBatch,
  readPrompts,
} from './batch-options.ts';
import { addChatOptions, type Chat, type ChatFlags, checkChatFlags, readChat } from './chat-options.ts';
import { exitCode, UsageError } from './errors.ts';
import { answerBatch } from './generate-batch.ts';
import { untilInterrupt } from './interrupt.ts';
import { addLoadOptions, CHECKPOINT_HELP, type LoadFlags, loadWithProgress } from './load-checkpoint.ts';
import * as parse from './options.ts';
import { count, errColors, exactSize, helpEnd, writeJson, writeNote, writePiece } from './output.ts';
import { startProgress } from './progress.ts';
import { knownText, neededTokenizer, utf8Text } from './read-text.ts';
import { addSamplingOptions, checkSamplingFlags, type SamplingFlags } from './sampling-options.ts';

interface GenerateFlags extends BackendFlags, BatchFlags, LoadFlags, ChatFlags, SamplingFlags {
  readonly maxTokens: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly context?: number;
  readonly kvDtype: (typeof KV_DTYPES)[number];
}

/** Why the text ends: an end token or stop string, `--max-tokens`, a full cache or context, Ctrl-C. */
type FinishReason = 'stop' | 'length' | 'context' | 'interrupted';

interface Outcome {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly promptTokens: number;
  readonly finishReason: FinishReason;
  /** Seconds of prefill; undefined when it was interrupted. */
  readonly prefillSeconds: number | undefined;
  /** Seconds from the first generated token to the last. */
  readonly decodeSeconds: number;
}

/** Types of `--kv-dtype`. */
export const KV_DTYPES = ['f32', 'f16', 'bf16', 'q8_0'] as const;

const example = `
Examples:
  npx gqa generate model.gguf --prompt "Once upon a time" --max-tokens 64
  npx gqa generate org/name --cache models --prompt "Once upon a time"
  npx gqa generate model.gguf --chat --system "Answer in one word." --prompt "The capital of France?"
  npx gqa generate model.gguf --chat --messages turns.json --tools tools.json --template-var enable_thinking=false
  npx gqa generate model.gguf --prompts questions.txt --chat --n 3 --temperature 1 --json
  npx gqa generate model.gguf --prompt "The sea" --num-beams 4 --logprobs
  git diff | npx gqa generate model.gguf --chat --prompt - --temperature 0.7 --top-p 0.9 --seed 1`;

export function generateCommand(): Command {
  const command = new Command('generate')
    .description('continue a prompt, or answer it as a chat')
    .argument('<checkpoint>', `${CHECKPOINT_HELP}, with a tokenizer`, parse.path)
    .option('--prompt <text>', 'text to continue; - reads stdin, without the newline at its end');
  addChatOptions(command).option(
    '--max-tokens <n>',
    'maximum number of tokens to generate',
    parse.wholeNumber,
    256,
  );
  addBatchOptions(command);
  addSamplingOptions(command)
    .option(
      '--seed <n>',
      'random seed; the same seed gives the same text (default: random)',
      parse.wholeNumber,
    )
    .option('--stop <text>', 'end before this text (may be given several times)', parse.moreText)
    .option('--context <n>', 'tokens in the KV cache (default: prompt + --max-tokens)', parse.positiveInteger)
    .addOption(parse.oneOf('--kv-dtype <dtype>', 'type of the KV cache', KV_DTYPES, 'f32'));
  addLoadOptions(command);
  return addBackendOptions(command, 'print one JSON object at the end instead of the text')
    .addHelpText('after', helpEnd(example))
    .action(run);
}

async function run(path: string, flags: GenerateFlags): Promise<void> {
  checkChatFlags(flags);
  checkSamplingFlags(flags, flags.maxTokens);
  checkBatchFlags(flags);
  const promptText = flags.prompt === '-' ? await readStdin() : flags.prompt;
  if (promptText === '') throw new UsageError('expected a prompt of at least one character, got none');
  const texts = flags.prompts === undefined ? [promptText] : readPrompts(flags.prompts);
  const prompts = texts.map((text) => (flags.chat ? readChat(flags, text) : (text ?? '')));

  await useBackend(flags);
  const model = await loadWithProgress(path, flags);
  let draftModel: Model | undefined;
  try {
    if (flags.draft !== undefined) draftModel = await loadWithProgress(flags.draft, flags);
    await answer(model, draftModel, path, prompts, flags);
  } finally {
    draftModel?.dispose();
    model.dispose();
  }
}

async function answer(
  model: Model,
  draftModel: Model | undefined,
  path: string,
  texts: readonly (string | Chat)[],
  flags: GenerateFlags,
): Promise<void> {
  const tokenizer = neededTokenizer(path, model.tokenizer);
  // Not before loading: a file that cannot be loaded gives one line only.
  if (!process.stderr.isTTY) writeNote(`loaded ${path} on ${getBackend().description}`);
  const prompts = texts.map((text) => promptTokens(tokenizer, path, text));
  const seed = flags.seed ?? randomInt(2 ** 32);
  if (isBatch(flags)) {
    await answerBatch(model, tokenizer, path, prompts, { ...flags, seed }, draftModel);
    return;
  }
  const [prompt] = prompts;
  const cache = makeCache(model, prompt.length, flags);
  try {
    const options = { ...flags, seed, draftModel };
    const outcome = await untilInterrupt((signal) =>
      stream(model, tokenizer, prompt, cache, options, signal),
    );
    if (flags.json) writeJson(toJson(path, model, cache, outcome, seed));
    else if (!outcome.text.endsWith('\n')) process.stdout.write('\n');
    writeSummary(cache, outcome);
    if (outcome.finishReason === 'interrupted') process.exitCode = exitCode.interrupted;
  } finally {
    cache.dispose();
  }
}

function promptTokens(tokenizer: Tokenizer, path: string, text: string | Chat): number[] {
  if (typeof text === 'string') {
    const known = knownText(tokenizer, '--prompt', text);
    return [...documentStart(tokenizer), ...tokenizer.encode(known, { addSpecialTokens: false })];
  }
  if (tokenizer.chatTemplates.size === 0) {
    throw new Error(`${path}: expected a chat template for --chat, got a checkpoint without one`);
  }
  const prompt = tokenizer.applyChatTemplate(text.messages, text.options);
  return tokenizer.encode(knownText(tokenizer, '--chat', prompt), { addSpecialTokens: false });
}

function makeCache(model: Model, promptLength: number, flags: GenerateFlags): KeyValueCache {
  const limit = model.config.maxPositionEmbeddings;
  if (flags.context !== undefined && flags.context > limit) {
    throw new Error(`expected --context of at most ${limit}, the model's context, got ${flags.context}`);
  }
  const maxLength = flags.context ?? Math.min(promptLength + flags.maxTokens, limit);
  if (promptLength > maxLength) {
    const owner = flags.context === undefined ? "the model's context" : '--context';
    throw new Error(`expected a prompt within ${owner} of ${maxLength} tokens, got ${promptLength}`);
  }
  return model.initCache({ batchSize: 1, maxLength, dtype: flags.kvDtype });
}

async function stream(
  model: Model,
  tokenizer: Tokenizer,
  prompt: number[],
  cache: KeyValueCache,
  flags: GenerateFlags & { readonly draftModel: Model | undefined },
  signal: AbortSignal,
): Promise<Outcome> {
  const decoder = new StreamingDecoder(tokenizer, { skipSpecialTokens: true });
  const tokens: number[] = [];
  let text = '';
  const write = (piece: string): void => {
    text += piece;
    if (!flags.json) writePiece(piece);
  };

  const progress = startProgress('reading the prompt');
  const start = performance.now();
  let prefilled: number | undefined;
  let first = 0;
  let last = 0;
  const options = {
    ...generationOptions(model, flags, flags.draftModel),
    cache,
    signal,
    onPrefill: (done: number, total: number): void => {
      progress.update(done, total);
      if (done < total) return;
      prefilled = performance.now();
      progress.stop();
    },
  };
  try {
    for await (const token of generate(model, prompt, options)) {
      last = performance.now();
      if (tokens.length === 0) first = last;
      tokens.push(token);
      write(decoder.push(token));
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    progress.stop();
  }
  write(decoder.flush());
  return {
    text,
    tokens,
    promptTokens: prompt.length,
    finishReason: finishReason(signal, tokens.length, prompt.length, flags.maxTokens, cache.maxLength),
    prefillSeconds: prefilled === undefined ? undefined : (prefilled - start) / 1000,
    decodeSeconds: (last - first) / 1000,
  };
}

function finishReason(
  signal: AbortSignal,
  made: number,
  promptLength: number,
  maxTokens: number,
  capacity: number,
): FinishReason {
  if (signal.aborted) return 'interrupted';
  if (made >= maxTokens) return 'length';
  return promptLength + made > capacity ? 'context' : 'stop';
}

const finishText: Record<FinishReason, string> = {
  stop: 'end token or stop string',
  length: 'reached --max-tokens',
  context: 'the context is full',
  interrupted: 'interrupted',
};

/** Tokens per second. Decoding counts tokens after the first, which the prefill pass gives. */
function rates(outcome: Outcome): { prefill: number | undefined; decode: number | undefined } {
  const { prefillSeconds, decodeSeconds, promptTokens, tokens } = outcome;
  const prefill =
    prefillSeconds !== undefined && prefillSeconds > 0 ? promptTokens / prefillSeconds : undefined;
  return { prefill, decode: decodeSeconds > 0 ? (tokens.length - 1) / decodeSeconds : undefined };
}

function writeSummary(cache: KeyValueCache, outcome: Outcome): void {
  const { prefill, decode } = rates(outcome);
  const rate = (value: number | undefined): string =>
    value === undefined ? '' : `, ${value.toFixed(1)} tokens/s`;
  const perToken = cache.bytes / cache.maxLength;
  const lines = [
    `prefill  ${count(outcome.promptTokens)} tokens${rate(prefill)}`,
    `decode   ${count(outcome.tokens.length)} tokens${rate(decode)} (${finishText[outcome.finishReason]})`,
    `KV cache ${exactSize(cache.bytes)}, ${cache.dtype}: ${count(cache.maxLength)} tokens of ${count(perToken)} bytes`,
  ];
  for (const line of lines) writeNote(errColors.dim(line));
}

function toJson(path: string, model: Model, cache: KeyValueCache, outcome: Outcome, seed: number): object {
  const { prefill, decode } = rates(outcome);
  return {
    model: path,
    backend: model.backend.description,
    text: outcome.text,
    tokens: outcome.tokens,
    finishReason: outcome.finishReason,
    seed,
    prefill: { tokens: outcome.promptTokens, seconds: outcome.prefillSeconds, tokensPerSecond: prefill },
    decode: { tokens: outcome.tokens.length, seconds: outcome.decodeSeconds, tokensPerSecond: decode },
    kvCache: {
      dtype: cache.dtype,
      maxLength: cache.maxLength,
      length: cache.lengths[0],
      bytes: cache.bytes,
      bytesPerToken: cache.bytes / cache.maxLength,
    },
  };
}

async function readStdin(): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of process.stdin) pieces.push(piece);
  return utf8Text('stdin', Buffer.concat(pieces)).replace(/\r?\n$/, '');
}
