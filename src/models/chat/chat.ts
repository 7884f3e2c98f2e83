/**
 * `chat`: a conversation with a model. Before each answer the template renders all messages; the cache is cut
 * where their tokens first differ from those it holds, and the rest is fed. So templates that change earlier
 * messages (such as those that drop reasoning), and programs that edit them, need nothing special.
 */
import { checkInteger, describe } from '../../arguments/kinds.ts';
import { checkOptions } from '../../arguments/options.ts';
import type { KeyValueCache } from '../../cache/cache.ts';
import { checkPlace, folderAt, type PlaceLike } from '../../files/place.ts';
import { StreamingDecoder } from '../../text/streaming-decoder.ts';
import type { ChatMessage, Tokenizer } from '../../text/tokenizer.ts';
import { type GenerateOptions, generate } from '../generation/generate.ts';
import { checkModel, checkRequest, type GenerationRequest, processorsFor } from '../generation/request.ts';
import type { FinishReason } from '../generation/result.ts';
import { StopCondition } from '../generation/stop-condition.ts';
import type { Model } from '../model.ts';
import { isMessage, writeChat } from './chat-file.ts';
import {
  CHAT_OPTIONS,
  type ChatOptions,
  SAVE_OPTIONS,
  type SaveChatOptions,
  SEND_OPTIONS,
  type SendOptions,
  withOptions,
} from './chat-options.ts';
import { tokenizerOf } from './generate-text.ts';

/** Bounds the memory of a model with a long context. */
const DEFAULT_MAX_LENGTH = 4096;

/** What the last turn of a chat did. */
export interface ChatTurn {
  /** Tokens of all messages before the answer, as the template renders them. */
  readonly promptTokens: number;
  /** Those of them that the cache held already; the others were fed. */
  readonly reusedTokens: number;
  /** Tokens of the answer. */
  readonly newTokens: number;
  /** `aborted`: by a signal, or by leaving the loop; `length`: `maxNewTokens`, or the cache is full. */
  readonly finishReason: FinishReason | 'aborted';
  /** Seconds until the prompt was fed. */
  readonly prefillSeconds: number;
  /** Seconds from then on. */
  readonly decodeSeconds: number;
}

interface ChatParts {
  /** The function that was called, for errors. */
  readonly op: string;
  readonly model: Model;
  readonly options: ChatOptions;
  /** Without the system message of the options. */
  readonly messages: readonly ChatMessage[];
  /** A cache of the chat's own with tokens in it; default: one is made. */
  readonly held?: { readonly cache: KeyValueCache; readonly tokens: readonly number[] };
}

/** A conversation with a model, made by `chat` or `loadChat`. */
export class Chat {
  /** All messages, the system message first. May be edited between turns: the next one follows it. */
  readonly messages: ChatMessage[];
  /** The keys and values of `tokens`. */
  readonly cache: KeyValueCache;
  readonly #model: Model;
  readonly #tokenizer: Tokenizer;
  readonly #options: ChatOptions;
  #tokens: number[] = [];
  #fedTokens = 0;
  #lastTurn: ChatTurn | undefined;
  #answering = false;
  #disposed = false;

  /** @internal */
  constructor(parts: ChatParts) {
    const { op, model, options, messages, held } = parts;
    checkModel(op, model);
    checkOptions(op, options, CHAT_OPTIONS);
    const { maxNewTokens = Number.POSITIVE_INFINITY } = options;
    // Checks the options of sampling.
    processorsFor({ ...checkRequest(op, model, options), maxNewTokens }, 0);
    if (options.maxNewTokens !== undefined) checkInteger(op, 'maxNewTokens', options.maxNewTokens, 1);
    const tokenizer = tokenizerOf(op, model);
    if (tokenizer.chatTemplates.size === 0 && options.template === undefined) {
      throw new Error(
        `${op}: expected a checkpoint with a chat template, got one without; give a template, or use generateText`,
      );
    }
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.messages = [...messages];
    if (options.system !== undefined) this.messages.unshift({ role: 'system', content: options.system });
    this.cache = held?.cache ?? makeCache(op, model, options);
    this.#tokens = [...(held?.tokens ?? [])];
  }

  /** The tokens whose keys and values the cache holds: a copy. */
  get tokens(): readonly number[] {
    return [...this.#tokens];
  }

  /**
   * Tokens fed to the model since the start or `reset`, of prompts and answers. It equals `tokens.length` while
   * none was fed twice. Proposals of speculation that were not taken do not count.
   */
  get fedTokens(): number {
    return this.#fedTokens;
  }

  /** The last turn; undefined before the first has ended, and after `reset`. */
  get lastTurn(): ChatTurn | undefined {
    return this.#lastTurn;
  }

  /**
   * Sends a message and streams the answer in pieces of text, then adds both to `messages`. Logits processors
   * and penalties see the tokens of the whole chat.
   *
   * After an abort, an error or leaving the loop, `messages` hold the text yielded so far as the answer; when
   * there was none, they are as before.
   *
   * @param message the user's text; or a message, such as a tool's result; or several; `[]` answers the
   *   messages as they are
   * @param options of this turn; default those of the chat
   * @throws RangeError when the messages do not fit into the cache; TemplateError when the template refuses
   *   them; Error while another answer is streamed, or after `dispose`; else as `generate`. All on the first
   *   `next()`.
   */
  async *send(
    message: string | ChatMessage | readonly ChatMessage[],
    options: SendOptions = {},
  ): AsyncGenerator<string, void, undefined> {
    this.#checkIdle('send');
    checkOptions('chat.send', options, SEND_OPTIONS);
    const added = asMessages(message);
    const { seed } = this.#options;
    const turnSeed = seed === undefined ? undefined : seed + this.messages.length + added.length;
    this.#answering = true;
    try {
      yield* this.#answer(added, withOptions({ ...this.#options, seed: turnSeed }, options));
    } finally {
      this.#answering = false;
    }
  }

  async *#answer(
    added: readonly ChatMessage[],
    options: ChatOptions & SendOptions,
  ): AsyncGenerator<string, void, undefined> {
    const { cache } = this;
    if (cache.lengths[0] !== this.#tokens.length) {
      throw new Error(
        `chat.send: expected a cache that nothing else changes, with ${this.#tokens.length} tokens, got ${cache.lengths[0]}; reset empties it`,
      );
    }
    const prompt = this.#encode([...this.messages, ...added]);
    const limit = Math.min(cache.maxLength, this.#model.config.maxPositionEmbeddings);
    if (prompt.length > limit) {
      throw new RangeError(
        `chat.send: expected messages of at most ${limit} tokens, got ${prompt.length} in ${this.messages.length + added.length} messages; remove some, reset the chat, or make its cache larger`,
      );
    }
    const { maxNewTokens = limit - prompt.length + 1 } = options;
    checkInteger('chat.send', 'maxNewTokens', maxNewTokens, 1);
    const start = performance.now();
    let prefilled: number | undefined;
    const onPrefill = (done: number, total: number): void => {
      if (done === total) prefilled = performance.now();
      options.onPrefill?.(done, total);
    };
    const request = checkRequest('chat.send', this.#model, { ...options, maxNewTokens, onPrefill });
    const generation = this.#generation(request, prompt.length);
    const stop = new StopCondition('chat.send', request.stop, () => this.#tokenizer);
    const decoder = new StreamingDecoder(this.#tokenizer, {
      skipSpecialTokens: options.skipSpecialTokens ?? true,
    });
    const reusedTokens = this.#cut(prompt);
    const made: number[] = [];
    let newTokens = 0;
    let text = '';
    let finishReason: ChatTurn['finishReason'] = 'aborted';
    const decode = (tokens: readonly number[]): string => {
      newTokens += tokens.length;
      const piece = tokens.map((token) => decoder.push(token)).join('');
      text += piece;
      return piece;
    };
    try {
      for await (const token of generate(this.#model, prompt.slice(reusedTokens), generation)) {
        made.push(token);
        const piece = decode(stop.push(token));
        if (piece !== '') yield piece;
        if (stop.stopped) break;
      }
      const held = decode(stop.stopped ? [] : stop.flush());
      const rest = decoder.flush();
      finishReason = stop.stopped ? 'stop' : 'length';
      text += rest;
      if (held + rest !== '') yield held + rest;
    } finally {
      if (!this.#disposed) {
        this.#tokens = [...prompt, ...made].slice(0, cache.lengths[0]);
        this.#fedTokens += this.#tokens.length - reusedTokens;
      }
      const end = performance.now();
      this.#lastTurn = {
        promptTokens: prompt.length,
        reusedTokens,
        newTokens,
        finishReason,
        prefillSeconds: ((prefilled ?? end) - start) / 1000,
        decodeSeconds: (end - (prefilled ?? end)) / 1000,
      };
      if (finishReason !== 'aborted' || text !== '') {
        this.messages.push(...added, { role: 'assistant', content: text });
      }
    }
  }

  #encode(messages: readonly ChatMessage[]): number[] {
    const { tools, documents, template, variables } = this.#options;
    const text = this.#tokenizer.applyChatTemplate(messages, {
      addGenerationPrompt: true,
      tools,
      documents,
      template,
      variables,
    });
    return this.#tokenizer.encode(text, { addSpecialTokens: false });
  }

  /** Leaves in the cache what it has in common with a prompt, but for the last token, whose logits are needed. */
  #cut(prompt: readonly number[]): number {
    const { cache } = this;
    let length = 0;
    while (length < prompt.length - 1 && prompt[length] === this.#tokens[length]) length++;
    if (length < cache.lengths[0]) {
      try {
        cache.truncate(0, length);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        // A window that has overwritten what comes before.
        cache.reset();
        length = 0;
      }
    }
    this.#tokens.length = length;
    return length;
  }

  /**
   * The options for `generate`, with the processors of the whole chat. It stops nowhere: `generate` would
   * remove the last token of the answer from the cache, and the next turn feed it again.
   */
  #generation(request: GenerationRequest, promptLength: number): GenerateOptions {
    const { maxNewTokens, temperature, seed, draftModel, promptLookup } = request;
    const { prefillChunkSize, signal, onPrefill } = request;
    const processors = processorsFor(request, promptLength);
    const process = (logits: Float32Array, tokens: readonly number[]): void => {
      const all = [...this.#tokens, ...tokens];
      for (const step of processors) step(logits, all);
    };
    return {
      ...{ maxNewTokens, seed, draftModel, promptLookup, prefillChunkSize, signal, onPrefill },
      cache: this.cache,
      stop: [],
      // The processors have divided the logits by the temperature.
      temperature: temperature === 0 ? 0 : 1,
      ...(processors.length > 0 && { logitsProcessors: [process] }),
    };
  }

  /**
   * Saves the chat in a folder, which is made unless it exists; `loadChat` continues from there. `chat.json` holds
   * the messages and the options (without `cache`, `draftModel` and `logitsProcessors`), `cache.safetensors` the
   * keys and values. Models whose rotary frequencies change with the length (LongRoPE, dynamic NTK scaling) save no
   * cache.
   * @param path the folder: a path (Node), or a `Folder`
   * @throws Error while an answer is streamed, or after `dispose`
   */
  async save(path: PlaceLike, options: SaveChatOptions = {}): Promise<void> {
    checkPlace('chat.save', 'a path of a folder', path);
    checkOptions('chat.save', options, SAVE_OPTIONS);
    this.#checkIdle('save');
    const { cache = true } = options;
    const context = this.#model.config.maxPositionEmbeddings;
    const held =
      cache && this.#model.sameFrequencies(1, context)
        ? { cache: this.cache, tokens: this.tokens }
        : undefined;
    await writeChat(await folderAt(path), this.messages, this.#options, held);
  }

  /** Removes all messages but a system message at the start, and empties the cache. */
  reset(): void {
    this.#checkIdle('reset');
    this.messages.splice(this.messages[0]?.role === 'system' ? 1 : 0);
    this.cache.reset();
    this.#tokens = [];
    this.#fedTokens = 0;
    this.#lastTurn = undefined;
  }

  /** Frees the cache, unless it was given. Safe to call twice; `send` throws afterwards. */
  dispose(): void {
    this.#disposed = true;
    if (this.#options.cache === undefined) this.cache.dispose();
  }

  #checkIdle(method: string): void {
    if (this.#disposed) throw new Error(`chat.${method}: the chat was disposed`);
    if (!this.#answering) return;
    throw new Error(
      `chat.${method}: expected no answer under way, got one; read it to its end, or leave its loop`,
    );
  }
}

/**
 * A conversation with a model: it keeps the messages and a KV cache, and feeds only tokens that the cache does
 * not hold.
 *
 * @param model with a tokenizer and a chat template
 * @throws Error for a model without a tokenizer, or without a chat template and none given; RangeError for a
 *   `maxLength` beyond the model's context, or an option out of range
 * @example
 * const loaded = await loadModel('model.gguf');
 * const talk = chat(loaded, { system: 'Answer in one sentence.', temperature: 0.7 });
 * for await (const piece of talk.send('What is a KV cache?')) process.stdout.write(piece);
 * for await (const piece of talk.send('And why is it large?')) process.stdout.write(piece);
 * await talk.save('talk'); // loadChat(loaded, 'talk') continues it
 * talk.dispose();
 */
export function chat(model: Model, options: ChatOptions = {}): Chat {
  return new Chat({ op: 'chat', model, options, messages: [] });
}

function asMessages(message: string | ChatMessage | readonly ChatMessage[]): readonly ChatMessage[] {
  if (typeof message === 'string') return [{ role: 'user', content: message }];
  const list: readonly unknown[] = Array.isArray(message) ? [...message] : [message];
  if (list.every(isMessage)) return list;
  throw new TypeError(`chat.send: expected a text, or messages with a role, got ${describe(message)}`);
}

function makeCache(op: string, model: Model, options: ChatOptions): KeyValueCache {
  const { cache, kvDtype } = options;
  const context = model.config.maxPositionEmbeddings;
  if (cache === undefined) {
    const { maxLength = Math.min(DEFAULT_MAX_LENGTH, context) } = options;
    checkInteger(op, 'maxLength', maxLength, 1);
    if (maxLength > context) {
      throw new RangeError(
        `${op}: expected maxLength up to the model's context of ${context} tokens, got ${maxLength}`,
      );
    }
    return model.initCache({ batchSize: 1, maxLength, dtype: kvDtype });
  }
  if (typeof cache?.reserve !== 'function') {
    throw new TypeError(`${op}: expected cache to be a KeyValueCache, got ${describe(cache)}`);
  }
  const other = (['maxLength', 'kvDtype'] as const).find((name) => options[name] !== undefined);
  if (other !== undefined) throw new TypeError(`${op}: expected cache or ${other}, got both`);
  if (cache.batchSize !== 1 || cache.lengths[0] !== 0) {
    throw new RangeError(
      `${op}: expected an empty cache of 1 row, got ${cache.batchSize} rows, the first of ${cache.lengths[0]} tokens`,
    );
  }
  return cache;
}
