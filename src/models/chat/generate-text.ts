/** `generateText`: `generate` from text to text. */
import { aBoolean, anything, aString } from '../../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../../arguments/options.ts';
import { documentStart } from '../../text/documents.ts';
import { StreamingDecoder } from '../../text/streaming-decoder.ts';
import type { Tokenizer } from '../../text/tokenizer.ts';
import { type GenerateOptions, generate } from '../generation/generate.ts';
import { checkModel, GENERATION_KINDS } from '../generation/request.ts';
import type { Model } from '../model.ts';

/** Options of `generateText`: those of `generate`, and two of the tokenizer. */
export interface GenerateTextOptions extends GenerateOptions {
  /**
   * Whether to leave control tokens such as `<|im_end|>` out of the text; default true, as in transformers'
   * text-generation pipeline.
   */
  readonly skipSpecialTokens?: boolean;
  /**
   * Whether to begin the prompt with the tokens that the tokenizer puts before a text, such as Llama's bos;
   * default true. Use false for a prompt that contains them, or that continues a `cache`.
   */
  readonly addSpecialTokens?: boolean;
}

const OPTIONS = optionKinds<GenerateTextOptions>({
  ...GENERATION_KINDS,
  cache: anything,
  skipSpecialTokens: aBoolean,
  addSpecialTokens: aBoolean,
});

/**
 * Continues a text. Yields the new text in pieces, each a whole number of characters and not empty; together
 * they are `decode` of all new tokens. No part of a stop string is among them, nor text before it that shares
 * a token with it.
 *
 * @param model with a tokenizer
 * @param prompt the text to continue
 * @throws TypeError for a prompt that is no string; Error for a model without a tokenizer; else as `generate`.
 *   All on the first `next()`.
 * @example
 * const loaded = await loadModel('model.gguf');
 * for await (const piece of generateText(loaded, 'Once upon a time', { maxNewTokens: 64, stop: ['\n'] })) {
 *   process.stdout.write(piece);
 * }
 */
export async function* generateText(
  model: Model,
  prompt: string,
  options: GenerateTextOptions = {},
): AsyncGenerator<string, void, undefined> {
  checkModel('generateText', model);
  aString('generateText', 'a prompt', prompt);
  checkOptions('generateText', options, OPTIONS);
  const { skipSpecialTokens = true, addSpecialTokens = true, ...generation } = options;
  const tokenizer = tokenizerOf('generateText', model);
  const tokens = [
    ...(addSpecialTokens ? documentStart(tokenizer) : []),
    ...tokenizer.encode(prompt, { addSpecialTokens: false }),
  ];
  const decoder = new StreamingDecoder(tokenizer, { skipSpecialTokens });
  for await (const token of generate(model, tokens, generation)) {
    const piece = decoder.push(token);
    if (piece !== '') yield piece;
  }
  const rest = decoder.flush();
  if (rest !== '') yield rest;
}

/** @throws Error for a model without a tokenizer */
export function tokenizerOf(op: string, model: Model): Tokenizer {
  const { tokenizer } = model;
  if (tokenizer === undefined)
    throw new Error(`${op}: expected a model with a tokenizer, got one without; generate takes token ids`);
  return tokenizer;
}
