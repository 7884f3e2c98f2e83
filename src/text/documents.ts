/**
 * How a document begins, and long texts in windows that each begin so. Models whose tokenizer puts bos in front of every text (Llama,
 * Mistral, Gemma, DeepSeek) never saw one without: their losses on bare blocks are far too high.
 */
import type { Tokenizer } from './tokenizer.ts';

/**
 * The tokens that a tokenizer puts in front of every text: its bos, or none. What it puts behind a text, if anything, is not meant for
 * texts that go on, nor for blocks out of the middle of one.
 */
export function documentStart(tokenizer: Tokenizer): readonly number[] {
  if (tokenizer.encode('').length === 0) return [];
  // Any text will do; one of the vocabulary's own is there in a tokenizer of a few characters too.
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
 * Token rows of at most `length`, each with `start` in front, in which every token is predicted once. Without a start the last token
 * of a window is the first of the next, and the first of the text is predicted from nothing, so never. llama.cpp's perplexity tool
 * begins its chunks with bos likewise.
 * @param start what `documentStart` gives
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
      `expected windows of more than ${start.length + overlap} tokens, got ${length}: each begins with ${start.length} of its own`,
    );
  }
  const windows: number[][] = [];
  for (let at = 0; at + overlap < tokens.length; at += stride) {
    const end = Math.min(at + stride + overlap, tokens.length);
    windows.push([...start, ...Array.from({ length: end - at }, (_, i) => tokens[at + i])]);
  }
  return windows;
}
