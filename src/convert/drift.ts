/** The drift report: how a conversion changes a model, before any training. */

import {
  aFunction,
  anything,
  aString,
  checkObject,
  checkPositiveInteger,
  describe,
} from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { aPlace, type PlaceLike } from '../files/place.ts';
import {
  aSource,
  type ModelSource,
  SOURCE_OPTIONS,
  type SourceOptions,
  sourceName,
} from '../files/source.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { freePass, type SeenHeads } from '../models/decoder-pass.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { documentStart, documentWindows } from '../text/documents.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { ConvertMethod, ConvertResult } from './convert-checkpoint.ts';
import type { LayerMix } from './head-mix.ts';
import { seenStatistics } from './head-statistics.ts';
import { LogitDrift, type TextDrift } from './logit-drift.ts';
import type { AnswerDrift } from './model-answers.ts';
import { OpenedDecoder } from './opened-decoder.ts';
import { headSimilarity } from './similar.ts';

/** Options of `measureDrift`; those of a source are for `from`. */
export interface DriftOptions extends SourceOptions {
  /** The checkpoint before the conversion. */
  readonly from: ModelSource;
  /** The checkpoint that `convertCheckpoint` wrote. */
  readonly to: PlaceLike;
  /** The result of `convertCheckpoint`. */
  readonly result: ConvertResult;
  /** A text that was not used for calibration. Required without `texts`. */
  readonly text?: string;
  /**
   * More texts, by name, that were not used for calibration. Each has its loss and KL in the report, and the
   * models are compared by what they write, too: greedy continuations of 64 prompts from these texts, and cloze
   * questions on their sentences.
   */
  readonly texts?: Readonly<Record<string, string>>;
  /**
   * Tokens of a row, its bos included; default 256, or the model's context. `gqa eval --context` of one less
   * has the same rows.
   */
  readonly window?: number;
  /** Rows of each text that are read; default 8. */
  readonly windows?: number;
  /** Called after each row of the texts, and after answers. */
  readonly onProgress?: (done: number, total: number) => void;
}

const OPTIONS = optionKinds<DriftOptions>({
  ...SOURCE_OPTIONS,
  from: aSource,
  to: aPlace,
  result: aConversion,
  text: aString,
  texts: anything,
  window: checkPositiveInteger,
  windows: checkPositiveInteger,
  onProgress: aFunction,
});

/**
 * Errors are relative: sqrt(sum of squared errors / sum of squares). 0 is exact; all zeros have error 1.
 */
export interface LayerDrift {
  /** Error of the keys. */
  readonly key: number;
  /** Error of the values. */
  readonly value: number;
  /** Of what attention adds to the residual stream. */
  readonly attentionOutput: number;
  /** `[K][K]`, 0 to 1: the similarity of the old heads. */
  readonly similarity: readonly (readonly number[])[];
  /** Old heads of each new one. */
  readonly groups: readonly (readonly number[])[];
}

/**
 * How a conversion changes a model on texts, all of them together and each alone. Each layer gets the original
 * model's input, so errors do not accumulate over layers; losses and KL are of the whole models.
 */
export interface DriftReport extends TextDrift {
  /** How heads were merged. */
  readonly method: ConvertMethod;
  /** N */
  readonly numHeads: number;
  /** K of both checkpoints. */
  readonly numKeyValueHeads: { readonly before: number; readonly after: number };
  /** `text` alone. */
  readonly text: TextDrift | undefined;
  /** Each of `texts`, by its name. */
  readonly texts: Readonly<Record<string, TextDrift>>;
  /** What both models write; undefined without `texts`. */
  readonly answers: AnswerDrift | undefined;
  /** The errors of each layer, in order. */
  readonly layers: readonly LayerDrift[];
}

/** The row of `text` in a table of texts. */
export const CALIBRATION_TEXT = 'calibration text';

/** The layers whose attention changes most, which more heads would help most: `layer 14 (1.081), …`. */
export function worstLayers(layers: readonly LayerDrift[]): string {
  return layers
    .map(({ attentionOutput: error }, index) => ({ index, error }))
    .sort((a, b) => b.error - a.error)
    .slice(0, 3)
    .map(({ index, error }) => `layer ${index} (${error.toFixed(3)})`)
    .join(', ');
}

/**
 * Compares a checkpoint with what it was converted to.
 * @throws TypeError without a text, RangeError when one is too short, Error when the checkpoint has no tokenizer
 * @example const drift = await measureDrift({ from, to, result, text }); drift.after.perplexity
 */
export async function measureDrift(options: DriftOptions): Promise<DriftReport> {
  checkOptions('measureDrift', options, OPTIONS);
  const { from, to, result, text, texts = {}, token, signal, cache } = options;
  const parts = textParts(text, texts);
  const before = await OpenedDecoder.open(from, { token, signal, cache });
  let after: OpenedDecoder | undefined;
  try {
    after = await OpenedDecoder.open(to);
    const { tokenizer } = before;
    if (tokenizer === undefined) {
      throw new Error(`${sourceName(from)}: expected a tokenizer to measure drift on a text, got none`);
    }
    const named = Object.values(texts);
    // Imported when it is used: generation is a large part of a page's bundle.
    const { questionsFrom, answerDrift } = await import('./model-answers.ts');
    const questions =
      named.length === 0 ? undefined : questionsFrom(tokenizer, named, before.config.maxPositionEmbeddings);
    const rows = parts.map((part) => driftRows('measureDrift', before, tokenizer, part, options));
    const steps = questions === undefined ? 0 : 2 * (questions.prompts.length + questions.cloze.length);
    const total = rows.flat().length + steps;
    let done = 0;
    const onStep = () => options.onProgress?.(++done, total);
    const errors = result.layers.map((mix) => new LayerErrors(before.config, mix));
    const each = parts.map(() => new LogitDrift());
    for (const [i, part] of rows.entries()) {
      for (const row of part) {
        await compareRow(before, after, row, errors, each[i]);
        onStep();
      }
    }
    const { method, numHeads, numKeyValueHeads } = result;
    return {
      ...{ method, numHeads, numKeyValueHeads },
      ...LogitDrift.sum(each).result(),
      text: text === undefined ? undefined : each[0].result(),
      texts: Object.fromEntries(
        Object.keys(texts).map((name, i) => [name, each[text === undefined ? i : i + 1].result()]),
      ),
      answers: questions && (await answerDrift(before.parts, after.parts, questions, onStep)),
      layers: errors.map((error) => error.result()),
    };
  } finally {
    before.dispose();
    after?.dispose();
  }
}

function aConversion(op: string, name: string, value: ConvertResult): void {
  if (Array.isArray(value?.layers)) return;
  throw new TypeError(
    `${op}: expected ${name} to be what convertCheckpoint returned, got ${describe(value)}`,
  );
}

/** A text, and the option that it is. */
interface NamedText {
  readonly name: string;
  readonly text: string;
}

/** `text`, if there is one, and then `texts`. @throws unless there is a text */
function textParts(text: string | undefined, texts: Readonly<Record<string, string>>): NamedText[] {
  checkObject('measureDrift', 'texts by name', texts);
  const named = Object.entries(texts).map(([name, value]) => {
    aString('measureDrift', `texts.${name}`, value);
    return { name: `texts.${name}`, text: value };
  });
  if (text === undefined && named.length === 0) {
    throw new TypeError('measureDrift: expected a text, or texts by name, got neither');
  }
  return text === undefined ? named : [{ name: 'text', text }, ...named];
}

/** The first token rows of a text. @throws RangeError when it has no token to predict */
export function driftRows(
  op: string,
  { config }: OpenedDecoder,
  tokenizer: Tokenizer,
  { name, text }: NamedText,
  { window = 256, windows = 8 }: Pick<DriftOptions, 'window' | 'windows'> = {},
): number[][] {
  const tokens = tokenizer.encode(text, { addSpecialTokens: false });
  const length = Math.min(window, config.maxPositionEmbeddings);
  const rows = documentWindows(tokens, documentStart(tokenizer), length).slice(0, windows);
  if (rows.length === 0) {
    throw new RangeError(`${op}: expected ${name} of at least 2 tokens, got ${tokens.length}`);
  }
  return rows;
}

async function compareRow(
  before: OpenedDecoder,
  after: OpenedDecoder,
  row: readonly number[],
  errors: readonly LayerErrors[],
  logits: LogitDrift,
): Promise<void> {
  const pass = before.pass([row]);
  let x = before.embed(pass);
  let y = after.embed(pass);
  try {
    for (const [layer, error] of errors.entries()) {
      const nextX = before.layer(pass, layer, x, (seen) => error.seeBefore(seen));
      after.layer(pass, layer, x, (seen) => error.seeAfter(seen)).dispose();
      const nextY = after.layer(pass, layer, y);
      x.dispose();
      y.dispose();
      [x, y] = [nextX, nextY];
      await eventLoopTurn();
    }
    const [a, b] = [before.logits(x), after.logits(y)];
    try {
      logits.add(floats(a), floats(b), row);
    } finally {
      a.dispose();
      b.dispose();
    }
  } finally {
    x.dispose();
    y.dispose();
    freePass(pass);
  }
}

function floats(tensor: Tensor): Float32Array {
  return tensor.dataSync() as Float32Array;
}

/** Squared errors and sizes of one layer, added up over rows. */
class LayerErrors {
  readonly #config: DecoderConfig;
  readonly #mix: LayerMix;
  readonly #errors = { key: 0, value: 0, output: 0 };
  readonly #sizes = { key: 0, value: 0, output: 0 };
  #before = { key: new Float32Array(0), value: new Float32Array(0), output: new Float32Array(0) };
  readonly #moments: { key: Float64Array; value: Float64Array };

  constructor(config: DecoderConfig, mix: LayerMix) {
    this.#config = config;
    this.#mix = mix;
    const side = (config.numKeyValueHeads * config.headDim) ** 2;
    this.#moments = { key: new Float64Array(side), value: new Float64Array(side) };
  }

  seeBefore(seen: SeenHeads): void {
    const copy = (tensor: Tensor) => Float32Array.from(floats(tensor));
    this.#before = { key: copy(seen.key), value: copy(seen.value), output: copy(seen.output) };
    const { key, value } = seenStatistics(this.#config, seen, []);
    for (const [total, part] of [
      [this.#moments.key, key],
      [this.#moments.value, value],
    ]) {
      for (let i = 0; i < total.length; i++) total[i] += part[i];
    }
  }

  seeAfter(seen: SeenHeads): void {
    const tokens = seen.key.shape[1];
    const { key, value, output } = this.#before;
    this.#addHeads('key', key, floats(seen.key), tokens, this.#mix.restore?.key);
    this.#addHeads('value', value, floats(seen.value), tokens, this.#mix.restore?.value);
    const now = floats(seen.output);
    for (let i = 0; i < output.length; i++) {
      this.#errors.output += (now[i] - output[i]) ** 2;
      this.#sizes.output += output[i] ** 2;
    }
  }

  /** Compares each old head with its group's new head, mapped back where it was aligned. */
  #addHeads(
    kind: 'key' | 'value',
    old: Float32Array,
    now: Float32Array,
    tokens: number,
    restore: readonly Float64Array[] | undefined,
  ): void {
    const { numKeyValueHeads: K, headDim: H } = this.#config;
    const { groups } = this.#mix;
    for (let head = 0; head < K; head++) {
      const group = groups.findIndex((heads) => heads.includes(head));
      const matrix = restore?.[head];
      for (let t = 0; t < tokens; t++) {
        const from = (t * K + head) * H;
        const to = (t * groups.length + group) * H;
        for (let r = 0; r < H; r++) {
          let guess = matrix ? 0 : now[to + r];
          if (matrix) for (let c = 0; c < H; c++) guess += matrix[r * H + c] * now[to + c];
          this.#errors[kind] += (guess - old[from + r]) ** 2;
          this.#sizes[kind] += old[from + r] ** 2;
        }
      }
    }
  }

  result(): LayerDrift {
    const { numKeyValueHeads: K, headDim: H } = this.#config;
    const relative = (kind: 'key' | 'value' | 'output') =>
      Math.sqrt(this.#errors[kind] / Math.max(this.#sizes[kind], 1e-300));
    const similarity = headSimilarity(this.#moments, K, H);
    return {
      key: relative('key'),
      value: relative('value'),
      attentionOutput: relative('output'),
      similarity: Array.from({ length: K }, (_, j) => Array.from(similarity.subarray(j * K, (j + 1) * K))),
      groups: this.#mix.groups,
    };
  }
}
