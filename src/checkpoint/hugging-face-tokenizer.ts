/**
 * The tokenizer and the end tokens of a Hugging Face folder, from tokenizer.json or, without it, vocab.json
 * and merges.txt.
 */
import type { Folder } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';
import type {
  TokenizerConfigJson,
  TokenizerExtras,
  TokenizerFiles,
  TokenizerJson,
} from '../text/tokenizer.ts';
import { type ConfigToken, configTokenText } from '../text/tokenizer-json.ts';
import { folderWithoutWeights, isTokenizerFile, readCarriedFiles } from './carried-files.ts';
import { readChatTemplates } from './chat-templates.ts';
import type { Checkpoint, TextParts } from './checkpoint.ts';

type Json = Readonly<Record<string, unknown>>;

const FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
] as const;

/** Texts of tokenizer files by name; undefined where there is no such file. */
type TokenizerTexts = Readonly<Partial<Record<(typeof FILES)[number], string>>>;

/** See `CheckpointFormat.text`. */
export async function huggingFaceText(checkpoint: Checkpoint): Promise<TextParts> {
  const texts = await readTokenizerTexts(checkpoint);
  const endTokenIds = endTokensOf(checkpoint, texts);
  const parts = await tokenizerParts(checkpoint, texts);
  if (parts === undefined) return { endTokenIds };
  const { tokenizerFromJson } = await import('../text/tokenizer.ts');
  const { path } = checkpoint;
  const files = filesReader(await folderWithoutWeights(checkpoint));
  const makeTokenizer = () => {
    const { json, config, extras } = parts();
    return withFormatError(path, () =>
      tokenizerFromJson(json, config, { ...extras, eosTokenIds: endTokenIds, files }),
    );
  };
  return { endTokenIds, makeTokenizer };
}

/** Reads the tokenizer's files again, as they are. */
function filesReader(folder: Folder): () => Promise<TokenizerFiles> {
  return async () => new Map([...(await readCarriedFiles(folder))].filter(([name]) => isTokenizerFile(name)));
}

/** What `build` returns. @throws FormatError with the checkpoint's path in place of a RangeError */
export function withFormatError<T>(path: string, build: () => T): T {
  try {
    return build();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FormatError(path, undefined, error.message, { cause: error });
  }
}

/** The parsed tokenizer files of a Hugging Face folder. */
export interface TokenizerParts {
  readonly json: TokenizerJson;
  /** tokenizer_config.json, with the special tokens of its class where there is no tokenizer.json. */
  readonly config: TokenizerConfigJson;
  readonly extras: TokenizerExtras;
}

/** Reads the tokenizer files. @throws FormatError for one that is no regular file or too large */
export async function readTokenizerTexts(checkpoint: Checkpoint): Promise<TokenizerTexts> {
  const texts: Partial<Record<string, string>> = {};
  for (const name of FILES) texts[name] = await checkpoint.readText(name);
  return texts;
}

/**
 * A function that parses the tokenizer files, which is slow; undefined when there is no tokenizer.
 * The chat templates are read at once.
 */
export async function tokenizerParts(
  checkpoint: Checkpoint,
  texts: TokenizerTexts,
): Promise<(() => TokenizerParts) | undefined> {
  const { 'vocab.json': vocab, 'merges.txt': merges } = texts;
  if (!texts['tokenizer.json'] && !(vocab && merges)) return undefined;
  const templates = await readChatTemplates(checkpoint);
  const { tokenizerJsonFromVocab } = await import('../text/vocab-files.ts');
  const { path, config: modelConfig } = checkpoint;
  const names = fileNames(checkpoint.folder);
  const fileName = (name: keyof TokenizerTexts) => names.get(name) as string;
  const parsed = (name: keyof TokenizerTexts): unknown =>
    texts[name] === undefined ? undefined : parseJson(fileName(name), texts[name]);
  const table = (name: keyof TokenizerTexts): Json | undefined => {
    const value = parsed(name);
    if (value === undefined || (typeof value === 'object' && value !== null && !Array.isArray(value)))
      return value as Json | undefined;
    throw new FormatError(fileName(name), undefined, 'expected an object');
  };
  return () => {
    const config = (table('tokenizer_config.json') ?? {}) as TokenizerConfigJson;
    const extras = {
      ...templates,
      specialTokensMap: table('special_tokens_map.json'),
      addedTokens: table('added_tokens.json'),
    };
    const json = parsed('tokenizer.json');
    if (json !== undefined) return { json: checkTokenizer(fileName('tokenizer.json'), json), config, extras };
    const { model_type: modelType } = (modelConfig ?? {}) as { model_type?: unknown };
    const made = withFormatError(path, () =>
      tokenizerJsonFromVocab({
        vocab: table('vocab.json') as Readonly<Record<string, number>>,
        merges: merges as string,
        config,
        modelType: typeof modelType === 'string' ? modelType : undefined,
      }),
    );
    return { ...made, extras };
  };
}

/**
 * The names of the files in errors. A function of its own: one inside `tokenizerParts` would make its result
 * keep the folder, which can hold the weights in memory.
 */
function fileNames(folder: Folder): ReadonlyMap<string, string> {
  return new Map(FILES.map((name) => [name, folder.nameOf(name)]));
}

/** Checks the parts of tokenizer.json that are read: a vocabulary, and a list of added tokens. */
function checkTokenizer(file: string, json: unknown): TokenizerJson {
  const { model, added_tokens: added = [] } = (json ?? {}) as Partial<TokenizerJson>;
  const fail = (what: string) => new FormatError(file, undefined, `expected ${what}`);
  if (typeof model?.vocab !== 'object' || model.vocab === null) {
    throw fail(`an object with model.vocab, got ${JSON.stringify(json)?.slice(0, 60)}`);
  }
  if (
    !Array.isArray(added) ||
    added.some((token) => typeof token?.content !== 'string' || !Number.isInteger(token.id))
  ) {
    throw fail('added_tokens to be a list of objects with id and content');
  }
  return {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...(json as object),
    model,
    added_tokens: added,
  };
}

/**
 * `eos_token_id` of config.json (of its text model too) and of generation_config.json, each a number or a
 * list, and the tokenizer's eos, in this order. transformers uses only generation_config.json if there is
 * one. Hand-edited files often disagree, and after a missed end token the model goes on with the user's turn,
 * so all three count.
 */
function endTokensOf(checkpoint: Checkpoint, texts: TokenizerTexts): readonly number[] {
  const config = checkpoint.config as { text_config?: unknown } | undefined;
  const ids = [config, config?.text_config, checkpoint.generationConfig]
    .flatMap((json) => (json as { eos_token_id?: unknown } | undefined | null)?.eos_token_id)
    .filter((id): id is number => typeof id === 'number');
  const eos = tokenizerEos(texts);
  return [...new Set(eos === undefined ? ids : [...ids, eos])];
}

/** The tokenizer's eos, found without building the tokenizer. Building reports damaged files. */
function tokenizerEos(texts: TokenizerTexts): number | undefined {
  const { eos_token, added_tokens_decoder } = objectIn(texts['tokenizer_config.json']);
  const eos = configTokenText(eos_token as ConfigToken | undefined);
  if (eos === undefined) return undefined;
  const listed = Object.entries((added_tokens_decoder ?? {}) as Record<string, { content?: unknown }>);
  const entry = listed.find(([, token]) => token?.content === eos);
  if (entry) return Number(entry[0]);
  const { model, added_tokens } = objectIn(texts['tokenizer.json']) as Partial<TokenizerJson>;
  const added = Array.isArray(added_tokens) ? added_tokens.find(({ content }) => content === eos) : undefined;
  if (added) return added.id;
  const vocab = model?.vocab;
  const id = Array.isArray(vocab) ? vocab.findIndex(([piece]) => piece === eos) : Object(vocab)[eos];
  return typeof id === 'number' && id >= 0 ? id : undefined;
}

/** The JSON object in a text; empty when there is none. */
function objectIn(text = ''): Json {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
