/**
 * The shape of Hugging Face's tokenizer.json and tokenizer_config.json, as far as this folder reads them, and what has
 * to be changed in one before `@huggingface/tokenizers` (JavaScript) gives the ids of `tokenizers` (Rust), which is what
 * transformers runs. Found by comparing the two over the same files; every rewrite here has its strings in the tests.
 */
import { gpt2Split } from './pre-tokenizers.ts';

/** One step of a pipeline: `type` says which, the other keys are its own. */
export interface Step {
  readonly type: string;
  readonly [option: string]: unknown;
}

/** A token that is found in the text before anything else happens to it. */
export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly single_word?: boolean;
  readonly normalized?: boolean;
}

export interface ModelJson {
  readonly type?: string;
  readonly vocab: Readonly<Record<string, number>> | readonly (readonly [string, number])[];
  readonly [option: string]: unknown;
}

export interface TokenizerJson {
  readonly model: ModelJson;
  readonly added_tokens: readonly AddedTokenJson[];
  readonly normalizer: Step | null;
  readonly pre_tokenizer: Step | null;
  readonly post_processor: Step | null;
  readonly decoder: Step | null;
}

/** A special token of tokenizer_config.json: its text, or an object with it. */
export type ConfigToken = string | { readonly content: string; readonly [flag: string]: unknown } | null;

export interface TokenizerConfigJson {
  readonly bos_token?: ConfigToken;
  readonly eos_token?: ConfigToken;
  readonly unk_token?: ConfigToken;
  readonly pad_token?: ConfigToken;
  readonly add_bos_token?: boolean | null;
  readonly add_eos_token?: boolean | null;
  readonly clean_up_tokenization_spaces?: boolean | null;
  readonly added_tokens_decoder?: Readonly<Record<string, Omit<AddedTokenJson, 'id'>>>;
  readonly chat_template?: string | readonly { readonly name: string; readonly template: string }[] | null;
  readonly [key: string]: unknown;
}

/** The text of a special token, undefined when the config has none. */
export function configTokenText(token: ConfigToken | undefined): string | undefined {
  return typeof token === 'string' ? token : token?.content;
}

/** A pre-tokenizer that makes a word of each match of a regular expression and of each stretch between. */
export function isolated(regex: string): Step {
  return { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false };
}

/**
 * A post-processor that puts tokens around every text.
 * @param before tokens put in front, by text
 * @param after tokens put behind, by text
 */
function surroundWith(before: readonly string[], after: readonly string[]): Step {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const text = { Sequence: { id: 'A', type_id: 0 } };
  const second = { Sequence: { id: 'B', type_id: 0 } };
  const single = [...before.map(special), text, ...after.map(special)];
  return { type: 'TemplateProcessing', single, pair: [...single, second], special_tokens: {} };
}

/**
 * Merges what tokenizer_config.json says about tokens into tokenizer.json, as transformers 5 does when it loads both:
 * tokens that only the config lists become added tokens, and `add_bos_token` / `add_eos_token`, where one is given,
 * decide what surrounds a text in place of the file's own post-processor.
 */
export function withConfig(json: TokenizerJson, config: TokenizerConfigJson): TokenizerJson {
  const added = new Map(json.added_tokens.map((token) => [token.content, token]));
  for (const [id, token] of Object.entries(config.added_tokens_decoder ?? {})) {
    added.set(token.content, { ...token, id: added.get(token.content)?.id ?? Number(id) });
  }
  const vocab = Array.isArray(json.model.vocab) ? {} : (json.model.vocab as Readonly<Record<string, number>>);
  for (const named of [config.bos_token, config.eos_token, config.unk_token, config.pad_token]) {
    const content = configTokenText(named);
    if (content === undefined || added.has(content) || !Object.hasOwn(vocab, content)) continue;
    added.set(content, { id: vocab[content], content, special: true, normalized: false });
  }

  let postProcessor = json.post_processor;
  if (typeof config.add_bos_token === 'boolean' || typeof config.add_eos_token === 'boolean') {
    const bos = config.add_bos_token === true ? configTokenText(config.bos_token) : undefined;
    const eos = config.add_eos_token === true ? configTokenText(config.eos_token) : undefined;
    postProcessor = surroundWith(bos === undefined ? [] : [bos], eos === undefined ? [] : [eos]);
  }
  return { ...json, added_tokens: [...added.values()], post_processor: postProcessor };
}

/**
 * A tokenizer.json that means to the JavaScript library what the given one means to the Rust library.
 * Nothing is copied but the steps that change.
 */
export function forJavaScript(json: TokenizerJson): TokenizerJson {
  const preTokenizer = json.pre_tokenizer === null ? null : rewritePreTokenizer(json.pre_tokenizer);
  return {
    ...json,
    normalizer: json.normalizer ?? null,
    pre_tokenizer: cutAtWordStarts(json, preTokenizer ?? null),
    post_processor: json.post_processor ?? null,
    decoder: json.decoder ?? null,
  };
}

function rewritePreTokenizer(step: Step): Step {
  switch (step.type) {
    case 'Sequence': {
      const inner = (step.pretokenizers as readonly Step[] | undefined) ?? [];
      return { ...step, pretokenizers: inner.map(rewritePreTokenizer) };
    }
    case 'Digits':
      // There \d is 0-9; in Rust a digit is any of Unicode's numbers, so ٣ and ½ stand alone too.
      return isolated(step.individual_digits === true ? '\\p{N}' : '\\p{N}+');
    case 'ByteLevel':
      return rewriteByteLevel(step);
    case 'Metaspace':
      // There `split` is not looked at; in Rust it is on by default and every ▁ begins a piece.
      return step.split === false ? step : sequence([step, isolated('▁[^▁]*')]);
    default:
      return step;
  }
}

const sequence = (pretokenizers: readonly Step[]): Step => ({ type: 'Sequence', pretokenizers });

/** The built-in pattern there is JavaScript's own, whose \s has U+FEFF and lacks U+0085; as a Split it is translated. */
function rewriteByteLevel(step: Step): Step {
  if (step.use_regex === false) return step;
  const prefix: Step = { type: 'Replace', pattern: { Regex: '\\A[^ ]' }, content: ' $&' };
  return sequence([
    ...(step.add_prefix_space === true ? [prefix] : []),
    isolated(gpt2Split),
    { ...step, add_prefix_space: false, use_regex: false },
  ]);
}

/**
 * SentencePiece vocabularies merge over a whole text at once, which there takes seconds for 200 kB. Where no token
 * reaches over the start of a word (a ▁ after something else), no merge does either, and the text may be cut there.
 */
function cutAtWordStarts(json: TokenizerJson, preTokenizer: Step | null): Step | null {
  const { type, vocab, byte_fallback } = json.model;
  const whole = preTokenizer === null || (preTokenizer.type === 'Metaspace' && preTokenizer.split === false);
  if (type !== 'BPE' || byte_fallback !== true || !whole) return preTokenizer;
  if (Object.keys(vocab).some((token) => /[^▁]▁/u.test(token))) return preTokenizer;
  const cut = isolated('▁*[^▁]+|▁+');
  return preTokenizer === null ? cut : sequence([preTokenizer, cut]);
}
