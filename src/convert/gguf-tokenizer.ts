/**
 * The tokenizer.json of a checkpoint as GGUF keys: byte-level BPE whose way of cutting text GGUF has a name for, and
 * SentencePiece BPE with byte fallback. A checkpoint without a tokenizer gets the model `no_vocab`.
 *
 * Source: ggml/docs/gguf.md ("Tokenizer"); gguf-py vocab.py.
 */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { GgufPair } from '../checkpoint/write-gguf.ts';
import { FormatError } from '../format/format-error.ts';
import { gpt2Split, preTokenizerRecipe } from '../text/gguf-pre-tokenizers.ts';

interface Added {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
}

interface Tokenizer {
  readonly model: {
    readonly type?: string;
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges?: readonly (string | readonly [string, string])[];
    readonly byte_fallback?: boolean;
    readonly ignore_merges?: boolean;
  };
  readonly added_tokens?: readonly Added[];
  readonly pre_tokenizer?: PreTokenizer | null;
}

interface PreTokenizer {
  readonly type: string;
  readonly pretokenizers?: readonly PreTokenizer[];
  readonly pattern?: { readonly Regex?: string };
  readonly use_regex?: boolean;
}

/** Names of cuttings that models in `llama` form have. */
const NAMES = ['llama-bpe', 'smollm', 'gpt-2', 'qwen2', 'tekken', 'dbrx', 'gpt-4o'];
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 };

/** @throws FormatError when GGUF cannot say how this tokenizer works */
export async function ggufTokenizer(
  checkpoint: Checkpoint,
  vocabSize: number,
): Promise<Map<string, GgufPair>> {
  const json = (await checkpoint.readJson('tokenizer.json')) as Tokenizer | undefined;
  const model = (value: string): [string, GgufPair] => ['tokenizer.ggml.model', { type: 'string', value }];
  if (json === undefined) return new Map([model('no_vocab')]);
  const file = `${checkpoint.directory}/tokenizer.json`;
  const { vocab, merges = [], byte_fallback: fallback } = json.model;
  if (json.model.type !== undefined && json.model.type !== 'BPE') {
    throw new FormatError(file, undefined, `model: expected BPE to write GGUF, got ${json.model.type}`);
  }
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = new Int32Array(vocabSize).fill(TYPE.unused);
  for (const [token, id] of Object.entries(vocab)) {
    if (id >= vocabSize) continue;
    tokens[id] = token;
    types[id] = fallback && /^<0x[0-9A-F]{2}>$/.test(token) ? TYPE.byte : TYPE.normal;
  }
  for (const { id, content, special } of json.added_tokens ?? []) {
    if (id >= vocabSize) continue;
    tokens[id] = content;
    types[id] = content === '<unk>' ? TYPE.unknown : special ? TYPE.control : TYPE.userDefined;
  }
  const out = new Map<string, GgufPair>([model(fallback ? 'llama' : 'gpt2')]);
  if (!fallback) out.set('tokenizer.ggml.pre', { type: 'string', value: cuttingName(file, json) });
  out.set('tokenizer.ggml.tokens', { type: '[string]', value: tokens });
  if (fallback)
    out.set('tokenizer.ggml.scores', { type: '[f32]', value: Float32Array.from(tokens, (_, id) => -id) });
  out.set('tokenizer.ggml.token_type', { type: '[i32]', value: types });
  if (!fallback) {
    const lines = merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' ')));
    out.set('tokenizer.ggml.merges', { type: '[string]', value: lines });
  }
  for (const [key, value] of await specialTokens(checkpoint, json)) out.set(key, value);
  return out;
}

function cuttingName(file: string, { pre_tokenizer, model }: Tokenizer): string {
  const splits = pre_tokenizer ? splitsOf(pre_tokenizer) : [];
  const name = NAMES.find((candidate) => {
    const recipe = preTokenizerRecipe(candidate);
    const sameMerges = (recipe.ignoreMerges ?? false) === (model.ignore_merges ?? false);
    return sameMerges && recipe.splits.join('\n') === splits.join('\n');
  });
  if (name !== undefined) return name;
  throw new FormatError(
    file,
    undefined,
    `pre_tokenizer: expected one of those GGUF has a name for (${NAMES.join(', ')}), got another; write a directory instead`,
  );
}

function splitsOf(step: PreTokenizer): string[] {
  if (step.type === 'Sequence') return (step.pretokenizers ?? []).flatMap(splitsOf);
  if (step.type === 'Digits') return ['\\p{N}'];
  if (step.type === 'Split') return [step.pattern?.Regex ?? '?'];
  if (step.type === 'ByteLevel') return step.use_regex === false ? [] : [gpt2Split];
  return ['?'];
}

async function specialTokens(checkpoint: Checkpoint, json: Tokenizer): Promise<Map<string, GgufPair>> {
  const out = new Map<string, GgufPair>();
  const settings = ((await checkpoint.readJson('tokenizer_config.json')) ?? {}) as Readonly<
    Record<string, unknown>
  >;
  const config = checkpoint.config as Readonly<Record<string, unknown>>;
  const idOf = (token: unknown): number | undefined => {
    const content = typeof token === 'string' ? token : (token as { content?: string } | null)?.content;
    if (content === undefined) return undefined;
    return json.added_tokens?.find((added) => added.content === content)?.id ?? json.model.vocab[content];
  };
  for (const [key, name] of [
    ['bos', 'bos_token'],
    ['eos', 'eos_token'],
    ['unknown', 'unk_token'],
    ['padding', 'pad_token'],
  ]) {
    const stated = config[`${name}_id`];
    const first = Array.isArray(stated) ? stated[0] : stated;
    const id = idOf(settings[name]) ?? (typeof first === 'number' ? first : undefined);
    if (id !== undefined) out.set(`tokenizer.ggml.${key}_token_id`, { type: 'u32', value: id });
  }
  for (const key of ['add_bos_token', 'add_eos_token']) {
    const value = settings[key];
    if (typeof value === 'boolean') out.set(`tokenizer.ggml.${key}`, { type: 'bool', value });
  }
  const template = (await checkpoint.readText('chat_template.jinja')) ?? settings.chat_template;
  if (typeof template === 'string') out.set('tokenizer.chat_template', { type: 'string', value: template });
  return out;
}
