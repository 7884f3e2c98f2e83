/**
 * Byte-level vocabularies represent each byte by one letter: printable Latin-1 by itself, the other 68 by
 * U+0100 to U+0143. Source: `bytes_to_unicode` of GPT-2's encoder.py.
 */

const letters: string[] = [];
const bytes = new Map<string, number>();
let others = 0;
for (let byte = 0; byte < 256; byte++) {
  const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  letters.push(String.fromCharCode(printable ? byte : 256 + others++));
  bytes.set(letters[byte], byte);
}

const encoder = new TextEncoder();

/** The UTF-8 bytes of a text, one letter per byte. */
export function bytesAsLetters(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 127) {
      for (const byte of encoder.encode(text.slice(i))) out += letters[byte];
      return out;
    }
    out += letters[unit];
  }
  return out;
}

/** The bytes represented by a token's letters; undefined when a letter represents none. */
export function lettersAsBytes(token: string): number[] | undefined {
  const out: number[] = [];
  for (const letter of token) {
    const byte = bytes.get(letter);
    if (byte === undefined) return undefined;
    out.push(byte);
  }
  return out;
}

/** The byte tokens `<0x..>` of a text's UTF-8 bytes; undefined when one is not in the vocabulary. */
export function byteTokens(text: string, vocab: ReadonlyMap<string, number>): number[] | undefined {
  const ids: number[] = [];
  for (const byte of encoder.encode(text)) {
    const id = vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
    if (id === undefined) return undefined;
    ids.push(id);
  }
  return ids;
}
