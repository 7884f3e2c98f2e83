/** Rows of calibration tokens, taken at equal distances from all of a text, so that each part of it counts. */
import { documentStart, documentWindows } from '../text/documents.ts';
import type { OpenedDecoder } from './opened-decoder.ts';

/** Tokens of a row, or the model's context where that is shorter. */
const WINDOW = 256;

/**
 * @param source a text, or token ids
 * @param count of tokens, about: rows have one length
 * @param path names the checkpoint in errors
 * @throws Error when there is a text but no tokenizer, or too few tokens; RangeError for an id that is no
 * token of the model
 */
export function calibrationRows(
  { config, tokenizer }: OpenedDecoder,
  source: string | ArrayLike<number>,
  count: number,
  path: string,
): number[][] {
  const length = Math.min(WINDOW, config.maxPositionEmbeddings);
  if (typeof source === 'string' && tokenizer === undefined) {
    throw new Error(`${path}: expected a tokenizer for the text of distill, got none`);
  }
  const tokens =
    typeof source === 'string' ? (tokenizer?.encode(source, { addSpecialTokens: false }) ?? []) : source;
  for (let i = 0; i < tokens.length; i++) {
    const id = tokens[i];
    if (Number.isInteger(id) && id >= 0 && id < config.vocabSize) continue;
    throw new RangeError(`distill: expected token ids from 0 to ${config.vocabSize - 1}, got ${id}`);
  }
  const windows = documentWindows(tokens, tokenizer ? documentStart(tokenizer) : [], length);
  // Rows form batches, so a shorter last one is left out.
  if (windows.length > 1 && windows[windows.length - 1].length < windows[0].length) windows.pop();
  if (windows.length === 0) throw new Error(`distill: expected at least 2 tokens, got ${tokens.length}`);
  const rows = Math.min(windows.length, Math.ceil(count / length));
  return Array.from({ length: rows }, (_, i) => windows[Math.floor((i * windows.length) / rows)]);
}
