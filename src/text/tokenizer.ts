/**
 * The `Tokenizer` interface: encoding, decoding and chat templates, from the files of a Hugging Face
 * directory or a GGUF header. Checked against the ids and texts of transformers for the same files
 * (`test/golden/smollm2`, `test/golden/tokenizers`).
 */

import type { GgufValue } from '../format/gguf.ts';
import {
  type ChatMessage,
  ChatRenderer,
  type ChatTemplateOptions,
  type ChatTemplates,
  configTemplates,
} from './chat.ts';
import { checkDecode, checkEncode, type DecodeOptions, type EncodeOptions } from './code-options.ts';
import { cleanUp } from './decoders.ts';
import { encodeTokenizerFiles, type TokenizerFiles } from './encode-tokenizer-files.ts';
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
export type { DecodeOptions, EncodeOptions } from './code-options.ts';
export { encodeTokenizerFiles, type TokenizerFiles } from './encode-tokenizer-files.ts';
export { tokenizerFilesFromGguf } from './gguf-tokenizer.ts';
export type { TokenizerConfigJson, TokenizerJson } from './tokenizer-json.ts';

/**
 * Encodes text to token ids, decodes ids, and renders the chat templates of a checkpoint. Ids equal those of
 * transformers for the same files.
 */
export interface Tokenizer {
  /** One more than the largest token id. A model's V may be larger (padding) but not smaller. */
  readonly vocabSize: number;
  /** The token that begins a text; undefined where the checkpoint names none. */
  readonly bosTokenId: number | undefined;
  /** Ids that end a generation, the tokenizer's eos first; empty when there is none. */
  readonly eosTokenIds: readonly number[];
  /**
   * The Jinja source of the chat template (the one named `default` if there are several); undefined when
   * there is none.
   */
  readonly chatTemplate: string | undefined;
  /** All chat templates by name, such as `default` and `tool_use`; empty when the checkpoint has none. */
  readonly chatTemplates: ChatTemplates;
  /**
   * Token ids of a text, equal to transformers' `tokenizer(text).input_ids`.
   * @throws RangeError for characters missing in a character-level tokenizer, which transformers drops
   */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * The text of token ids, equal to transformers' `tokenizer.decode(ids)`: invalid UTF-8 gives U+FFFD, ids
   * outside the vocabulary give nothing, no ids give ''.
   */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /**
   * The characters of a text that a character-level tokenizer lacks (`encode` refuses them), with their
   * counts; empty for other tokenizers.
   */
  unknownCharacters(text: string): ReadonlyMap<string, number>;
  /** Whether `decode` with `skipSpecialTokens` omits this id. */
  isSpecial(id: number): boolean;
  /**
   * The prompt text of a chat, equal to transformers' `apply_chat_template(messages, tokenize=False)`;
   * unsupported features are refused by name. Values are plain JSON; an integral number is an int in the
   * template.
   * @param messages the turns so far, oldest first, at least one
   * @throws Error when there is no template; TemplateError with the template's own message when it refuses
   *   the messages, and for syntax errors and unsupported features; RangeError when it exceeds the limits of
   *   steps, text or depth
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

/** A tokenizer that this package made. */
export interface WritableTokenizer extends Tokenizer {
  /** Its files: tokenizer.json, tokenizer_config.json, chat templates. */
  files(): Promise<TokenizerFiles>;
}

/** Optional files of a Hugging Face directory besides the two JSON files. */
export interface TokenizerExtras {
  /** Text of `chat_template.jinja`; it takes precedence over the templates in tokenizer_config.json. */
  readonly chatTemplate?: string;
  /** Texts of `additional_chat_templates/*.jinja` by name, likewise. */
  readonly additionalChatTemplates?: ChatTemplates;
  /** `eos_token_id` of generation_config.json or config.json; the tokenizer's eos is added. */
  readonly eosTokenIds?: readonly number[];
  /** `special_tokens_map.json`, parsed. */
  readonly specialTokensMap?: Readonly<Record<string, unknown>>;
  /** `added_tokens.json`, parsed: ids by text. */
  readonly addedTokens?: Readonly<Record<string, unknown>>;
  /** The files of the tokenizer; default: made from the two JSON files. */
  readonly files?: () => Promise<TokenizerFiles>;
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
 * The tokenizer of a GGUF file. Takes about 0.1 s for 50,000 tokens, so create it on demand.
 * @param metadata the key/value pairs of the header
 * @param files see `TokenizerExtras`
 * @throws RangeError naming the key when one is missing or has an unsupported value (such as an unknown
 *   `tokenizer.ggml.pre`)
 */
export function tokenizerFromGguf(
  metadata: ReadonlyMap<string, GgufValue>,
  files?: TokenizerExtras['files'],
): Tokenizer {
  const { json, config, endTokenIds } = tokenizerFilesFromGguf(metadata);
  return new JsonTokenizer(json, config, { eosTokenIds: endTokenIds, files });
}

class JsonTokenizer implements WritableTokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenIds: readonly number[];
  readonly chatTemplate: string | undefined;
  readonly chatTemplates: ChatTemplates;
  readonly #pipeline: Pipeline;
  readonly #cleanUp: boolean;
  readonly #characters: KnownCharacters | undefined;
  /** See `TokenizerExtras`. */
  readonly files: () => Promise<TokenizerFiles>;
  readonly #chat: ChatRenderer;

  constructor(file: TokenizerJson, ownConfig: TokenizerConfigJson, extras: TokenizerExtras) {
    const config = withSpecialTokensMap(ownConfig, extras.specialTokensMap);
    const json = {
      ...file,
      added_tokens: allAddedTokens(file.added_tokens, config, extras.addedTokens),
    };
    this.files = extras.files ?? (async () => encodeTokenizerFiles(file, ownConfig));
    this.#pipeline = new Pipeline(
      json,
      (own, idOf) => withBosAndEos(own, config, idOf),
      config.split_special_tokens === true,
    );
    this.#characters = KnownCharacters.of(json, config);
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
    // transformers 5 ignores the config's cleanup of spaces for BPE, and cleans up only when the caller asks.
    this.#cleanUp = json.model.type !== 'BPE' && config.clean_up_tokenization_spaces === true;
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    checkEncode(text, options);
    this.#characters?.check(text);
    return this.#characters?.encode(text) ?? this.#pipeline.encode(text, options.addSpecialTokens ?? true);
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    checkDecode(ids, options);
    const skip = options.skipSpecialTokens ?? false;
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
