/**
 * Runs a tokenizer.json: added tokens, normalizer, pre-tokenizer, model, post-processor, and the decoder for
 * the reverse. Ids and texts equal those of Rust's `tokenizers` (`test/golden/tokenizers`). Unknown
 * components are refused by name when the file is opened.
 */
import { AddedTokens } from './added-tokens.ts';
import { Bpe } from './bpe.ts';
import { decoderOf } from './decoders.ts';
import { ListedMerges, ScoredMerges } from './merges.ts';
import { normalizerOf } from './normalizers.ts';
import { type Surroundings, surroundingsOf } from './post-processor.ts';
import { type PreTokenizer, preTokenizerOf } from './pre-tokenizers.ts';
import { checkKeys, flatten, refuse } from './steps.ts';
import type { ModelJson, Step, TokenizerJson } from './tokenizer-json.ts';
import { Unigram, WordLevel, type WordModel, WordPiece } from './word-models.ts';

export class Pipeline {
  readonly added: AddedTokens;
  /** One more than the largest id. */
  readonly size: number;
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #tokens: readonly (string | undefined)[];
  readonly #cut: PreTokenizer | undefined;
  readonly #model: WordModel;
  readonly #around: Surroundings;
  readonly #decode: (tokens: string[]) => string;

  /**
   * @param surround maps the tokens that the post-processor adds around a text to those to add
   * @param splitSpecial whether special tokens written in a text are left to the model
   *   (`split_special_tokens`)
   * @throws RangeError for an unknown component or option
   */
  constructor(
    json: TokenizerJson,
    surround: (own: Surroundings, idOf: (token: string) => number | undefined) => Surroundings = (own) => own,
    splitSpecial = false,
  ) {
    const { model } = json;
    this.#vocab = vocabularyOf(model);
    const tokens: (string | undefined)[] = [];
    for (const [token, id] of this.#vocab) tokens[id] = token;
    this.#tokens = tokens;
    this.added = new AddedTokens(json.added_tokens, this.#vocab, normalizerOf(json.normalizer), splitSpecial);
    let size = tokens.length;
    for (const id of this.added.tokens.keys()) size = Math.max(size, id + 1);
    this.size = size;
    this.#model = modelOf(model, this.#vocab, tokens);
    checkStart(json);
    const cut = preTokenizerOf(json.pre_tokenizer);
    this.#cut = wordsStandAlone(json, this.#vocab) ? cutAtWordStarts(cut) : cut;
    this.#around = surround(surroundingsOf(json.post_processor), (token) => this.idOf(token));
    this.#decode = decoderOf(json.decoder);
  }

  idOf(token: string): number | undefined {
    return this.added.ids.get(token) ?? this.#vocab.get(token);
  }

  /** The text of a token before decoding. */
  tokenOf(id: number): string | undefined {
    return this.added.texts.get(id) ?? this.#tokens[id];
  }

  /** @param special whether to add special tokens around the text */
  encode(text: string, special: boolean): number[] {
    const ids: number[] = special ? [...this.#around.before] : [];
    // A lone surrogate is not valid text.
    for (const part of this.added.parts(text.replace(/\p{Surrogate}/gu, '\uFFFD'))) {
      if (part.id >= 0) {
        ids.push(part.id);
      } else {
        const words = { texts: [part.text], atStart: part.atStart };
        for (const word of this.#cut?.(words).texts ?? words.texts)
          if (word !== '') this.#model.encode(word, ids);
      }
    }
    if (special) ids.push(...this.#around.after);
    return ids;
  }

  /** The text of ids; ids outside the vocabulary are skipped. */
  decode(ids: readonly number[]): string {
    const tokens = ids.map((id) => this.tokenOf(id)).filter((token) => token !== undefined);
    return tokens.length === 0 ? '' : this.#decode(tokens);
  }
}

/**
 * Metaspace with `first` adds its sign at the start of a text unless a normalizer removed letters there. That
 * is not tracked here, so normalizers that could do it are refused.
 */
function checkStart({ normalizer, pre_tokenizer }: TokenizerJson): void {
  const isFirst = (step: Step): boolean => step.type === 'Metaspace' && step.prepend_scheme === 'first';
  if (!flatten(pre_tokenizer, 'pretokenizers').some(isFirst)) return;
  const takes = flatten(normalizer, 'normalizers').find(
    (step) =>
      (step.type === 'Strip' && step.strip_left === true) ||
      step.type === 'StripAccents' ||
      step.type === 'BertNormalizer' ||
      (step.type === 'Replace' && !keepsStart(step)),
  );
  if (takes !== undefined)
    refuse(
      'no normalizer that removes characters, with a Metaspace whose prepend_scheme is first',
      takes.type,
    );
}

/**
 * Whether it replaces single letters only: for longer matches the Rust library keeps the last letter's
 * offset.
 */
function keepsStart({ pattern, content }: Step): boolean {
  const { String: text } = (pattern ?? {}) as { String?: unknown };
  return typeof text === 'string' && [...text].length === 1 && content !== '';
}

function vocabularyOf({ vocab }: ModelJson): ReadonlyMap<string, number> {
  if (vocab instanceof Map) return vocab;
  const ids = new Map<string, number>();
  if (Array.isArray(vocab)) {
    for (let id = 0; id < vocab.length; id++) ids.set(vocab[id][0], id);
    return ids;
  }
  const record = vocab as Readonly<Record<string, number>>;
  for (const token of Object.keys(record)) {
    const id = record[token];
    if (!Number.isInteger(id) || id < 0 || id >= 2 ** 22) refuse('token ids from 0 to 4194303', id);
    ids.set(token, id);
  }
  return ids;
}

function modelOf(
  model: ModelJson,
  vocab: ReadonlyMap<string, number>,
  tokens: (string | undefined)[],
): WordModel {
  const text = (key: string): string | undefined => {
    const value = model[key] ?? undefined;
    return value === undefined || typeof value === 'string'
      ? value
      : refuse(`model.${key} to be a string`, value);
  };
  const flag = (key: string): boolean => {
    const value = model[key] ?? false;
    return typeof value === 'boolean' ? value : refuse(`model.${key} to be true or false`, value);
  };
  switch (model.type ?? kindOf(model)) {
    case 'BPE': {
      checkKeys(
        model,
        'BPE',
        'vocab merges scores dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback ignore_merges',
      );
      if (model.dropout) refuse('a BPE model without dropout, which makes ids random', model.dropout);
      const prefix = text('continuing_subword_prefix') ?? '';
      const merges =
        model.scores instanceof Float64Array
          ? new ScoredMerges(model.scores, vocab, tokens as string[])
          : new ListedMerges(listOf(model.merges), vocab, tokens as string[], prefix.length);
      return new Bpe(vocab, merges, {
        unknown: text('unk_token'),
        fuseUnknown: flag('fuse_unk'),
        byteFallback: flag('byte_fallback'),
        ignoreMerges: flag('ignore_merges'),
        prefix,
        suffix: text('end_of_word_suffix') ?? '',
      });
    }
    case 'Unigram': {
      checkKeys(model, 'Unigram', 'vocab unk_id byte_fallback');
      const unknown = (model.unk_id ?? undefined) as number | undefined;
      if (!Array.isArray(model.vocab))
        refuse('the vocab of a Unigram model to be a list', typeof model.vocab);
      if (unknown !== undefined && !(unknown < model.vocab.length))
        refuse('unk_id to be in the vocabulary', unknown);
      return new Unigram(model.vocab, vocab, { unknown, byteFallback: flag('byte_fallback') });
    }
    case 'WordPiece':
      checkKeys(model, 'WordPiece', 'vocab unk_token continuing_subword_prefix max_input_chars_per_word');
      return new WordPiece(vocab, {
        unknown: text('unk_token') ?? '[UNK]',
        prefix: text('continuing_subword_prefix') ?? '##',
        maxLetters: (model.max_input_chars_per_word as number | undefined) ?? 100,
      });
    case 'WordLevel':
      checkKeys(model, 'WordLevel', 'vocab unk_token');
      return new WordLevel(vocab, text('unk_token') ?? '<unk>');
    default:
      return refuse('a model among BPE, Unigram, WordLevel and WordPiece', model.type);
  }
}

/** Old files have no model type. */
function kindOf(model: ModelJson): string {
  if (Array.isArray(model.vocab)) return 'Unigram';
  if ('merges' in model) return 'BPE';
  return 'max_input_chars_per_word' in model ? 'WordPiece' : 'WordLevel';
}

function listOf(merges: unknown): readonly (string | readonly [string, string])[] {
  const isMerge = (merge: unknown): boolean =>
    typeof merge === 'string' ||
    (Array.isArray(merge) &&
      merge.length === 2 &&
      typeof merge[0] === 'string' &&
      typeof merge[1] === 'string');
  if (!Array.isArray(merges) || !merges.every(isMerge))
    refuse('model.merges to be a list of pairs of tokens', merges);
  return merges as readonly (string | readonly [string, string])[];
}

const wholeTexts = (step: Step | null): boolean =>
  step === null || (step.type === 'Metaspace' && step.split === false);

/**
 * SentencePiece vocabularies merge over a whole text. If no token spans the start of a word (a ▁ after
 * another letter), no merge does, so the text can be split there and most words are found in the model's
 * cache.
 */
function wordsStandAlone(
  { model, pre_tokenizer }: TokenizerJson,
  vocab: ReadonlyMap<string, number>,
): boolean {
  if (
    (model.type ?? 'BPE') !== 'BPE' ||
    model.byte_fallback !== true ||
    model.ignore_merges === true ||
    !wholeTexts(pre_tokenizer)
  )
    return false;
  if (!vocab.has('▁')) return false;
  for (const token of vocab.keys()) {
    let at = 0;
    while (token[at] === '▁') at++;
    if (token.indexOf('▁', at) >= 0) return false;
  }
  return true;
}

function cutAtWordStarts(cut: PreTokenizer | undefined): PreTokenizer {
  return (whole) => {
    const words = cut?.(whole) ?? whole;
    const texts: string[] = [];
    for (const text of words.texts) {
      let start = 0;
      for (let at = text.indexOf('▁', 1); at >= 0; at = text.indexOf('▁', at + 1)) {
        if (text[at - 1] === '▁') continue;
        texts.push(text.slice(start, at));
        start = at;
      }
      texts.push(text.slice(start));
    }
    return { texts, atStart: words.atStart };
  };
}
