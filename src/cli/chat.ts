/**
 * `gqa chat`: a conversation in a terminal, or with one message per line of stdin. Answers stream to stdout,
 * everything else goes to stderr.
 */
import { Command } from 'commander';
import { getBackend } from '../backend/index.ts';
import { type Chat, type ChatOptions, chat, loadChat, type Model } from '../models/index.ts';
import { addBackendOptions, type BackendFlags, useBackend } from './backend-options.ts';
import { addTemplateOptions, readTemplateFlags, type TemplateFlags } from './chat-options.ts';
import { reportFailure, UsageError } from './errors.ts';
import { KV_DTYPES } from './generate.ts';
import { untilInterrupt } from './interrupt.ts';
import { LineInput } from './line-input.ts';
import { addLoadOptions, CHECKPOINT_HELP, type LoadFlags, loadWithProgress } from './load-checkpoint.ts';
import * as parse from './options.ts';
import { count, errColors, exactSize, helpEnd, percent, writeJson, writeNote, writePiece } from './output.ts';
import { startProgress } from './progress.ts';
import { knownText, neededTokenizer } from './read-text.ts';
import {
  addSamplingOptions,
  checkSamplingFlags,
  type SamplingFlags,
  samplingOptions,
} from './sampling-options.ts';

interface ChatFlags extends BackendFlags, LoadFlags, TemplateFlags, SamplingFlags {
  readonly load?: string;
  readonly maxTokens?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly context?: number;
  readonly kvDtype?: (typeof KV_DTYPES)[number];
}

const COMMANDS = `/help         this list
/reset        forget all messages but the system message
/save <path>  save the chat in a folder
/load <path>  continue a saved chat
/stats        tokens per second, and use of the cache
/exit         end; so does Ctrl-D
Ctrl-C stops an answer.`;

const example = `
In the chat:
  ${COMMANDS.replaceAll('\n', '\n  ')}

Examples:
  npx gqa chat model.gguf --system "Answer in one sentence." --temperature 0.7
  npx gqa chat model.gguf --load talk
  npx gqa chat model.gguf --json < questions.txt`;

export function chatCommand(): Command {
  const command = new Command('chat')
    .description('talk with a model')
    .argument('<checkpoint>', `${CHECKPOINT_HELP}, with a chat template`, parse.path)
    .option('--load <folder>', 'continue a saved chat; other options replace the saved ones', parse.path);
  addTemplateOptions(command).option(
    '--max-tokens <n>',
    'maximum number of tokens of an answer (default: until the cache is full)',
    parse.positiveInteger,
  );
  addSamplingOptions(command)
    .option(
      '--seed <n>',
      'random seed; the same seed gives the same chat (default: random)',
      parse.wholeNumber,
    )
    .option('--stop <text>', 'end answers before this text (may be given several times)', parse.moreText)
    .option('--context <n>', 'tokens in the KV cache (default: 4096, or less)', parse.positiveInteger)
    .addOption(parse.oneOf('--kv-dtype <dtype>', 'type of the KV cache (default: f32)', KV_DTYPES));
  addLoadOptions(command);
  return addBackendOptions(command, 'print one JSON object per answer instead of the text')
    .addHelpText('after', helpEnd(example))
    .action(run);
}

async function run(path: string, flags: ChatFlags, command: Command): Promise<void> {
  if (flags.load !== undefined && flags.system !== undefined) {
    throw new UsageError('--system cannot be given with --load, whose messages have their own');
  }
  // A saved chat has a temperature of its own.
  const isGiven = flags.load === undefined || command.getOptionValueSource('temperature') === 'cli';
  if (isGiven) checkSamplingFlags(flags, flags.maxTokens ?? Number.POSITIVE_INFINITY);
  const options = {
    ...samplingOptions(flags),
    ...(!isGiven && { temperature: undefined }),
    ...readTemplateFlags(flags),
    maxNewTokens: flags.maxTokens,
    seed: flags.seed,
    maxLength: flags.context,
    kvDtype: flags.kvDtype,
  };
  await useBackend(flags);
  const model = await loadWithProgress(path, flags);
  try {
    if (neededTokenizer(path, model.tokenizer).chatTemplates.size === 0) {
      throw new Error(
        `${path}: expected a chat template, got a checkpoint without one; npx gqa generate continues a text`,
      );
    }
    const stop = flags.stop && { stop: [...model.endTokenIds, ...flags.stop] };
    await new Session(model, { ...options, ...stop }, flags).run(path);
  } finally {
    model.dispose();
  }
}

class Session {
  readonly #model: Model;
  readonly #options: ChatOptions;
  readonly #flags: ChatFlags;
  #chat!: Chat;

  constructor(model: Model, options: ChatOptions, flags: ChatFlags) {
    this.#model = model;
    this.#options = options;
    this.#flags = flags;
  }

  async run(path: string): Promise<void> {
    const { load, system } = this.#flags;
    this.#chat =
      load === undefined
        ? chat(this.#model, { ...this.#options, system })
        : await loadChat(this.#model, load, this.#options);
    const input = new LineInput('> ');
    try {
      writeNote(`loaded ${path} on ${getBackend().description}`);
      if (load !== undefined)
        writeNote(`continuing ${load} after ${count(this.#chat.messages.length)} messages`);
      if (input.isTerminal)
        writeNote('/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the chat');
      for (;;) {
        const line = await input.next();
        if (line === undefined || line.trim() === '/exit') return;
        try {
          await this.#handle(line);
        } catch (error) {
          if (!input.isTerminal) throw error;
          reportFailure(error);
        }
      }
    } finally {
      input.close();
      this.#chat.dispose();
    }
  }

  async #handle(line: string): Promise<void> {
    const [, command, rest = ''] = /^\/(\w+)(?:\s+(.*))?$/.exec(line.trim()) ?? [];
    const folder = rest.trim();
    if (line.trim() === '') return;
    if (command === undefined) return this.#answer(line);
    if ((command === 'save' || command === 'load') && folder === '') {
      throw new UsageError(`expected a folder, as in /${command} talk`);
    }
    switch (command) {
      case 'help':
        return writeNote(COMMANDS);
      case 'reset':
        this.#chat.reset();
        return writeNote('all messages are forgotten');
      case 'stats':
        return this.#writeStats();
      case 'save':
        await this.#chat.save(folder);
        return writeNote(`saved ${count(this.#chat.messages.length)} messages in ${folder}`);
      case 'load': {
        const loaded = await loadChat(this.#model, folder, this.#options);
        this.#chat.dispose();
        this.#chat = loaded;
        return writeNote(`continuing ${folder} after ${count(loaded.messages.length)} messages`);
      }
      default:
        throw new UsageError(`expected one of the commands of /help, got /${command}`);
    }
  }

  async #answer(line: string): Promise<void> {
    const { json } = this.#flags;
    const tokenizer = this.#model.tokenizer;
    const message = tokenizer === undefined ? line : knownText(tokenizer, 'the message', line);
    const progress = startProgress('reading the messages');
    const onPrefill = (done: number, total: number): void => {
      progress.update(done, total);
      if (done === total) progress.stop();
    };
    let text = '';
    await untilInterrupt(async (signal) => {
      try {
        for await (const piece of this.#chat.send(message, { signal, onPrefill })) {
          text += piece;
          if (!json) writePiece(piece);
        }
      } catch (error) {
        if (!signal.aborted) throw error;
      } finally {
        progress.stop();
        if (!json && text !== '' && !text.endsWith('\n')) process.stdout.write('\n');
      }
    });
    if (json) writeJson({ text, ...this.#chat.lastTurn });
    const end = this.#endNote();
    if (end !== undefined) writeNote(errColors.dim(end));
  }

  /** Why the last answer is not whole; undefined where it is. */
  #endNote(): string | undefined {
    const { lastTurn, cache } = this.#chat;
    if (lastTurn?.finishReason === 'aborted') return '(stopped)';
    if (lastTurn?.finishReason !== 'length') return undefined;
    if (lastTurn.promptTokens + lastTurn.newTokens <= cache.maxLength) return '(reached --max-tokens)';
    return `(the cache is full: ${count(cache.maxLength)} tokens; --context makes it larger, /reset empties it)`;
  }

  #writeStats(): void {
    const { lastTurn: turn, cache, messages, tokens, fedTokens } = this.#chat;
    const rate = (made: number, seconds: number): string =>
      seconds > 0 && made > 0 ? ` at ${(made / seconds).toFixed(1)} tokens/s` : '';
    if (turn !== undefined) {
      const { promptTokens, reusedTokens, newTokens, prefillSeconds, decodeSeconds } = turn;
      const fed = promptTokens - reusedTokens;
      writeNote(
        `last turn: ${count(fed)} new tokens read${rate(fed, prefillSeconds)}, ${count(reusedTokens)} in the cache; ${count(newTokens)} answered${rate(newTokens, decodeSeconds)}`,
      );
    }
    writeNote(`chat:      ${count(messages.length)} messages; ${count(fedTokens)} tokens fed`);
    writeNote(
      `KV cache:  ${count(tokens.length)} of ${count(cache.maxLength)} tokens (${percent(tokens.length / cache.maxLength)}), ${exactSize(cache.bytes)}, ${cache.dtype}`,
    );
  }
}
