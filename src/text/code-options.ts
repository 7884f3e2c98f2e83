/** Arguments of a tokenizer's `encode` and `decode`. */
import { aBoolean, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';

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

const ENCODE_OPTIONS = optionKinds<EncodeOptions>({ addSpecialTokens: aBoolean });
const DECODE_OPTIONS = optionKinds<DecodeOptions>({ skipSpecialTokens: aBoolean });

/** @throws TypeError for another kind of argument */
export function checkEncode(text: string, options: EncodeOptions): void {
  if (typeof text !== 'string') throw new TypeError(`encode: expected a string, got ${typeof text}`);
  checkOptions('encode', options, ENCODE_OPTIONS);
}

/** @throws TypeError for another kind of argument */
export function checkDecode(ids: readonly number[], options: DecodeOptions): void {
  checkOptions('decode', options, DECODE_OPTIONS);
  if (!Array.isArray(ids)) {
    throw new TypeError(`decode: expected an array of token ids, got ${describe(ids)}`);
  }
}
