/** The decoders of a tokenizer.json: tokens back to text. Source: Rust `tokenizers`, src/decoders. */
import { lettersAsBytes } from './byte-letters.ts';
import { prependScheme, replacementOf } from './pre-tokenizers.ts';
import { checkKeys, checkLength, flatten, option, refuse, replacer } from './steps.ts';
import type { Step } from './tokenizer-json.ts';

/** One step: maps token texts to token texts. */
type Decoder = (tokens: string[]) => string[];

/** @throws RangeError for an unknown decoder or option */
export function decoderOf(step: Step | null): (tokens: string[]) => string {
  const steps = flatten(step, 'decoders').map(make);
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

function make(step: Step): Decoder {
  switch (step.type) {
    case 'ByteLevel':
      checkKeys(step, 'ByteLevel', 'add_prefix_space trim_offsets use_regex');
      return byteLevel;
    case 'ByteFallback':
      checkKeys(step, 'ByteFallback', '');
      return byteFallback;
    case 'Fuse':
      checkKeys(step, 'Fuse', '');
      return (tokens) => [tokens.join('')];
    case 'Replace': {
      const replace = replacer(step);
      return (tokens) => tokens.map(replace);
    }
    case 'Strip':
      return strip(step);
    case 'Metaspace': {
      const keepsFirst = prependScheme(step) === 'never';
      const sign = replacementOf(step);
      checkKeys(step, 'Metaspace', 'replacement prepend_scheme split add_prefix_space str_rep');
      return (tokens) => tokens.map((token, i) => token.replaceAll(sign, i === 0 && !keepsFirst ? '' : ' '));
    }
    case 'BPEDecoder': {
      checkKeys(step, 'BPEDecoder', 'suffix');
      const suffix = option(step, 'suffix', 'string', '</w>');
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? '' : ' '));
    }
    case 'WordPiece':
      return wordPiece(step);
    default:
      return refuse(
        'a decoder among BPEDecoder, ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence, Strip and WordPiece',
        step.type,
      );
  }
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
  checkKeys(step, 'Strip', 'content start stop');
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
  checkKeys(step, 'WordPiece', 'prefix cleanup');
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
