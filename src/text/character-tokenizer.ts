/**
 * A character-level tokenizer (Unicode code points), whose vocabulary is the characters of a given text. It
 * gives the ids and texts of its tokenizer.json without the code for other kinds of tokenizers.
 */
import { describe } from '../arguments/kinds.ts';
import { checkDecode, checkEncode, type DecodeOptions, type EncodeOptions } from './code-options.ts';
import { encodeTokenizerFiles } from './encode-tokenizer-files.ts';
import { EACH_CHARACTER, KnownCharacters } from './known-characters.ts';
import type { Tokenizer, WritableTokenizer } from './tokenizer.ts';
import type { TokenizerJson } from './tokenizer-json.ts';

/**
 * The tokenizer of all characters of a text, one token each, with ids in code point order. `saveModel` writes
 * it as a Hugging Face tokenizer.json. `encode` throws for a character that the text did not have.
 * @param text not empty
 * @throws TypeError for anything but a text with characters
 * @example
 * const tokenizer = characterTokenizer('call me Ishmael');
 * tokenizer.vocabSize; // 11
 * tokenizer.decode(tokenizer.encode('hall')); // 'hall'
 */
export function characterTokenizer(text: string): Tokenizer {
  if (typeof text === 'string' && text !== '') return new CharacterTokenizer(charactersOf(text));
  const got = text === '' ? 'an empty one' : describe(text);
  throw new TypeError(`characterTokenizer: expected a text, got ${got}`);
}

/** The tokenizer.json of `characterTokenizer`. */
export function characterTokenizerJson(text: string): TokenizerJson {
  return jsonOf(charactersOf(text));
}

function charactersOf(text: string): readonly string[] {
  return [...new Set(text)].sort((a, b) => (a.codePointAt(0) ?? 0) - (b.codePointAt(0) ?? 0));
}

function jsonOf(characters: readonly string[]): TokenizerJson {
  return {
    added_tokens: [],
    normalizer: null,
    // Split into single characters, so that no merges are searched.
    pre_tokenizer: EACH_CHARACTER,
    post_processor: null,
    decoder: { type: 'Fuse' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(characters.map((character, id) => [character, id])),
      merges: [],
    },
  };
}

class CharacterTokenizer implements WritableTokenizer {
  readonly bosTokenId = undefined;
  readonly eosTokenIds: readonly number[] = [];
  readonly chatTemplate = undefined;
  readonly chatTemplates: ReadonlyMap<string, string> = new Map();
  readonly #characters: readonly string[];
  readonly #known: KnownCharacters;

  constructor(characters: readonly string[]) {
    this.#characters = characters;
    this.#known = KnownCharacters.of(jsonOf(characters)) as KnownCharacters;
  }

  get vocabSize(): number {
    return this.#characters.length;
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    checkEncode(text, options);
    this.#known.check(text);
    return this.#known.encode(text) as number[];
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    checkDecode(ids, options);
    return ids.map((id) => this.#characters[id] ?? '').join('');
  }

  unknownCharacters(text: string): ReadonlyMap<string, number> {
    return this.#known.unknownIn(text);
  }

  isSpecial(): boolean {
    return false;
  }

  applyChatTemplate(): string {
    throw new Error(
      'applyChatTemplate: expected a checkpoint with a chat template, got none; encode the prompt without a template',
    );
  }

  async files(): Promise<ReadonlyMap<string, Uint8Array>> {
    const config = { model_max_length: 1e9 };
    return encodeTokenizerFiles(jsonOf(this.#characters), config);
  }
}
