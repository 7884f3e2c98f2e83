/**
 * A character-level tokenizer (Unicode code points), as Hugging Face tokenizer files. The vocabulary is the
 * characters of a given text.
 */
import { KnownCharacters } from './known-characters.ts';
import {
  type Tokenizer,
  type TokenizerConfigJson,
  type TokenizerJson,
  tokenizerFromJson,
} from './tokenizer.ts';

export interface CharacterTokenizer {
  /** The characters by id, in code point order. */
  readonly characters: readonly string[];
  /** tokenizer.json and tokenizer_config.json. */
  readonly files: Readonly<Record<'tokenizer.json' | 'tokenizer_config.json', object>>;
  readonly tokenizer: Tokenizer;
  /**
   * Encodes a long text, faster than the tokenizer. @throws RangeError for a character outside the
   * vocabulary.
   */
  encode(text: string): Int32Array;
}

/** Builds the tokenizer of all characters of `text`. */
export function characterTokenizer(text: string): CharacterTokenizer {
  const characters = [...new Set(text)].sort((a, b) => (a.codePointAt(0) ?? 0) - (b.codePointAt(0) ?? 0));
  const vocab = Object.fromEntries(characters.map((character, id) => [character, id]));
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    // Split into single characters, so that no merges are searched.
    pre_tokenizer: {
      type: 'Split',
      pattern: { Regex: '[\\s\\S]' },
      behavior: 'Isolated',
      invert: false,
    },
    post_processor: null,
    decoder: { type: 'Fuse' },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  };
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    model_max_length: 1e9,
  };
  const known = new KnownCharacters(characters);
  const ids = new Map(characters.map((character, id) => [character, id]));
  return {
    characters,
    files: { 'tokenizer.json': json, 'tokenizer_config.json': config },
    tokenizer: tokenizerFromJson(json as unknown as TokenizerJson, config as unknown as TokenizerConfigJson),
    encode(input) {
      known.check(input);
      const out = new Int32Array(input.length);
      let count = 0;
      for (const character of input) out[count++] = ids.get(character) ?? 0;
      return out.subarray(0, count);
    },
  };
}
