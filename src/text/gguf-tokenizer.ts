/**
 * Converts the tokenizer of a GGUF header to Hugging Face's two JSON files. The header holds the vocabulary
 * (tokens, types, merges or scores) and only names the other components, which are filled in here. Keys: the
 * GGUF specification, "Tokenizer"; defaults where a key is missing: llama.cpp's `llama_vocab`.
 */
import { familyFacts } from '../format/families.ts';
import type { GgufFacts } from '../format/family-facts.ts';
import type { GgufValue } from '../format/gguf.ts';
import { endTexts, ggufEndTokenIds } from './end-tokens.ts';
import { type PreTokenizerRecipe, preTokenizerRecipe } from './gguf-pre-tokenizers.ts';
import {
  type AddedTokenJson,
  configTokenText,
  type ModelJson,
  type Step,
  type TokenizerConfigJson,
  type TokenizerJson,
} from './tokenizer-json.ts';

/** The files from which a tokenizer is made. */
export interface TokenizerFiles {
  readonly json: TokenizerJson;
  readonly config: TokenizerConfigJson;
  /** Ids that end a generation, chosen as in llama.cpp. */
  readonly endTokenIds: readonly number[];
}

/** `tokenizer.ggml.token_type`. */
const tokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

/**
 * Texts that are control tokens for any type in the file, as in llama.cpp: ends of turns, and
 * fill-in-the-middle markers.
 */
const controlTexts: readonly string[] = [
  ...endTexts,
  ...(
    '<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> <|code_prefix|> <|prefix|> ' +
    '<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> <|code_suffix|> <|suffix|> ' +
    '<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> <|code_middle|> <|middle|>'
  ).split(' '),
];

/**
 * @param metadata the key/value pairs of a GGUF header
 * @throws RangeError when a key is missing or has an unsupported value; the message names the key
 */
export function tokenizerFilesFromGguf(metadata: ReadonlyMap<string, GgufValue>): TokenizerFiles {
  const header = new Header(metadata);
  const model = header.string('tokenizer.ggml.model');
  if (model === 'gpt2') return byteLevelFiles(header);
  if (model === 'llama') return sentencePieceFiles(header);
  throw new RangeError(
    model === undefined
      ? 'tokenizer: expected a tokenizer.ggml.model in the GGUF header, got none'
      : `tokenizer: expected tokenizer.ggml.model to be 'gpt2' or 'llama', got '${model}'`,
  );
}

const byteLevel: Step = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };

/** Byte-level BPE: tokens use an alphabet of 256 letters, one per byte, and the merges are listed. */
function byteLevelFiles(header: Header): TokenizerFiles {
  const recipe = preTokenizerRecipe(header.string('tokenizer.ggml.pre'));
  const tokens = header.tokens();
  const vocab = vocabulary(tokens);
  const model: ModelJson = {
    type: 'BPE',
    vocab,
    merges: header.strings('tokenizer.ggml.merges'),
    ignore_merges: recipe.ignoreMerges ?? false,
  };
  const config = headerConfig(header, tokens, { addBos: recipe.addBos ?? false });
  return {
    json: {
      model,
      added_tokens: addedTokens(header, tokens, tokenTypes(header, tokens, vocab)),
      normalizer: recipe.nfc === true ? { type: 'NFC' } : null,
      pre_tokenizer: byteLevelPreTokenizer(recipe),
      post_processor: null,
      decoder: byteLevel,
    },
    config,
    endTokenIds: ggufEndTokenIds(header.metadata),
  };
}

function byteLevelPreTokenizer(recipe: PreTokenizerRecipe): Step {
  const splits = recipe.splits.map((regex) => ({
    type: 'Split',
    pattern: { Regex: regex },
    behavior: 'Isolated',
    invert: false,
  }));
  return { type: 'Sequence', pretokenizers: [...splits, byteLevel] };
}

/**
 * SentencePiece BPE: spaces are written as ▁, a character that is not a token falls back to its byte tokens
 * `<0x..>`, and the merges follow from the scores. A space is added before a text (and after each special
 * token), as in llama.cpp and Llama 2's tokenizer.json.
 */
function sentencePieceFiles(header: Header): TokenizerFiles {
  const inMergeOrder = architectureFacts(header).tokensInMergeOrder === true;
  const tokens = header
    .tokens()
    .map((token) => (inMergeOrder && /^ +$/.test(token) ? '▁'.repeat(token.length) : token));
  const vocab = vocabulary(tokens);
  const types = tokenTypes(header, tokens, vocab);
  const scores = header.numbers('tokenizer.ggml.scores');
  if (scores.length < tokens.length) {
    throw new RangeError(
      `tokenizer: expected tokenizer.ggml.scores to have ${tokens.length} values, got ${scores.length}`,
    );
  }
  const pieceScores = new Float64Array(tokens.length);
  for (let id = 0; id < tokens.length; id++) {
    const type = types[id];
    const isPiece = type !== tokenType.control && type !== tokenType.unknown && type !== tokenType.byte;
    pieceScores[id] = !isPiece ? Number.NaN : inMergeOrder ? -id : scores[id];
  }
  const addSpace = header.boolean('tokenizer.ggml.add_space_prefix') ?? true;
  const config = headerConfig(header, tokens, { addBos: true, bos: 1, eos: 2, unk: 0 });
  const replace: Step = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const decoders: Step[] = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ];
  return {
    json: {
      model: {
        type: 'BPE',
        vocab,
        scores: pieceScores,
        unk_token: configTokenText(config.unk_token) ?? null,
        fuse_unk: true,
        byte_fallback: true,
      },
      added_tokens: addedTokens(header, tokens, types),
      normalizer: addSpace
        ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] }
        : replace,
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: 'Sequence',
        decoders: addSpace ? [...decoders, { type: 'Strip', content: ' ', start: 1, stop: 0 }] : decoders,
      },
    },
    config,
    endTokenIds: ggufEndTokenIds(header.metadata),
  };
}

function architectureFacts(header: Header): GgufFacts {
  return familyFacts(header.string('general.architecture') ?? '').gguf ?? {};
}

function vocabulary(tokens: readonly string[]): ReadonlyMap<string, number> {
  const vocab = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) vocab.set(tokens[id], id);
  return vocab;
}

/** Token types by id; those in `controlTexts` are control. */
function tokenTypes(
  header: Header,
  tokens: readonly string[],
  vocab: ReadonlyMap<string, number>,
): Int32Array {
  const types = new Int32Array(tokens.length).fill(tokenType.normal);
  types.set(Array.prototype.slice.call(header.numbers('tokenizer.ggml.token_type'), 0, tokens.length));
  for (const text of controlTexts) {
    const id = vocab.get(text);
    if (id !== undefined) types[id] = tokenType.control;
  }
  return types;
}

function addedTokens(header: Header, tokens: readonly string[], types: Int32Array): AddedTokenJson[] {
  const takeSpaces = architectureFacts(header).addedTokensTakeSpaces === true;
  const keepsSpace = new Set(['<unk>', '<s>', '<|endoftext|>']);
  const added: AddedTokenJson[] = [];
  for (let id = 0; id < tokens.length; id++) {
    const type = types[id];
    const special = type === tokenType.control || type === tokenType.unknown;
    if (!special && type !== tokenType.userDefined) continue;
    const content = tokens[id];
    const rstrip = takeSpaces && !keepsSpace.has(content);
    added.push({ id, content, special, normalized: false, single_word: false, lstrip: false, rstrip });
  }
  return added;
}

function headerConfig(
  header: Header,
  tokens: readonly string[],
  defaults: { addBos: boolean; bos?: number; eos?: number; unk?: number },
): TokenizerConfigJson {
  const text = (key: string, fallback?: number): string | null =>
    tokens[header.id(key) ?? fallback ?? -1] ?? null;
  return {
    bos_token: text('tokenizer.ggml.bos_token_id', defaults.bos),
    eos_token: text('tokenizer.ggml.eos_token_id', defaults.eos),
    unk_token: text('tokenizer.ggml.unknown_token_id', defaults.unk),
    pad_token: text('tokenizer.ggml.padding_token_id'),
    add_bos_token: header.boolean('tokenizer.ggml.add_bos_token') ?? defaults.addBos,
    add_eos_token: header.boolean('tokenizer.ggml.add_eos_token') ?? false,
    chat_template: chatTemplates(header),
  };
}

/** The default template, and those listed in `tokenizer.chat_templates`. */
function chatTemplates(header: Header): { name: string; template: string }[] {
  const usual = header.string('tokenizer.chat_template');
  const templates = usual === undefined ? [] : [{ name: 'default', template: usual }];
  for (const name of header.strings('tokenizer.chat_templates', [])) {
    const template = header.string(`tokenizer.chat_template.${name}`);
    if (template !== undefined) templates.push({ name, template });
  }
  return templates;
}

/** Typed reads of a GGUF header; a key of another type is an error, a missing key is undefined. */
class Header {
  readonly metadata: ReadonlyMap<string, GgufValue>;

  constructor(metadata: ReadonlyMap<string, GgufValue>) {
    this.metadata = metadata;
  }

  string(key: string): string | undefined {
    const value = this.metadata.get(key);
    if (value === undefined || typeof value === 'string') return value;
    throw wrongType(key, 'a string', value);
  }

  boolean(key: string): boolean | undefined {
    const value = this.metadata.get(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw wrongType(key, 'true or false', value);
  }

  id(key: string): number | undefined {
    const value = this.metadata.get(key);
    if (value === undefined) return undefined;
    const id = Number(value);
    if (Number.isInteger(id)) return id;
    throw wrongType(key, 'a token id', value);
  }

  /** An array of numbers; empty when there is none. */
  numbers(key: string): ArrayLike<number> {
    const value = this.metadata.get(key) ?? [];
    if (value instanceof Int32Array || value instanceof Float32Array) return value;
    if (typeof value === 'object') return Array.from(value as ArrayLike<number | bigint>, Number);
    throw wrongType(key, 'an array of numbers', value);
  }

  /** @param otherwise default for a missing key; the key is required without it */
  strings(key: string, otherwise?: readonly string[]): readonly string[] {
    const value = this.metadata.get(key);
    if (value === undefined && otherwise !== undefined) return otherwise;
    if (Array.isArray(value) && value.every((entry) => typeof entry === 'string')) return value as string[];
    throw wrongType(key, 'an array of strings', value);
  }

  tokens(): readonly string[] {
    return this.strings('tokenizer.ggml.tokens');
  }
}

function wrongType(key: string, expected: string, value: GgufValue | undefined): RangeError {
  const got =
    value === undefined
      ? 'none'
      : typeof value === 'object'
        ? 'another kind of array'
        : JSON.stringify(value);
  return new RangeError(`tokenizer: expected ${key} to be ${expected}, got ${got}`);
}
