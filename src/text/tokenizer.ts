/**
 * Text to token ids and back, and chat templates (by `@huggingface/jinja`) behind one small interface, made from the files
 * of a Hugging Face directory or from a GGUF header.
 * Truth: the ids and texts of transformers for the same file (`test/golden/smollm2`, `test/golden/tokenizers`).
 */

import { Template } from '@huggingface/jinja';
import type { GgufValue } from '../format/gguf.ts';
import { aBoolean, checkObject, checkOptions, describe, optionKinds } from '../tensor/arguments.ts';
import { cleanUp } from './decoders.ts';
import { tokenizerFilesFromGguf } from './gguf-tokenizer.ts';
import { KnownCharacters } from './known-characters.ts';
import { Pipeline } from './pipeline.ts';
import { withBosAndEos } from './post-processor.ts';
import { allAddedTokens, withSpecialTokensMap } from './special-tokens.ts';
import { configTokenText, type TokenizerConfigJson, type TokenizerJson } from './tokenizer-json.ts';

export type { TokenizerConfigJson, TokenizerJson } from './tokenizer-json.ts';

/** One turn of a chat. Templates may read more than these two keys (names, tool calls), so more are let through. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly [key: string]: unknown;
}

export interface EncodeOptions {
  /**
   * Whether the tokens go around the text that the tokenizer itself puts there (Llama 3 and Mistral begin with bos;
   * SmolLM2, GPT-2 and Qwen add nothing). Default true, as in transformers. A rendered chat prompt has its own: encode
   * it with false. Either way special tokens written in the text are recognised.
   */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Whether control tokens such as `<|im_end|>` are left out of the text. Default false, as in transformers. */
  readonly skipSpecialTokens?: boolean;
}

const ENCODE_OPTIONS = optionKinds<EncodeOptions>({ addSpecialTokens: aBoolean });
const DECODE_OPTIONS = optionKinds<DecodeOptions>({ skipSpecialTokens: aBoolean });

export interface Tokenizer {
  /** One more than the largest token id. A model's V may be larger (padding) but not smaller. */
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  /** Ids after which a generation is over, the tokenizer's eos first; empty when it has none. */
  readonly eosTokenIds: readonly number[];
  /** The Jinja source of the chat template, undefined when the checkpoint has none. */
  readonly chatTemplate: string | undefined;
  /**
   * Token ids of a text, equal to transformers' `tokenizer(text).input_ids`.
   * @throws RangeError for characters that a tokenizer of characters lacks, which transformers leaves out
   */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * The text of token ids, equal to transformers' `tokenizer.decode(ids)`: bytes that are no UTF-8 give U+FFFD, ids
   * outside the vocabulary give nothing, no ids give ''.
   */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** Whether `decode` with `skipSpecialTokens` leaves this id out. */
  isSpecial(id: number): boolean;
  /**
   * The prompt text of a chat, equal to transformers' `apply_chat_template(messages, tokenize=False)`.
   * @param messages the turns so far, oldest first
   * @param options.addGenerationPrompt whether the text ends with the opening of the assistant's next turn; default
   * false. Other keys are variables for the template.
   * @throws Error when there is no template, or with the template's own message when it refuses the messages
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

export interface ChatTemplateOptions {
  readonly addGenerationPrompt?: boolean;
  readonly [variable: string]: unknown;
}

/** What a Hugging Face directory may hold beside the two JSON files. */
export interface TokenizerExtras {
  /** Text of `chat_template.jinja`; it goes before a template inside tokenizer_config.json. */
  readonly chatTemplate?: string;
  /** `eos_token_id` of generation_config.json or config.json; the tokenizer's own eos is added to them. */
  readonly eosTokenIds?: readonly number[];
  /** `special_tokens_map.json`, parsed. */
  readonly specialTokensMap?: Readonly<Record<string, unknown>>;
  /** `added_tokens.json`, parsed: ids by text. */
  readonly addedTokens?: Readonly<Record<string, unknown>>;
}

/**
 * The tokenizer of a Hugging Face directory.
 * @param json `tokenizer.json`, parsed
 * @param config `tokenizer_config.json`, parsed; `{}` when there is none
 */
export function tokenizerFromJson(
  json: TokenizerJson,
  config: TokenizerConfigJson = {},
  extras: TokenizerExtras = {},
): Tokenizer {
  return new JsonTokenizer(json, config, extras);
}

/**
 * The tokenizer of a GGUF file. Takes a tenth of a second for 50 thousand tokens, so make it when it is asked for.
 * @param metadata the key/value pairs of the header
 * @throws RangeError naming the key when one is missing or has a value this version does not know (such as another
 * `tokenizer.ggml.pre`)
 */
export function tokenizerFromGguf(metadata: ReadonlyMap<string, GgufValue>): Tokenizer {
  const { json, config, endTokenIds } = tokenizerFilesFromGguf(metadata);
  return new JsonTokenizer(json, config, { eosTokenIds: endTokenIds });
}

class JsonTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenIds: readonly number[];
  readonly chatTemplate: string | undefined;
  readonly #pipeline: Pipeline;
  readonly #cleanUp: boolean;
  readonly #characters: KnownCharacters | undefined;
  /** The special tokens by the names templates know them by. */
  readonly #templateTokens: Record<string, string> = {};
  #template: Template | undefined;

  constructor(file: TokenizerJson, ownConfig: TokenizerConfigJson, extras: TokenizerExtras) {
    const config = withSpecialTokensMap(ownConfig, extras.specialTokensMap);
    const json = {
      ...file,
      added_tokens: allAddedTokens(file.added_tokens, config, extras.addedTokens),
    };
    this.#pipeline = new Pipeline(
      json,
      (own, idOf) => withBosAndEos(own, config, idOf),
      config.split_special_tokens === true,
    );
    this.#characters = KnownCharacters.of(json);
    this.vocabSize = this.#pipeline.size;

    const idOf = (text: string | undefined): number | undefined =>
      text === undefined ? undefined : this.#pipeline.idOf(text);
    this.bosTokenId = idOf(configTokenText(config.bos_token));
    const eos = idOf(configTokenText(config.eos_token));
    this.eosTokenIds = [...new Set([...(eos === undefined ? [] : [eos]), ...(extras.eosTokenIds ?? [])])];

    this.chatTemplate = extras.chatTemplate ?? configTemplate(config);
    for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const) {
      const text = configTokenText(config[name]);
      if (text !== undefined) this.#templateTokens[name] = text;
    }
    // transformers 5 leaves the spaces of BPE texts alone whatever the config says, and cleans up only when told to.
    this.#cleanUp = json.model.type !== 'BPE' && config.clean_up_tokenization_spaces === true;
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    if (typeof text !== 'string') throw new TypeError(`encode: expected a string, got ${typeof text}`);
    checkOptions('encode', options, ENCODE_OPTIONS);
    this.#characters?.check(text);
    return this.#pipeline.encode(text, options.addSpecialTokens ?? true);
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    checkOptions('decode', options, DECODE_OPTIONS);
    const skip = options.skipSpecialTokens ?? false;
    if (!Array.isArray(ids)) {
      throw new TypeError(`decode: expected an array of token ids, got ${describe(ids)}`);
    }
    const text = this.#pipeline.decode(skip ? ids.filter((id) => !this.isSpecial(id)) : ids);
    return this.#cleanUp ? cleanUp(text) : text;
  }

  isSpecial(id: number): boolean {
    return this.#pipeline.added.tokens.get(id)?.special === true;
  }

  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    checkTemplateOptions(options);
    if (this.chatTemplate === undefined) {
      throw new Error(
        'applyChatTemplate: expected a checkpoint with a chat template, got one without; encode the prompt as it is',
      );
    }
    this.#template ??= new Template(this.chatTemplate);
    const { addGenerationPrompt = false, ...variables } = options;
    return this.#template.render({
      ...this.#templateTokens,
      ...variables,
      messages,
      add_generation_prompt: addGenerationPrompt,
    });
  }
}

const TEMPLATE_OPTIONS = optionKinds<{ addGenerationPrompt?: boolean }>({ addGenerationPrompt: aBoolean });

/** @throws TypeError for a misspelt `addGenerationPrompt` and for what is not the caller's to set; every other name is a variable. */
function checkTemplateOptions(options: ChatTemplateOptions): void {
  checkObject('applyChatTemplate', 'an object of options', options);
  if ('messages' in options) {
    throw new TypeError(
      'applyChatTemplate: expected messages as the first argument, got them among the options',
    );
  }
  const { addGenerationPrompt, ...variables } = options;
  const misspelt = Object.keys(variables).filter((name) => /^add_?gen/i.test(name));
  checkOptions(
    'applyChatTemplate',
    { addGenerationPrompt, ...Object.fromEntries(misspelt.map((name) => [name, true])) },
    TEMPLATE_OPTIONS,
  );
}

/** The config's template, or the one called `default` of several. */
function configTemplate(config: TokenizerConfigJson): string | undefined {
  const template = config.chat_template ?? undefined;
  if (template === undefined || typeof template === 'string') return template;
  return template.find((named) => named.name === 'default')?.template;
}
