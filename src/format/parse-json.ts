/** JSON of a file beside the weights: config.json, tokenizer.json, a recipe. */
import { FormatError } from './format-error.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });

/** A string (kept as it is), or a number that Python writes and JSON does not have. */
const PYTHON_NUMBERS = /"(?:[^"\\]|\\.)*"|-?\b(?:Infinity|NaN)\b/g;

/**
 * Parses the text of a file, or its bytes. Python's `Infinity` and `NaN`, as in the `time_step_limit` of
 * Nemotron-H, become null.
 * @param file what errors call it
 * @throws FormatError that names the file when it is not UTF-8 or not JSON
 */
export function parseJson(file: string, content: string | Uint8Array): unknown {
  let text = '';
  try {
    text = typeof content === 'string' ? content : decoder.decode(content);
    return JSON.parse(text);
  } catch (cause) {
    if (/\b(Infinity|NaN)\b/.test(text)) {
      try {
        return JSON.parse(text.replace(PYTHON_NUMBERS, (found) => (found.startsWith('"') ? found : 'null')));
      } catch {
        // The first error is about the text as it is.
      }
    }
    throw new FormatError(file, undefined, `expected JSON, got: ${(cause as Error).message}`, { cause });
  }
}
