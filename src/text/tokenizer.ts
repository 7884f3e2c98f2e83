/**
 * Text to token ids and back, and chat templates behind one small interface, made from the files
 * of a Hugging Face directory or from a GGUF header.
 * Truth: the ids and texts of transformers for the same file (`test/golden/smollm2`, `test/golden/tokenizers`).
 */

import { aBoolean, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { GgufValue } from '../format/gguf.ts';
import {
  type ChatMessage,
  ChatRenderer,
  type ChatTemplateOptions,
  type ChatTemplates,
  configTemplates,
} from './chat.ts';
import { cleanUp } from './decoders.ts';
import { tokenizerFilesFromGguf } from './gguf-tokenizer.ts';
import { KnownCharacters } from './known-characters.ts';
import { Pipeline } from './pipeline.ts';
import { withBosAndEos } from './post-processor.ts';
import { allAddedTokens, withSpecialTokensMap } from './special-tokens.ts';
import {
  type ConfigToken,
  configTokenText,
  type TokenizerConfigJson,
  type TokenizerJson,
} from './tokenizer-json.ts';

export type { ChatMessage, ChatTemplateOptions, ChatTemplates } from './chat.ts';
export type { TokenizerConfigJson, TokenizerJson } from './tokenizer-json.ts';

/** Options of `encode`. */
export interface EncodeOptions {
  /**
   * Whether the tokens go around the text that the tokenizer itself puts there (Llama 3 and Mistral begin with bos;
   * SmolLM2, GPT-2 and Qwen add nothing). Default true, as in transformers. A rendered chat prompt has its own: encode
   * it with false. Either way special tokens written in the text are recognised.
   */
  readonly addSpecialTokens?: boolean;
}

/** Options of `decode`. */
export interface DecodeOptions {
  /** Whether control tokens such as `<|im_end|>` are left out of the text. Default false, as in transformers. */
  readonly skipSpecialTokens?: boolean;
}

const ENCODE_OPTIONS = optionKinds<EncodeOptions>({ addSpecialTokens: aBoolean });
const DECODE_OPTIONS = optionKinds<DecodeOptions>({ skipSpecialTokens: aBoolean });

/**
 * Text to token ids and back, and the chat templates of a checkpoint. The ids are those of transformers for the same files.
 */
export interface Tokenizer {
  /** One more than the largest token id. A model's V may be larger (padding) but not smaller. */
  readonly vocabSize: number;
  /** The token that begins a text; undefined where the checkpoint names none. */
  readonly bosTokenId: number | undefined;
  /** Ids after which a generation is over, the tokenizer's eos first; empty when it has none. */
  readonly eosTokenIds: readonly number[];
  /** The Jinja source of the chat template (of several, the one called `default`), undefined when there is none. */
  readonly chatTemplate: string | undefined;
  /** All chat templates by name, such as `default` and `tool_use`; empty when the checkpoint has none. */
  readonly chatTemplates: ChatTemplates;
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
  /** How often each character that a tokenizer of characters lacks, and `encode` refuses, stands in a text; empty for other tokenizers. */
  unknownCharacters(text: string): ReadonlyMap<string, number>;
  /** Whether `decode` with `skipSpecialTokens` leaves this id out. */
  isSpecial(id: number): boolean;
  /**
   * The prompt text of a chat, equal to transformers' `apply_chat_template(messages, tokenize=False)`; what the template asks for
   * and cannot be had equal is refused by name. Values are plain JSON; a whole number is an int there.
   * @param messages the turns so far, oldest first, at least one
   * @throws Error when there is no template; TemplateError with the template's own message when it refuses the messages, or with
   * what is wrong in it or not supported; RangeError when it takes more steps, text or depth than a template may
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

/** What a Hugging Face directory may hold beside the two JSON files. */
export interface TokenizerExtras {
  /** Text of `chat_template.jinja`; it goes before the templates inside tokenizer_config.json. */
  readonly chatTemplate?: string;
  /** Texts of `additional_chat_templates/*.jinja` by name, likewise. */
  readonly additionalChatTemplates?: ChatTemplates;
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
  readonly chatTemplates: ChatTemplates;
  readonly #pipeline: Pipeline;
  readonly #cleanUp: boolean;
  readonly #characters: KnownCharacters | undefined;
  readonly #chat: ChatRenderer;

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

    const { chatTemplate, additionalChatTemplates = [] } = extras;
    const files = new Map([
      ...(chatTemplate === undefined ? [] : [['default', chatTemplate] as const]),
      ...additionalChatTemplates,
    ]);
    this.chatTemplates = files.size > 0 ? files : configTemplates(config);
    this.chatTemplate = this.chatTemplates.get('default');
    const tokens: Record<string, string> = {};
    for (const name of ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'].map((kind) => `${kind}_token`)) {
      const text = configTokenText(config[name] as ConfigToken | undefined);
      if (text !== undefined) tokens[name] = text;
    }
    this.#chat = new ChatRenderer(this.chatTemplates, tokens);
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

  unknownCharacters(text: string): ReadonlyMap<string, number> {
    return this.#characters?.unknownIn(text) ?? new Map();
  }

  isSpecial(id: number): boolean {
    return this.#pipeline.added.tokens.get(id)?.special === true;
  }

  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    return this.#chat.render(messages, options);
  }
}
