/** Options of a tokenizer's `encode` and `decode`. */
import { aBoolean } from '../arguments/kinds.ts';
import { type OptionTable, optionKinds } from '../arguments/options.ts';

/** Options of `encode`. */
export interface EncodeOptions {
  /**
   * Whether to add the tokenizer's special tokens around the text (Llama 3 and Mistral start with bos;
   * SmolLM2, GPT-2 and Qwen add none). Default true, as in transformers. Use false for a rendered chat
   * prompt, which contains its own. Special tokens written in the text are recognised in both cases.
   */
  readonly addSpecialTokens?: boolean;
}

/** Options of `decode`. */
export interface DecodeOptions {
  /** Whether to omit control tokens such as `<|im_end|>` from the text. Default false, as in transformers. */
  readonly skipSpecialTokens?: boolean;
}

/** Their kinds. */
export const ENCODE_OPTIONS: OptionTable = optionKinds<EncodeOptions>({ addSpecialTokens: aBoolean });
export const DECODE_OPTIONS: OptionTable = optionKinds<DecodeOptions>({ skipSpecialTokens: aBoolean });
