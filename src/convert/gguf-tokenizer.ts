/**
 * The tokenizer of a Hugging Face folder as GGUF keys: byte-level BPE with a pre-tokenizer that GGUF names,
 * and SentencePiece BPE with byte fallback. What GGUF cannot express is an error, since llama.cpp would
 * produce other ids. A checkpoint without a tokenizer gets the model `no_vocab`.
 *
 * Source: ggml/docs/gguf.md ("Tokenizer"); gguf-py vocab.py; llama.cpp, src/llama-vocab.cpp.
 */

import { show } from '../arguments/kinds.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import {
  readTokenizerTexts,
  type TokenizerParts,
  tokenizerParts,
} from '../checkpoint/hugging-face-tokenizer.ts';
import type { GgufPair } from '../checkpoint/write-gguf.ts';
import { familyFacts } from '../format/families.ts';
import { FormatError } from '../format/format-error.ts';
import { AddedTokens } from '../text/added-tokens.ts';
import { bytesAsLetters } from '../text/byte-letters.ts';
import { configTemplates } from '../text/chat.ts';
import { gpt2Split, preTokenizerRecipe } from '../text/gguf-pre-tokenizers.ts';
import { EACH_CHARACTER } from '../text/known-characters.ts';
import { surroundingsOf, withBosAndEos } from '../text/post-processor.ts';
import { allAddedTokens, withSpecialTokensMap } from '../text/special-tokens.ts';
import { flatten } from '../text/steps.ts';
import {
  configTokenText,
  type Step,
  type TokenizerConfigJson,
  type TokenizerJson,
} from '../text/tokenizer-json.ts';

/** GGUF's pre-tokenizer names for models in `llama` form. */
const NAMES = [
  'llama-bpe',
  'smollm',
  'gpt-2',
  'qwen2',
  'deepseek-r1-qwen',
  'tekken',
  'dbrx',
  'glm4',
  'gpt-4o',
  'granite-embed-multi-97m',
  'deepseek-v3',
  'qwen35',
  'seed-coder',
  'bailingmoe',
  'kimi-k2',
  'superbpe',
  'minicpm5',
];
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 };

/** @throws FormatError when GGUF cannot express this tokenizer */
export async function ggufTokenizer(
  checkpoint: Checkpoint,
  vocabSize: number,
): Promise<Map<string, GgufPair>> {
  const model = (value: string): [string, GgufPair] => ['tokenizer.ggml.model', { type: 'string', value }];
  const parts = await tokenizerParts(checkpoint, await readTokenizerTexts(checkpoint));
  if (parts === undefined) return new Map([model('no_vocab')]);
  const file = checkpoint.folder.nameOf('tokenizer.json');
  const refuse = (what: string): never => {
    throw new FormatError(
      file,
      undefined,
      `${what}, which llama.cpp would read as other ids; write a directory instead`,
    );
  };
  const { json: ownJson, config: ownConfig, extras } = parts();
  const json = isCharacterLevel(ownJson) ? asByteLevel(ownJson, refuse) : ownJson;
  const config = withSpecialTokensMap(ownConfig, extras.specialTokensMap);
  const { type = 'BPE', vocab, merges = [], byte_fallback: fallback = false } = json.model as BpeModel;
  if (type !== 'BPE')
    throw new FormatError(file, undefined, `model: expected BPE to write GGUF, got ${show(type)}`);
  for (const key of ['continuing_subword_prefix', 'end_of_word_suffix', 'dropout'])
    if (json.model[key]) refuse(`model: expected no ${key}, got ${JSON.stringify(json.model[key])}`);

  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = new Int32Array(vocabSize).fill(TYPE.unused);
  for (const [token, id] of Object.entries(vocab)) {
    if (id >= vocabSize) continue;
    tokens[id] = token;
    types[id] = fallback && /^<0x[0-9A-F]{2}>$/.test(token) ? TYPE.byte : TYPE.normal;
  }
  const list = allAddedTokens(json.added_tokens, config, extras.addedTokens);
  const added = new AddedTokens(list, new Map(Object.entries(vocab)), undefined, false);
  const { model_type: modelType } = checkpoint.config as { model_type?: unknown };
  const takeSpaces = familyFacts(String(modelType)).gguf?.addedTokensTakeSpaces === true;
  for (const [id, { content, special, lstrip, rstrip, single_word }] of added.tokens) {
    if (id >= vocabSize) continue;
    if (lstrip || single_word || (rstrip && !takeSpaces))
      refuse(
        `added_tokens: expected no lstrip, rstrip or single_word, got one at ${JSON.stringify(content)}`,
      );
    tokens[id] = content;
    types[id] = content === '<unk>' ? TYPE.unknown : special ? TYPE.control : TYPE.userDefined;
  }

  const out = new Map<string, GgufPair>([model(fallback ? 'llama' : 'gpt2')]);
  if (fallback) {
    out.set('tokenizer.ggml.add_space_prefix', { type: 'bool', value: spacePrefix(json, refuse) });
  } else {
    out.set('tokenizer.ggml.pre', { type: 'string', value: preTokenizerName(file, json, refuse) });
  }
  out.set('tokenizer.ggml.tokens', { type: '[string]', value: tokens });
  if (fallback) {
    checkMergeOrder(merges, vocab, refuse);
    out.set('tokenizer.ggml.scores', { type: '[f32]', value: Float32Array.from(tokens, (_, id) => -id) });
  }
  out.set('tokenizer.ggml.token_type', { type: '[i32]', value: types });
  if (!fallback) {
    const lines = merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' ')));
    out.set('tokenizer.ggml.merges', { type: '[string]', value: lines });
  }
  const idOf = (token: string): number | undefined => added.ids.get(token) ?? vocab[token];
  for (const [key, value] of specialTokens(checkpoint, { json, config, extras }, idOf, refuse))
    out.set(key, value);
  return out;
}

interface BpeModel {
  readonly type?: string;
  readonly vocab: Readonly<Record<string, number>>;
  readonly merges?: readonly (string | readonly [string, string])[];
  readonly byte_fallback?: boolean;
  readonly ignore_merges?: boolean;
}

type Refuse = (what: string) => never;

/** Whether every character is a token of its own, as `characterTokenizer` makes it. */
function isCharacterLevel({ model, normalizer, pre_tokenizer: split }: TokenizerJson): boolean {
  const { vocab, merges = [] } = model as BpeModel;
  const { Regex } = (split?.pattern ?? {}) as { Regex?: string };
  const splits = split?.type === 'Split' && Regex === EACH_CHARACTER.pattern.Regex;
  return normalizer === null && splits && merges.length === 0 && Object.keys(vocab).every(isOneCharacter);
}

const isOneCharacter = (token: string): boolean => [...token].length === 1;

/**
 * The same ids from a byte-level vocabulary without merges: a character of one byte is that byte's token, others
 * are user-defined tokens, which are found in a text before it is split.
 */
function asByteLevel(json: TokenizerJson, refuse: Refuse): TokenizerJson {
  const vocab: Record<string, number> = {};
  const added: TokenizerJson['added_tokens'][number][] = [...json.added_tokens];
  for (const [content, id] of Object.entries((json.model as BpeModel).vocab)) {
    if (content.charCodeAt(0) < 128) vocab[bytesAsLetters(content)] = id;
    else
      added.push({
        ...{ id, content, special: false, normalized: false },
        ...{ single_word: false, lstrip: false, rstrip: false },
      });
  }
  const clash = added.find(({ content }) => content in vocab);
  if (clash)
    refuse(`model: expected no character that stands for a byte in GGUF, got ${show(clash.content)}`);
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false };
  return {
    ...json,
    added_tokens: added,
    pre_tokenizer: byteLevel,
    decoder: byteLevel,
    model: { ...json.model, vocab },
  };
}

/** GGUF's name of a byte-level vocabulary's pre-tokenizer. */
function preTokenizerName(file: string, json: TokenizerJson, refuse: Refuse): string {
  const normalizers = flatten(json.normalizer, 'normalizers').map(({ type }) => type);
  const nfc = normalizers.join() === 'NFC';
  if (normalizers.length > 0 && !nfc)
    refuse(`normalizer: expected none or NFC, got ${normalizers.join(', ')}`);
  const steps = flatten(json.pre_tokenizer, 'pretokenizers');
  if (steps.some((step) => step.type === 'ByteLevel' && step.add_prefix_space === true))
    refuse('pre_tokenizer: expected ByteLevel without add_prefix_space, got true');
  const splits = steps.flatMap(splitOf);
  const name = NAMES.find((candidate) => {
    const recipe = preTokenizerRecipe(candidate);
    const sameMerges = (recipe.ignoreMerges ?? false) === (json.model.ignore_merges ?? false);
    return sameMerges && (recipe.nfc ?? false) === nfc && recipe.splits.join('\n') === splits.join('\n');
  });
  if (name !== undefined) return name;
  throw new FormatError(
    file,
    undefined,
    `pre_tokenizer: expected one of those GGUF has a name for (${NAMES.join(', ')}), got another${nfc ? ' with NFC' : ''}; write a directory instead`,
  );
}

function splitOf(step: Step): string[] {
  if (step.type === 'Digits') return [step.individual_digits === true ? '\\p{N}' : '\\p{N}+'];
  if (step.type === 'ByteLevel') return step.use_regex === false ? [] : [gpt2Split];
  const regex = step.type === 'Split' ? (step.pattern as { Regex?: string } | undefined)?.Regex : undefined;
  // Keeping the matches and cutting at them give the same words, where every character is in a match.
  const isCut = (step.behavior ?? 'Isolated') === 'Isolated' && step.invert !== true;
  const isKept = step.behavior === 'Removed' && step.invert === true;
  return [regex !== undefined && (isCut || isKept) ? regex : '?'];
}

/** Whether a SentencePiece tokenizer adds a space before a text. */
function spacePrefix(json: TokenizerJson, refuse: Refuse): boolean {
  const normalizers = flatten(json.normalizer, 'normalizers');
  const steps = flatten(json.pre_tokenizer, 'pretokenizers');
  const isReplace = (step: Step | undefined): boolean =>
    step?.type === 'Replace' && (step.pattern as { String?: string }).String === ' ' && step.content === '▁';
  const isMarked = isReplace(normalizers.at(-1));
  const [first] = normalizers;
  // The normalizer has replaced every space by ▁, so a Split at spaces does nothing.
  const isIdle = (step: Step): boolean =>
    step.type === 'Split' && (step.pattern as { String?: string } | undefined)?.String === ' ';
  if (isMarked && steps.every(isIdle)) {
    if (normalizers.length === 1) return false;
    if (normalizers.length === 2 && first.type === 'Prepend' && first.prepend === '▁') return true;
  }
  const [metaspace] = steps;
  if (normalizers.length === 0 && steps.length === 1 && metaspace.type === 'Metaspace') {
    if (metaspace.prepend_scheme === 'never') return false;
    const scheme = metaspace.prepend_scheme ?? 'always';
    return refuse(
      scheme === 'first'
        ? 'pre_tokenizer: expected Metaspace with prepend_scheme never, got first (llama.cpp adds the space after special tokens too)'
        : `pre_tokenizer: expected Metaspace with prepend_scheme never, got ${scheme} (llama.cpp adds the space before a space too)`,
    );
  }
  const got = [...normalizers, ...steps].map(({ type }) => type).join(', ');
  return refuse(
    `normalizer: expected Prepend and Replace of the space by ▁, or the latter alone, got ${got || 'none'}`,
  );
}

/** llama.cpp merges by score, here the order of the ids: the list must have that order. */
function checkMergeOrder(
  merges: readonly (string | readonly [string, string])[],
  vocab: Readonly<Record<string, number>>,
  refuse: Refuse,
): void {
  let last = -1;
  for (const merge of merges) {
    const text = typeof merge === 'string' ? merge.replace(' ', '') : merge.join('');
    const id = vocab[text] ?? -1;
    if (id < last)
      refuse(`model: expected merges in the order of the ids they make, got ${JSON.stringify(text)} later`);
    last = id;
  }
}

/**
 * The templates as gguf-py writes them: the default one, each named one under its name, and the list of
 * names.
 */
function chatTemplates({ config, extras }: TokenizerParts): Map<string, GgufPair> {
  const files = new Map(extras.additionalChatTemplates);
  if (extras.chatTemplate !== undefined) files.set('default', extras.chatTemplate);
  const out = new Map<string, GgufPair>();
  const names: string[] = [];
  for (const [name, value] of files.size > 0 ? files : configTemplates(config)) {
    const known = name.replace(/[^A-Za-z0-9]/gu, '_');
    if (known === 'default') out.set('tokenizer.chat_template', { type: 'string', value });
    else {
      out.set(`tokenizer.chat_template.${known}`, { type: 'string', value });
      names.push(known);
    }
  }
  if (names.length > 0) out.set('tokenizer.chat_templates', { type: '[string]', value: names });
  return out;
}

function specialTokens(
  checkpoint: Checkpoint,
  { json, config, extras }: TokenizerParts,
  idOf: (token: string) => number | undefined,
  refuse: Refuse,
): Map<string, GgufPair> {
  const out = new Map<string, GgufPair>();
  const settings = checkpoint.config as Readonly<Record<string, unknown>>;
  const ids: Record<string, number | undefined> = {};
  for (const [key, name] of [
    ['bos', 'bos_token'],
    ['eos', 'eos_token'],
    ['unknown', 'unk_token'],
    ['padding', 'pad_token'],
  ]) {
    const stated = settings[`${name}_id`];
    const first = Array.isArray(stated) ? stated[0] : stated;
    // Without the key, llama.cpp takes token 0 of a SentencePiece vocabulary as the unknown token.
    const own = key === 'unknown' ? (json.model.unk_token as string | null | undefined) : undefined;
    const text = configTokenText((config[name] ?? own) as TokenizerConfigJson['bos_token']);
    ids[key] =
      (text === undefined ? undefined : idOf(text)) ?? (typeof first === 'number' ? first : undefined);
  }
  const { before, after } = withBosAndEos(surroundingsOf(json.post_processor), config, idOf);
  if (before.length > 1 || after.length > 1)
    refuse(
      `post_processor: expected at most one token before a text and one after it, got ${before.length} and ${after.length}`,
    );
  // llama.cpp adds only bos and eos.
  if (before.length === 1) ids.bos = before[0];
  if (after.length === 1 && after[0] !== ids.eos)
    refuse(`post_processor: expected eos (${ids.eos}) after a text, got token ${after[0]}`);
  for (const [key, id] of Object.entries(ids))
    if (id !== undefined) out.set(`tokenizer.ggml.${key}_token_id`, { type: 'u32', value: id });
  out.set('tokenizer.ggml.add_bos_token', { type: 'bool', value: before.length === 1 });
  out.set('tokenizer.ggml.add_eos_token', { type: 'bool', value: after.length === 1 });
  for (const [key, value] of chatTemplates({ json, config, extras })) out.set(key, value);
  return out;
}
