/** The decoders of a tokenizer.json: tokens back to text. Source: Rust `tokenizers`, src/decoders. */
import { lettersAsBytes } from './byte-letters.ts';
import { metaspaceOptions, prependScheme, replacementOf } from './pre-tokenizers.ts';
import { type Components, checkLength, flatten, makeComponent, option, replacer } from './steps.ts';
import type { Step } from './tokenizer-json.ts';

/** One step: maps token texts to token texts. */
type Decoder = (tokens: string[]) => string[];

/** @throws RangeError for an unknown decoder or option */
export function decoderOf(step: Step | null): (tokens: string[]) => string {
  const steps = flatten(step, 'decoders').map((each) => makeComponent('decoder', decoders, each));
  if (step === null) return (tokens) => tokens.join(' ');
  const lengthOf = (tokens: readonly string[]): number =>
    tokens.reduce((sum, token) => sum + token.length, 0);
  return (tokens) => {
    const original = lengthOf(tokens);
    let current = tokens;
    for (const decode of steps) {
      current = decode(current);
      checkLength(lengthOf(current), original);
    }
    return current.join('');
  };
}

const decoders: Components<Decoder> = {
  BPEDecoder: ['suffix', bpe],
  ByteFallback: ['', () => byteFallback],
  ByteLevel: ['add_prefix_space trim_offsets use_regex', () => byteLevel],
  Fuse: ['', () => (tokens) => [tokens.join('')]],
  Metaspace: [metaspaceOptions, metaspace],
  Replace: ['pattern content', replace],
  Strip: ['content start stop', strip],
  WordPiece: ['prefix cleanup', wordPiece],
};

function metaspace(step: Step): Decoder {
  const keepsFirst = prependScheme(step) === 'never';
  const sign = replacementOf(step);
  return (tokens) => tokens.map((token, i) => token.replaceAll(sign, i === 0 && !keepsFirst ? '' : ' '));
}

function bpe(step: Step): Decoder {
  const suffix = option(step, 'suffix', 'string', '</w>');
  return (tokens) => tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? '' : ' '));
}

function replace(step: Step): Decoder {
  const inToken = replacer(step);
  return (tokens) => tokens.map(inToken);
}

const encoder = new TextEncoder();
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** A token with a letter that represents no byte (an added token) is kept as text. */
function byteLevel(tokens: string[]): string[] {
  const bytes = tokens.flatMap((token) => lettersAsBytes(token) ?? [...encoder.encode(token)]);
  return [utf8.decode(Uint8Array.from(bytes))];
}

/**
 * Decodes consecutive byte tokens as UTF-8. For invalid UTF-8, valid characters are kept and the rest becomes
 * U+FFFD, as in ByteLevel. Rust turns every byte of such a run into U+FFFD, which would change text already
 * streamed.
 */
function byteFallback(tokens: string[]): string[] {
  const out: string[] = [];
  let bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length > 0) out.push(utf8.decode(Uint8Array.from(bytes)));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    if (byte !== null) {
      bytes.push(Number.parseInt(byte[1], 16));
      continue;
    }
    flush();
    out.push(token);
  }
  flush();
  return out;
}

function strip(step: Step): Decoder {
  const content = option(step, 'content', 'string', ' ');
  const start = option(step, 'start', 'number', 0);
  const stop = option(step, 'stop', 'number', 0);
  return (tokens) =>
    tokens.map((token) => {
      const letters = Array.from(token);
      let from = 0;
      while (from < start && letters[from] === content) from++;
      let to = letters.length;
      while (letters.length - to < stop && to > 0 && letters[to - 1] === content) to--;
      return letters.slice(from, Math.max(from, to)).join('');
    });
}

function wordPiece(step: Step): Decoder {
  const prefix = option(step, 'prefix', 'string', '##');
  const cleanup = option(step, 'cleanup', 'boolean', true);
  return (tokens) =>
    tokens.map((token, i) => {
      let text = token;
      if (i > 0) text = token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return cleanup ? cleanUp(text).replaceAll(' do not', " don't") : text;
    });
}

/** Removes spaces before English punctuation and contractions, as transformers does. */
export function cleanUp(text: string): string {
  return text
    .replaceAll(' .', '.')
    .replaceAll(' ?', '?')
    .replaceAll(' !', '!')
    .replaceAll(' ,', ',')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}
