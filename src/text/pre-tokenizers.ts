/**
 * The pre-tokenizers of a tokenizer.json: how a text is split into the words that the model tokenizes.
 * Source: Rust `tokenizers`, src/pre_tokenizers, and `NormalizedString::split` for the five split behaviours.
 */
import { bytesAsLetters } from './byte-letters.ts';
import { gpt2Split } from './gguf-pre-tokenizers.ts';
import { Regex } from './regex.ts';
import { type CodePointTest, isSpace, isWord, unicode } from './regex-parser.ts';
import { type Components, type Finder, finder, flatten, makeComponent, option, refuse } from './steps.ts';
import type { Step } from './tokenizer-json.ts';

/** Words in order. */
export interface Words {
  readonly texts: readonly string[];
  /** Whether the first word is at the start of the whole text (where Metaspace may add its ▁). */
  readonly atStart: boolean;
}

export type PreTokenizer = (words: Words) => Words;

const behaviors = ['Isolated', 'Removed', 'Contiguous', 'MergedWithPrevious', 'MergedWithNext'] as const;
type Behavior = (typeof behaviors)[number];

/** @throws RangeError for an unknown pre-tokenizer or option */
export function preTokenizerOf(step: Step | null): PreTokenizer | undefined {
  const steps = flatten(step, 'pretokenizers').map((each) =>
    makeComponent('pre-tokenizer', preTokenizers, each),
  );
  if (steps.length === 0) return undefined;
  return (words) => steps.reduce((current, cut) => cut(current), words);
}

const isPunctuation = unicode('[\\p{P}!-/:-@\\[-`{-~]');
const isNumeric = unicode('\\p{N}');

/** Options of Metaspace, as pre-tokenizer and as decoder. */
export const metaspaceOptions = 'replacement prepend_scheme split add_prefix_space str_rep';

const preTokenizers: Components<PreTokenizer> = {
  BertPreTokenizer: [
    '',
    () => {
      const bySpace = cutting(each(isSpace), 'Removed');
      const bySign = cutting(each(isPunctuation), 'Isolated');
      return (words) => bySign(bySpace(words));
    },
  ],
  ByteLevel: ['add_prefix_space trim_offsets use_regex', byteLevel],
  CharDelimiterSplit: [
    'delimiter',
    (step) => {
      const delimiter = option(step, 'delimiter', 'string', '').codePointAt(0);
      const isDelimiter: CodePointTest = (codePoint) => codePoint === delimiter;
      return cutting(each(isDelimiter), 'Removed');
    },
  ],
  Digits: [
    'individual_digits',
    (step) => {
      const single = option(step, 'individual_digits', 'boolean', false);
      return cutting(each(isNumeric), single ? 'Isolated' : 'Contiguous');
    },
  ],
  Metaspace: [metaspaceOptions, metaspace],
  Punctuation: ['behavior', (step) => cutting(each(isPunctuation), behaviorOf(step))],
  Split: [
    'pattern behavior invert',
    (step) => {
      const invert = option(step, 'invert', 'boolean', false);
      return cutting(finder(step.pattern, 'Split'), behaviorOf(step), invert);
    },
  ],
  Whitespace: ['', () => cutting(wordsAndSigns, 'Removed', true)],
  WhitespaceSplit: ['', () => cutting(each(isSpace), 'Removed')],
};

function behaviorOf(step: Step): Behavior {
  const behavior = step.behavior ?? 'Isolated';
  if (!behaviors.includes(behavior as Behavior))
    refuse(`${step.type}'s behavior to be one of ${behaviors.join(', ')}`, behavior);
  return behavior as Behavior;
}

/** Each matching code point is a separate match. */
function each(test: CodePointTest): Finder {
  return (text) => {
    const found: number[] = [];
    for (let i = 0; i < text.length; ) {
      const codePoint = text.codePointAt(i) as number;
      const end = i + (codePoint > 0xffff ? 2 : 1);
      if (test(codePoint)) found.push(i, end);
      i = end;
    }
    return found;
  };
}

/** `\w+|[^\w\s]+` of Rust's regex crate, which counts the two joiners as word characters. */
export const isWordOrJoiner: CodePointTest = (codePoint) =>
  isWord(codePoint) || codePoint === 0x200c || codePoint === 0x200d;

const wordsAndSigns: Finder = (text) => {
  const found: number[] = [];
  const kindAt = (i: number): number => {
    const codePoint = text.codePointAt(i) as number;
    return isWordOrJoiner(codePoint) ? 1 : isSpace(codePoint) ? 0 : 2;
  };
  for (let i = 0; i < text.length; ) {
    const kind = kindAt(i);
    const start = i;
    do i += (text.codePointAt(i) as number) > 0xffff ? 2 : 1;
    while (i < text.length && kindAt(i) === kind);
    if (kind !== 0) found.push(start, i);
  }
  return found;
};

/** A pre-tokenizer that splits at the matches of `find`. */
function cutting(find: Finder, behavior: Behavior, invert = false): PreTokenizer {
  return ({ texts, atStart }) => {
    const out: string[] = [];
    let startsThere = atStart;
    texts.forEach((text, i) => {
      const before = out.length;
      const first = cut(text, find(text), behavior, invert, out);
      if (i === 0) startsThere &&= first === 0 && out.length > before;
    });
    return { texts: out, atStart: startsThere };
  };
}

/**
 * Splits one text and appends its pieces to `out`.
 * @param found starts and ends of the matches
 * @returns the start of the first kept piece
 */
function cut(
  text: string,
  found: readonly number[],
  behavior: Behavior,
  invert: boolean,
  out: string[],
): number {
  // Matches and gaps, as three columns; an empty match splits without a piece.
  const starts: number[] = [];
  const ends: number[] = [];
  const matched: boolean[] = [];
  const add = (start: number, end: number, match: boolean): void => {
    starts.push(start);
    ends.push(end);
    matched.push(match !== invert);
  };
  let end = 0;
  for (let i = 0; i < found.length; i += 2) {
    if (found[i] > end) add(end, found[i], false);
    add(found[i], found[i + 1], true);
    end = found[i + 1];
  }
  if (end < text.length) add(end, text.length, false);

  const pieces: [start: number, end: number][] = [];
  let previous = false;
  if (behavior === 'MergedWithNext') {
    // From last to first: a match is merged with the piece after it.
    for (let i = starts.length - 1; i >= 0; i--) {
      if (matched[i] && !previous && pieces.length > 0) pieces[pieces.length - 1][0] = starts[i];
      else pieces.push([starts[i], ends[i]]);
      previous = matched[i];
    }
    pieces.reverse();
  } else {
    for (let i = 0; i < starts.length; i++) {
      if (behavior === 'Removed' && matched[i]) continue;
      const joins =
        (behavior === 'Contiguous' && matched[i] === previous) ||
        (behavior === 'MergedWithPrevious' && matched[i] && !previous);
      if (joins && pieces.length > 0) pieces[pieces.length - 1][1] = ends[i];
      else pieces.push([starts[i], ends[i]]);
      previous = matched[i];
    }
  }
  const kept = pieces.filter(([from, to]) => from < to);
  for (const [from, to] of kept) out.push(text.slice(from, to));
  return kept.length > 0 ? kept[0][0] : text.length;
}

function byteLevel(step: Step): PreTokenizer {
  const prefix = option(step, 'add_prefix_space', 'boolean', false);
  const regex = option(step, 'use_regex', 'boolean', true) ? new Regex(gpt2Split) : undefined;
  const cutWords = regex === undefined ? undefined : cutting((text) => regex.matches(text), 'Isolated');
  return (words) => {
    let { texts, atStart } = words;
    if (prefix) texts = texts.map((text) => (text.startsWith(' ') ? text : ` ${text}`));
    if (cutWords !== undefined) ({ texts, atStart } = cutWords({ texts, atStart }));
    return { texts: texts.map(bytesAsLetters), atStart };
  };
}

/** When Metaspace adds its sign before a text; `add_prefix_space: false` of old files means never. */
export function prependScheme(step: Step): 'always' | 'first' | 'never' {
  const scheme = step.prepend_scheme ?? (step.add_prefix_space === false ? 'never' : 'always');
  if (scheme !== 'always' && scheme !== 'first' && scheme !== 'never')
    refuse("Metaspace's prepend_scheme to be always, first or never", scheme);
  if (step.add_prefix_space === false && scheme !== 'never')
    refuse("Metaspace's prepend_scheme to be never when add_prefix_space is false", scheme);
  return scheme;
}

export function replacementOf(step: Step): string {
  const replacement = option(step, 'replacement', 'string', '▁');
  if ([...replacement].length !== 1) refuse("Metaspace's replacement to be one character", replacement);
  return replacement;
}

function metaspace(step: Step): PreTokenizer {
  const scheme = prependScheme(step);
  const sign = replacementOf(step);
  const cutWords = option(step, 'split', 'boolean', true)
    ? cutting(finder({ String: sign }, 'Metaspace'), 'MergedWithNext')
    : undefined;
  return ({ texts, atStart }) => {
    const marked = texts.map((text, i) => {
      const out = text.replaceAll(' ', sign);
      const wanted = scheme === 'always' || (scheme === 'first' && i === 0 && atStart);
      return wanted && !out.startsWith(sign) ? sign + out : out;
    });
    const words = { texts: marked, atStart };
    return cutWords === undefined ? words : cutWords(words);
  };
}
