/** Types of Hugging Face's tokenizer files, for the keys used here. */

/** One step of a pipeline: its `type` and its own options. */
export interface Step {
  readonly type: string;
  readonly [option: string]: unknown;
}

/** An added token, matched in the text before any other step. */
export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly single_word?: boolean;
  readonly normalized?: boolean;
}

export interface ModelJson {
  readonly type?: string;
  /**
   * Ids by text, or for a Unigram model texts and scores. A Map (not from files) is faster to build than an
   * object.
   */
  readonly vocab:
    | Readonly<Record<string, number>>
    | readonly (readonly [string, number])[]
    | ReadonlyMap<string, number>;
  /** Replaces `merges` for a GGUF header: scores by id, NaN for tokens that are not pieces. */
  readonly scores?: Float64Array;
  readonly [option: string]: unknown;
}

export interface TokenizerJson {
  readonly model: ModelJson;
  readonly added_tokens: readonly AddedTokenJson[];
  readonly normalizer: Step | null;
  readonly pre_tokenizer: Step | null;
  readonly post_processor: Step | null;
  readonly decoder: Step | null;
}

/** A special token of tokenizer_config.json: its text, or an object with it. */
export type ConfigToken = string | { readonly content: string; readonly [flag: string]: unknown } | null;

export interface TokenizerConfigJson {
  readonly bos_token?: ConfigToken;
  readonly eos_token?: ConfigToken;
  readonly unk_token?: ConfigToken;
  readonly pad_token?: ConfigToken;
  readonly add_bos_token?: boolean | null;
  readonly add_eos_token?: boolean | null;
  readonly clean_up_tokenization_spaces?: boolean | null;
  readonly added_tokens_decoder?: Readonly<Record<string, Omit<AddedTokenJson, 'id'>>>;
  readonly chat_template?: string | readonly { readonly name: string; readonly template: string }[] | null;
  readonly [key: string]: unknown;
}

/** The text of a special token, undefined when the config has none. */
export function configTokenText(token: ConfigToken | undefined): string | undefined {
  return typeof token === 'string' ? token : token?.content;
}
