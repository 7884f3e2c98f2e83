/**
 * Text to token ids and back, and chat templates: Hugging Face's `@huggingface/tokenizers` and `@huggingface/jinja`
 * behind one small interface, made from the files of a Hugging Face directory or from a GGUF header.
 * Truth: the ids and texts of transformers for the same file (`test/golden/smollm2`).
 */

import { Template } from '@huggingface/jinja';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import type { GgufValue } from '../format/gguf.ts';
import { aBoolean, checkOptions, describe, optionKinds } from '../tensor/arguments.ts';
import { tokenizerFilesFromGguf } from './gguf-tokenizer.ts';
import {
  configTokenText,
  forJavaScript,
  type TokenizerConfigJson,
  type TokenizerJson,
  withConfig,
} from './tokenizer-json.ts';

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
  /** Token ids of a text, equal to transformers' `tokenizer(text).input_ids`. */
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

/** What is used of the library; its own declarations do not resolve under `moduleResolution: nodenext`. */
interface Library {
  readonly decoder: LibraryDecoder | null;
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: readonly number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}

interface LibraryDecoder {
  readonly decoders?: readonly LibraryDecoder[];
  text_decoder?: TextDecoder;
}

class JsonTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenIds: readonly number[];
  readonly chatTemplate: string | undefined;
  readonly #library: Library;
  readonly #special: ReadonlySet<number>;
  readonly #cleanUp: boolean;
  /** The special tokens by the names templates know them by. */
  readonly #templateTokens: Record<string, string> = {};
  #template: Template | undefined;

  constructor(file: TokenizerJson, config: TokenizerConfigJson, extras: TokenizerExtras) {
    const json = forJavaScript(withConfig(file, config));
    // Cleaning up is left to decode below, whose default differs from the library's.
    this.#library = new HuggingFaceTokenizer(json, { ...config, clean_up_tokenization_spaces: false });
    keepByteOrderMarks(this.#library.decoder);

    const special = json.added_tokens.filter((token) => token.special === true);
    this.#special = new Set(special.map((token) => token.id));
    let largest = -1;
    const { vocab } = json.model;
    for (const id of Array.isArray(vocab) ? [vocab.length - 1] : Object.values(vocab))
      largest = Math.max(largest, id);
    for (const token of json.added_tokens) largest = Math.max(largest, token.id);
    this.vocabSize = largest + 1;

    const idOf = (text: string | undefined): number | undefined =>
      text === undefined ? undefined : this.#library.token_to_id(text);
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
    return this.#library.encode(text, { add_special_tokens: options.addSpecialTokens ?? true }).ids;
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    checkOptions('decode', options, DECODE_OPTIONS);
    const skip = options.skipSpecialTokens ?? false;
    if (!Array.isArray(ids)) {
      throw new TypeError(`decode: expected an array of token ids, got ${describe(ids)}`);
    }
    const known = ids.filter(
      (id) => this.#library.id_to_token(id) !== undefined && !(skip && this.#special.has(id)),
    );
    if (known.length === 0) return '';
    return this.#library.decode(known, { clean_up_tokenization_spaces: this.#cleanUp });
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
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

/** The config's template, or the one called `default` of several. */
function configTemplate(config: TokenizerConfigJson): string | undefined {
  const template = config.chat_template ?? undefined;
  if (template === undefined || typeof template === 'string') return template;
  return template.find((named) => named.name === 'default')?.template;
}

/** The library's byte-fallback decoder drops a U+FEFF, which Rust's keeps. */
function keepByteOrderMarks(decoder: LibraryDecoder | null): void {
  for (const inner of decoder?.decoders ?? []) keepByteOrderMarks(inner);
  if (decoder?.text_decoder !== undefined)
    decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
}
