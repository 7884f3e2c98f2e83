/**
 * Makes text from files and models safe to print on a terminal or a page. Control characters can move the
 * cursor, rename the window or rewrite lines; C1 ones do so without an escape, and bidirectional overrides
 * reorder letters.
 */

/**
 * C0 except tab and newline, delete, C1, line separators, and directional embeddings, overrides and isolates.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;

/** The text with control characters written as `\x1b` or `\u202e`; newlines and tabs are kept. */
export function printable(text: string): string {
  return text.replace(CONTROLS, escaped);
}

/** As `printable`, in one line: newlines and tabs become `\n` and `\t`. */
export function printableLine(text: string): string {
  return printable(text.replaceAll('\n', '\\n').replaceAll('\t', '\\t'));
}

/** JSON text with the same characters as JSON escapes; the value is unchanged. */
export function printableJson(json: string): string {
  return json.replace(CONTROLS, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function escaped(sign: string): string {
  const code = sign.charCodeAt(0).toString(16);
  return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`;
}
