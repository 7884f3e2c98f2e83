/**
 * The text parts of a checkpoint: its tokenizer, if it has one, and its end tokens.
 */

import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';
import type { Tokenizer, TokenizerConfigJson, TokenizerExtras, TokenizerJson } from '../text/tokenizer.ts';
import { type ConfigToken, configTokenText } from '../text/tokenizer-json.ts';
import { readChatTemplates } from './chat-templates.ts';
import type { Checkpoint } from './checkpoint.ts';

/** See `CheckpointFormat.tokenizer`. */
export async function huggingFaceTokenizer(checkpoint: Checkpoint): Promise<(() => Tokenizer) | undefined> {
  const endIds = await huggingFaceEndTokenIds(checkpoint);
  const parts = await tokenizerParts(checkpoint);
  if (parts === undefined) return undefined;
  const { tokenizerFromJson } = await import('../text/tokenizer.ts');
  return () => {
    const { json, config, extras } = parts();
    return naming(checkpoint, () => tokenizerFromJson(json, config, { ...extras, eosTokenIds: endIds }));
  };
}

/** Turns a tokenizer's RangeError into a FormatError that names the checkpoint. */
export function naming<T>(checkpoint: Checkpoint, build: () => T): T {
  try {
    return build();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FormatError(checkpoint.path, undefined, error.message, { cause: error });
  }
}

/** The parsed tokenizer files of a Hugging Face folder. */
export interface TokenizerParts {
  readonly json: TokenizerJson;
  /** tokenizer_config.json, with the special tokens of its class where there is no tokenizer.json. */
  readonly config: TokenizerConfigJson;
  readonly extras: TokenizerExtras;
}

/**
 * Reads a folder's tokenizer files and returns a function that parses them; undefined when there are none.
 */
export async function tokenizerParts(checkpoint: Checkpoint): Promise<(() => TokenizerParts) | undefined> {
  const { chatTemplate, additionalChatTemplates } = await readChatTemplates(checkpoint);
  const { directory } = checkpoint;
  const texts = new Map<string, string | undefined>();
  for (const name of tokenizerFiles) texts.set(name, await checkpoint.readText(name));
  if (!texts.get('tokenizer.json') && !(texts.get('vocab.json') && texts.get('merges.txt'))) return undefined;
  const { tokenizerJsonFromVocab } = await import('../text/vocab-files.ts');
  const parsed = (name: string): unknown => {
    const text = texts.get(name);
    return text === undefined ? undefined : parseJson(`${directory}/${name}`, text);
  };
  const table = (name: string): Readonly<Record<string, unknown>> | undefined => {
    const value = parsed(name);
    if (value === undefined || (typeof value === 'object' && value !== null && !Array.isArray(value)))
      return value as Readonly<Record<string, unknown>> | undefined;
    throw new FormatError(`${directory}/${name}`, undefined, 'expected an object');
  };
  return () => {
    const ownConfig = (table('tokenizer_config.json') ?? {}) as TokenizerConfigJson;
    const specialTokensMap = table('special_tokens_map.json');
    const addedTokens = table('added_tokens.json');
    const extras = {
      ...(chatTemplate !== undefined && { chatTemplate }),
      additionalChatTemplates,
      ...(specialTokensMap !== undefined && { specialTokensMap }),
      ...(addedTokens !== undefined && { addedTokens }),
    };
    const json = parsed('tokenizer.json');
    if (json !== undefined)
      return { json: checkTokenizer(`${directory}/tokenizer.json`, json), config: ownConfig, extras };
    const modelType = (checkpoint.config as { model_type?: unknown } | undefined)?.model_type;
    const vocab = table('vocab.json') as Readonly<Record<string, number>>;
    const made = naming(checkpoint, () =>
      tokenizerJsonFromVocab({
        vocab,
        merges: texts.get('merges.txt') as string,
        config: ownConfig,
        modelType: typeof modelType === 'string' ? modelType : undefined,
      }),
    );
    return { ...made, extras };
  };
}

const tokenizerFiles = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
] as const;

/**
 * Checks the parts of tokenizer.json that are read: a vocabulary, and a list of added tokens.
 */
function checkTokenizer(file: string, json: unknown): TokenizerJson {
  const { model, added_tokens: added = [] } = (json ?? {}) as Partial<TokenizerJson>;
  if (typeof model?.vocab !== 'object' || model.vocab === null) {
    throw new FormatError(
      file,
      undefined,
      `expected an object with model.vocab, got ${JSON.stringify(json)?.slice(0, 60)}`,
    );
  }
  if (
    !Array.isArray(added) ||
    added.some((token) => typeof token?.content !== 'string' || !Number.isInteger(token.id))
  ) {
    throw new FormatError(
      file,
      undefined,
      'expected added_tokens to be a list of objects with id and content',
    );
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
 * `eos_token_id` of config.json (of its text model too) and of generation_config.json, each a number or a list,
 * and the tokenizer's eos. transformers uses only generation_config.json if there is one. All three are used
 * here, since hand-edited files often disagree, and missing an end token makes the model continue with the
 * user's turn. Tokens in the order they are found.
 */
export async function huggingFaceEndTokenIds(checkpoint: Checkpoint): Promise<readonly number[]> {
  const config = checkpoint.config as { text_config?: unknown } | undefined;
  const ids = [config, config?.text_config, checkpoint.generationConfig]
    .flatMap((json) => (json as { eos_token_id?: unknown } | undefined | null)?.eos_token_id)
    .filter((id): id is number => typeof id === 'number');
  const eos = await tokenizerEos(checkpoint);
  return [...new Set(eos === undefined ? ids : [...ids, eos])];
}

/** The tokenizer's eos, read without building the tokenizer. Damaged files are reported when it is built. */
async function tokenizerEos(checkpoint: Checkpoint): Promise<number | undefined> {
  const { eos_token, added_tokens_decoder } = (await jsonOf(checkpoint, 'tokenizer_config.json')) ?? {};
  const eos = configTokenText(eos_token as ConfigToken | undefined);
  if (eos === undefined) return undefined;
  const listed = Object.entries((added_tokens_decoder ?? {}) as Record<string, { content?: unknown }>);
  const entry = listed.find(([, token]) => token?.content === eos);
  if (entry) return Number(entry[0]);
  const { model, added_tokens } = ((await jsonOf(checkpoint, 'tokenizer.json')) ??
    {}) as Partial<TokenizerJson>;
  const added = Array.isArray(added_tokens) ? added_tokens.find(({ content }) => content === eos) : undefined;
  if (added) return added.id;
  const vocab = model?.vocab;
  const id = Array.isArray(vocab) ? vocab.findIndex(([piece]) => piece === eos) : Object(vocab)[eos];
  return typeof id === 'number' && id >= 0 ? id : undefined;
}

async function jsonOf(checkpoint: Checkpoint, name: string): Promise<Record<string, unknown> | undefined> {
  try {
    const json: unknown = JSON.parse((await checkpoint.readText(name)) ?? '');
    return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
