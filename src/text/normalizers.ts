/**
 * The normalizers of a tokenizer.json, which change a text before pre-tokenization. Source: Rust
 * `tokenizers`, src/normalizers.
 */
import { bytesAsLetters } from './byte-letters.ts';
import { type Components, checkLength, flatten, makeComponent, option, refuse, replacer } from './steps.ts';
import type { Step } from './tokenizer-json.ts';

export type Normalizer = (text: string) => string;

/** @throws RangeError for an unknown normalizer or option */
export function normalizerOf(step: Step | null): Normalizer | undefined {
  const steps = flatten(step, 'normalizers').map((each) => makeComponent('normalizer', normalizers, each));
  if (steps.length === 0) return undefined;
  return (text) => {
    let out = text;
    for (const normalize of steps) {
      out = normalize(out);
      checkLength(out.length, text.length);
    }
    return out;
  };
}

const form = (name: 'NFC' | 'NFD' | 'NFKC' | 'NFKD') => (): Normalizer => (text) => text.normalize(name);

const normalizers: Components<Normalizer> = {
  NFC: ['', form('NFC')],
  NFD: ['', form('NFD')],
  NFKC: ['', form('NFKC')],
  NFKD: ['', form('NFKD')],
  Lowercase: ['', () => lowercase],
  StripAccents: ['', () => (text) => text.replace(/\p{M}/gu, '')],
  Strip: ['strip_left strip_right', strip],
  Prepend: ['prepend', prepend],
  Replace: ['pattern content', replacer],
  ByteLevel: ['add_prefix_space trim_offsets use_regex', () => bytesAsLetters],
  BertNormalizer: ['clean_text handle_chinese_chars strip_accents lowercase', bert],
};

function strip(step: Step): Normalizer {
  const left = option(step, 'strip_left', 'boolean', false);
  const right = option(step, 'strip_right', 'boolean', false);
  return (text) => trim(text, left, right);
}

function prepend(step: Step): Normalizer {
  const prefix = option(step, 'prepend', 'string', '');
  if (prefix.length > 1000) refuse("Prepend's prepend to be at most 1000 characters long", prefix.length);
  return (text) => (text === '' ? '' : prefix + text);
}

/** Per letter, so that a final Σ becomes σ, not ς. */
function lowercase(text: string): string {
  if (!text.includes('Σ')) return text.toLowerCase();
  return text
    .split('Σ')
    .map((part) => part.toLowerCase())
    .join('σ');
}

/** Trims Unicode white space; JavaScript's `trim` includes U+FEFF and lacks U+0085. */
export function trim(text: string, left: boolean, right: boolean): string {
  let out = text;
  if (left) out = out.replace(/^\p{White_Space}+/u, '');
  if (right) out = out.slice(0, spacesAtEnd(out));
  return out;
}

/** Start of the trailing spaces of a text. A regular expression would take quadratic time. */
export function spacesAtEnd(text: string): number {
  let end = text.length;
  while (end > 0 && /\p{White_Space}/u.test(text[end - 1])) end--;
  return end;
}

const chinese =
  /[\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{F900}-\u{FAFF}\u{2F800}-\u{2FA1F}]/gu;

function bert(step: Step): Normalizer {
  const clean = option(step, 'clean_text', 'boolean', true);
  const spaceChinese = option(step, 'handle_chinese_chars', 'boolean', true);
  const lower = option(step, 'lowercase', 'boolean', true);
  const stripAccents = option(step, 'strip_accents', 'boolean', lower);
  return (text) => {
    let out = text;
    if (clean) {
      out = out
        .replace(/[\0\uFFFD]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cn}]/gu, '')
        .replace(/\p{White_Space}/gu, ' ');
    }
    if (spaceChinese) out = out.replace(chinese, ' $& ');
    if (stripAccents) out = out.normalize('NFD').replace(/\p{Mn}/gu, '');
    return lower ? lowercase(out) : out;
  };
}
