/**
 * Text from files and models, as a terminal or a page may show it. Control characters move the cursor, rename the window or
 * rewrite earlier lines; C1 ones do the same without an escape, and bidirectional overrides show letters in another order.
 */

/** C0 without tab and newline, delete, C1, separators of lines, embeddings, overrides and isolates of direction. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;

/** The text with control characters written as `\x1b` or `\u202e`; newlines and tabs stay. */
export function printable(text: string): string {
  return text.replace(CONTROLS, escaped);
}

/** As `printable`, in one line: newlines and tabs are written as `\n` and `\t`. */
export function printableLine(text: string): string {
  return printable(text.replaceAll('\n', '\\n').replaceAll('\t', '\\t'));
}

/** JSON text with the same characters escaped as JSON has it: another spelling of the same value. */
export function printableJson(json: string): string {
  return json.replace(CONTROLS, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function escaped(sign: string): string {
  const code = sign.charCodeAt(0).toString(16);
  return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`;
}
