/** The options of `chat` and of its turns. */
import { aBoolean, anything, aString } from '../../arguments/kinds.ts';
import { type OptionTable, optionKinds } from '../../arguments/options.ts';
import type { CacheStorage, KeyValueCache } from '../../cache/cache.ts';
import type { ChatTemplateOptions } from '../../text/tokenizer.ts';
import { GENERATION_KINDS, type GenerationOptions } from '../generation/request.ts';

/** Options of one turn, `send`: those of `generate`; default those of the chat. */
export interface SendOptions extends GenerationOptions {
  /** Most tokens of the answer, >= 1; default: as many as the cache has room for. */
  readonly maxNewTokens?: number;
}

/** How a chat renders its messages, how it chooses tokens unless a turn says otherwise, and its memory. */
export interface ChatOptions
  extends Omit<SendOptions, 'signal' | 'onPrefill'>,
    Omit<ChatTemplateOptions, 'addGenerationPrompt'> {
  /** The text of a first message of role `system`. Default: none, or what the template puts there. */
  readonly system?: string;
  /**
   * Each turn draws with this seed plus the number of messages before the answer; default: a fresh one each
   * time.
   */
  readonly seed?: number;
  /** Whether to leave control tokens such as `<|im_end|>` out of answers; default true. */
  readonly skipSpecialTokens?: boolean;
  /** Tokens of the whole chat that its cache holds; default 4096, at most the model's context. */
  readonly maxLength?: number;
  /** How the cache stores keys and values; default `f32`. */
  readonly kvDtype?: CacheStorage;
  /**
   * An empty cache of one row, in place of `maxLength` and `kvDtype`; nothing else may use it meanwhile. It is
   * the caller's to dispose. One that cannot go back (a full `WindowCache`) is fed again from the start where
   * the template changes earlier messages, and after a stop string.
   */
  readonly cache?: KeyValueCache;
}

/** Options of `chat.save`. */
export interface SaveChatOptions {
  /**
   * Whether to save the keys and values too, so that a loaded chat needs not feed its tokens again; default
   * true.
   */
  readonly cache?: boolean;
}

export const SAVE_OPTIONS: OptionTable = optionKinds<SaveChatOptions>({ cache: aBoolean });

/**
 * Options of `loadChat`; those given replace the saved ones. With `maxLength`, `kvDtype` or `cache` all tokens are
 * fed again.
 */
export type LoadChatOptions = Omit<ChatOptions, 'system'>;

export const SEND_OPTIONS: OptionTable = optionKinds<SendOptions>(GENERATION_KINDS);

const { signal: _, onPrefill: __, ...DEFAULT_KINDS } = GENERATION_KINDS;

const LOAD_KINDS = {
  ...DEFAULT_KINDS,
  tools: anything,
  documents: anything,
  template: aString,
  variables: anything,
  skipSpecialTokens: aBoolean,
  maxLength: anything,
  kvDtype: anything,
  cache: anything,
};

export const LOAD_OPTIONS: OptionTable = optionKinds<LoadChatOptions>(LOAD_KINDS);

export const CHAT_OPTIONS: OptionTable = optionKinds<ChatOptions>({ ...LOAD_KINDS, system: aString });

/** `changes` over `options`; undefined counts as not given. */
export function withOptions<A extends object, B extends object>(options: A, changes: B): A & B {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  return { ...options, ...Object.fromEntries(given) } as A & B;
}
