/**
 * Special tokens may be listed in five places: tokenizer.json, tokenizer_config.json (by name, in lists, in
 * `added_tokens_decoder`), special_tokens_map.json and added_tokens.json. All become added tokens, in the
 * order of transformers, because those outside the model's vocabulary are numbered in that order. Source:
 * transformers 5.23, `PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__`.
 */
import type { AddedTokenJson, ConfigToken, TokenizerConfigJson } from './tokenizer-json.ts';

type Values = Readonly<Record<string, unknown>>;

/** In the order in which they are added. */
const names = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;

const isToken = (value: unknown): value is Exclude<ConfigToken, null> =>
  typeof value === 'string' || typeof (value as { content?: unknown } | null)?.content === 'string';

const textOf = (token: Exclude<ConfigToken, null>): string =>
  typeof token === 'string' ? token : token.content;

const isList = (value: unknown): value is readonly unknown[] => Array.isArray(value);
const isTable = (value: unknown): value is Values =>
  typeof value === 'object' && value !== null && !isList(value);

/** A special token as an added token; the id is assigned when it is added. */
function added(token: Exclude<ConfigToken, null>, special: boolean): AddedTokenJson {
  if (typeof token === 'string') return { id: -1, content: token, special, normalized: !special };
  const flags = token as Partial<AddedTokenJson>;
  const isSpecial = flags.special ?? special;
  return {
    id: -1,
    content: token.content,
    special: isSpecial,
    normalized: flags.normalized ?? !isSpecial,
    single_word: flags.single_word ?? false,
    lstrip: flags.lstrip ?? false,
    rstrip: flags.rstrip ?? false,
  };
}

/**
 * Merges special_tokens_map.json into tokenizer_config.json, unless the config has `added_tokens_decoder`,
 * which replaced it.
 */
export function withSpecialTokensMap(
  config: TokenizerConfigJson,
  map: Values | undefined,
): TokenizerConfigJson {
  const merged: Record<string, unknown> = { ...config };
  const hasExtra = (value: unknown): boolean =>
    isList(value) ? value.length > 0 : isTable(value) && Object.keys(value).length > 0;
  if ('additional_special_tokens' in merged && !hasExtra(merged.extra_special_tokens)) {
    merged.extra_special_tokens = merged.additional_special_tokens;
  }
  delete merged.additional_special_tokens;
  if (map === undefined || 'added_tokens_decoder' in config) return merged;
  for (const [key, value] of Object.entries(map)) {
    if (key === 'additional_special_tokens') {
      // A list found only here makes tokens special, except those of added_tokens.json.
      merged.additional_special_tokens = isList(value) ? value.map(asSpecial) : value;
    } else if (key === 'extra_special_tokens' && isList(value) && isList(merged.extra_special_tokens ?? [])) {
      const before = (merged.extra_special_tokens ?? []) as readonly unknown[];
      const texts = new Set(before.filter(isToken).map(textOf));
      const others = value.filter((token) => !isToken(token) || !texts.has(textOf(token)));
      merged.extra_special_tokens = [...before, ...others.map(asSpecial)];
    } else {
      merged[key] = isToken(value) ? asSpecial(value) : value;
    }
  }
  return merged;
}

const asSpecial = (token: unknown): unknown => (isTable(token) ? { ...token, special: true } : token);

/**
 * All added tokens, starting with those of tokenizer.json.
 * @param json `added_tokens` of tokenizer.json
 * @param config tokenizer_config.json, with special_tokens_map.json in it
 * @param addedTokens added_tokens.json: ids by text
 */
export function allAddedTokens(
  json: readonly AddedTokenJson[],
  config: TokenizerConfigJson,
  addedTokens: Values = {},
): AddedTokenJson[] {
  const tokens = new Map<string, AddedTokenJson>();
  for (const token of json) if (!tokens.has(token.content)) tokens.set(token.content, token);

  const named = namedTokens(config);
  const listed = config.extra_special_tokens ?? config.additional_special_tokens;
  const extra = isList(listed) ? listed.filter(isToken) : [];
  const known = isList(config.extra_special_tokens) ? extra : [];
  const specialTexts = new Set([...named, ...known].map(textOf));
  const entries: [number, AddedTokenJson][] = [];
  if (isTable(config.added_tokens_decoder)) {
    for (const [id, token] of Object.entries(config.added_tokens_decoder as Values)) {
      if (isToken(token)) entries.push([Number(id), added(token, false)]);
    }
  } else {
    const taken = new Set(json.map((token) => token.id));
    for (const [content, id] of Object.entries(addedTokens)) {
      if (!taken.has(id as number)) entries.push([id as number, added(content, specialTexts.has(content))]);
    }
  }
  // An existing token gets the new flags and keeps its id; a special one stays special.
  for (const [, token] of entries.sort(([a], [b]) => a - b)) {
    const special = token.special === true || tokens.get(token.content)?.special === true;
    tokens.set(token.content, { ...token, special });
  }

  for (const token of named) {
    const content = textOf(token);
    tokens.set(content, { ...(tokens.get(content) ?? added(token, true)), special: true });
  }
  for (const token of extra) {
    const content = textOf(token);
    if (!tokens.has(content)) tokens.set(content, added(token, typeof token === 'string'));
  }
  return [...tokens.values()];
}

/** Named tokens of the config: the usual seven, others that end in `_token`, and a table of extra ones. */
function namedTokens(config: TokenizerConfigJson): Exclude<ConfigToken, null>[] {
  const usual: readonly string[] = names;
  const others = Object.keys(config).filter((key) => key.endsWith('_token') && !usual.includes(key));
  const table = isTable(config.extra_special_tokens) ? Object.values(config.extra_special_tokens) : [];
  return [...names.map((name) => config[name]), ...others.map((name) => config[name]), ...table].filter(
    isToken,
  );
}
