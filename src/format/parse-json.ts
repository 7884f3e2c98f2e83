/** JSON of a file beside the weights: config.json, tokenizer.json, a recipe. */
import { FormatError } from './format-error.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Parses the text of a file, or its bytes.
 * @param file what errors call it
 * @throws FormatError that names the file when it is not UTF-8 or not JSON
 */
export function parseJson(file: string, content: string | Uint8Array): unknown {
  try {
    return JSON.parse(typeof content === 'string' ? content : decoder.decode(content));
  } catch (cause) {
    throw new FormatError(file, undefined, `expected JSON, got: ${(cause as Error).message}`, { cause });
  }
}
