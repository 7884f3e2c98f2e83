/**
 * The start tokens of a document, and windows of long texts that each begin with them. Models whose tokenizer
 * starts every text with bos (Llama, Mistral, Gemma, DeepSeek) were trained only with it: without it their
 * losses are far too high.
 */
import type { Tokenizer } from './tokenizer.ts';

/**
 * The tokens that a tokenizer puts before every text: its bos, or none. Tokens it puts after a text are left
 * out, since windows end inside a text.
 */
export function documentStart(tokenizer: Tokenizer): readonly number[] {
  if (tokenizer.encode('').length === 0) return [];
  // Any text works; one from the vocabulary is also valid for a character tokenizer.
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    const text = tokenizer.isSpecial(id) ? '' : tokenizer.decode([id]);
    const bare = text === '' ? [] : tokenizer.encode(text, { addSpecialTokens: false });
    if (bare.length === 0) continue;
    const whole = tokenizer.encode(text);
    const at = whole.findIndex((_, i) => bare.every((token, j) => whole[i + j] === token));
    if (at >= 0) return whole.slice(0, at);
  }
  return [];
}

/**
 * Token rows of at most `length`, each beginning with `start`, in which every token is predicted once. With
 * an empty start, windows overlap by one token, and the first token of the text is not predicted. llama.cpp's
 * perplexity tool also begins its chunks with bos.
 * @param start from `documentStart`
 */
export function documentWindows(
  tokens: ArrayLike<number>,
  start: readonly number[],
  length: number,
): number[][] {
  const overlap = start.length === 0 ? 1 : 0;
  const stride = length - start.length - overlap;
  if (stride < 1) {
    throw new RangeError(
      `expected windows of more than ${start.length + overlap} tokens (${start.length} of them start tokens), got ${length}`,
    );
  }
  const windows: number[][] = [];
  for (let at = 0; at + overlap < tokens.length; at += stride) {
    const end = Math.min(at + stride + overlap, tokens.length);
    windows.push([...start, ...Array.from({ length: end - at }, (_, i) => tokens[at + i])]);
  }
  return windows;
}
