/**
 * A tokenizer as the files of a Hugging Face folder. What a GGUF header leaves out is written in full: merges
 * that follow from scores, and the tokens around a text.
 *
 * Source: the `tokenizers` library, tokenizer.json; transformers convert_slow_tokenizer.py (generate_merges).
 */
import {
  type ConfigToken,
  configTokenText,
  type ModelJson,
  type TokenizerConfigJson,
  type TokenizerJson,
} from './tokenizer-json.ts';

/** Contents of a tokenizer's files by name, as in a Hugging Face folder. */
export type TokenizerFiles = ReadonlyMap<string, Uint8Array>;

/** tokenizer.json, tokenizer_config.json, and the chat templates as files of their own. */
export function encodeTokenizerFiles(json: TokenizerJson, config: TokenizerConfigJson): TokenizerFiles {
  const { chat_template: templates, add_bos_token, add_eos_token, ...rest } = config;
  const model = modelJson(json.model);
  const around = json.post_processor ?? surrounding(config, model.vocab);
  const written: Record<string, string> = {
    'tokenizer.json': jsonText({
      version: '1.0',
      truncation: null,
      padding: null,
      ...json,
      post_processor: around,
      model,
    }),
    'tokenizer_config.json': jsonText({
      tokenizer_class: 'PreTrainedTokenizerFast',
      clean_up_tokenization_spaces: false,
      ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null)),
    }),
  };
  const named = typeof templates === 'string' ? [{ name: 'default', template: templates }] : templates;
  for (const { name, template } of named ?? []) {
    const file = name === 'default' ? 'chat_template.jinja' : `additional_chat_templates/${name}.jinja`;
    written[file] = template;
  }
  const utf8 = new TextEncoder();
  return new Map(Object.entries(written).map(([name, text]) => [name, utf8.encode(text)]));
}

function jsonText(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** The model with all keys that the library asks for, and its merges. */
function modelJson({ scores, vocab, ...own }: ModelJson): ModelJson & { vocab: Record<string, number> } {
  const ids =
    vocab instanceof Map ? (vocab as ReadonlyMap<string, number>) : new Map(Object.entries(vocab as object));
  return {
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    ...own,
    vocab: Object.fromEntries(ids),
    ...(scores && { merges: mergesOf(ids, scores) }),
  };
}

/**
 * The merges that SentencePiece's scores imply: every way to split a piece into two pieces, those of the
 * highest score first.
 */
function mergesOf(ids: ReadonlyMap<string, number>, scores: Float64Array): [string, string][] {
  const merges: { left: string; right: string; score: number; lengths: [number, number] }[] = [];
  for (const [piece, id] of ids) {
    if (Number.isNaN(scores[id])) continue;
    const characters = [...piece];
    const own: typeof merges = [];
    for (let at = 1; at < characters.length; at++) {
      const [left, right] = [characters.slice(0, at).join(''), characters.slice(at).join('')];
      if (!ids.has(left) || !ids.has(right)) continue;
      own.push({ left, right, score: scores[id], lengths: [at, characters.length - at] });
    }
    const order = ({ left, right }: (typeof merges)[number]) => [ids.get(left)!, ids.get(right)!];
    merges.push(...own.sort((a, b) => order(a)[0] - order(b)[0] || order(a)[1] - order(b)[1]));
  }
  merges.sort((a, b) => b.score - a.score || b.lengths[0] - a.lengths[0] || b.lengths[1] - a.lengths[1]);
  return merges.map(({ left, right }) => [left, right]);
}

/** The post-processor that adds bos and eos; null when neither is added. */
function surrounding(
  { bos_token, eos_token, add_bos_token, add_eos_token }: TokenizerConfigJson,
  vocab: Readonly<Record<string, number>>,
): TokenizerJson['post_processor'] {
  const added = (add: unknown, token: ConfigToken | undefined): readonly string[] => {
    const text = configTokenText(token);
    return add === true && text !== undefined && vocab[text] !== undefined ? [text] : [];
  };
  const [before, after] = [added(add_bos_token, bos_token), added(add_eos_token, eos_token)];
  if (before.length + after.length === 0) return null;
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const sequence = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  const around = (id: string, type_id: number) => [
    ...before.map(special),
    sequence(id, type_id),
    ...after.map(special),
  ];
  return {
    type: 'TemplateProcessing',
    single: around('A', 0),
    pair: [...around('A', 0), ...around('B', 1)],
    special_tokens: Object.fromEntries(
      [...before, ...after].map((token) => [token, { id: token, ids: [vocab[token]], tokens: [token] }]),
    ),
  };
}
