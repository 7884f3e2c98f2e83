/** Rows of calibration tokens, all of one length, so that they form batches. */
import type { DecoderConfig } from '../models/decoder-config.ts';
import { documentStart, documentWindows } from '../text/documents.ts';
import type { OpenedDecoder } from './opened-decoder.ts';

/** Tokens of a row, or the model's context where that is shorter. */
const WINDOW = 256;

export function calibrationRowLength({ maxPositionEmbeddings }: DecoderConfig): number {
  return Math.min(WINDOW, maxPositionEmbeddings);
}

/**
 * All rows of a text, without a shorter last one.
 * @param tokens of the text
 * @param expected begins the error about a text that is too short
 * @throws RangeError for fewer than 2 tokens
 */
export function calibrationRows(
  { config, tokenizer }: OpenedDecoder,
  tokens: ArrayLike<number>,
  expected: string,
): number[][] {
  const start = tokenizer ? documentStart(tokenizer) : [];
  const rows = documentWindows(tokens, start, calibrationRowLength(config));
  if (rows.length > 1 && rows[rows.length - 1].length < rows[0].length) rows.pop();
  if (rows.length === 0) throw new RangeError(`${expected}, got ${tokens.length}`);
  return rows;
}

/** @param what names the text in errors @throws Error without a tokenizer */
export function calibrationTokens(
  { tokenizer }: OpenedDecoder,
  text: string,
  path: string,
  what: string,
): ArrayLike<number> {
  if (tokenizer === undefined) throw new Error(`${path}: expected a tokenizer for ${what}, got none`);
  return tokenizer.encode(text, { addSpecialTokens: false });
}
