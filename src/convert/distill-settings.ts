/** The options of distillation, checked and with their defaults. */
import { aNumber, anything, aString, checkInteger, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';

/** Options of distillation: a text or tokens, and these. */
export interface DistillOptions {
  /** The text to learn from, of the kinds that the model is used for; 32,768 tokens spread over it are used. */
  readonly text?: string;
  /** Token ids in place of a text. */
  readonly tokens?: ArrayLike<number>;
  /** Training steps of each layer, of about 1,024 tokens each; default 100. */
  readonly steps?: number;
  /** Indices of the layers to train; default all. */
  readonly layers?: readonly number[];
  /** Of the order in which the text is read; default 0. */
  readonly seed?: number;
}

const OPTIONS = optionKinds<DistillOptions>({
  text: aString,
  tokens: anything,
  steps: aNumber,
  layers: anything,
  seed: aNumber,
});

export interface DistillSettings {
  /** A text, or token ids. */
  readonly source: string | ArrayLike<number>;
  readonly steps: number;
  readonly layers: ReadonlySet<number>;
  readonly seed: number;
}

const OP = 'convertCheckpoint: distill';
const STEPS = 100;

/** @throws TypeError for another kind of value, or unless there is either a text or tokens */
export function checkDistill(options: DistillOptions | undefined): void {
  if (options === undefined) return;
  checkOptions(OP, options, OPTIONS);
  const { text, tokens, layers } = options;
  if ((text === undefined) === (tokens === undefined)) {
    throw new TypeError(`${OP}: expected either text or tokens, got ${text === undefined ? 'none' : 'both'}`);
  }
  if (tokens !== undefined && !Array.isArray(tokens) && !ArrayBuffer.isView(tokens)) {
    throw new TypeError(`${OP}: expected tokens as an array of ids, got ${describe(tokens)}`);
  }
  if (layers !== undefined && !Array.isArray(layers)) {
    throw new TypeError(`${OP}: expected layers as an array, got ${describe(layers)}`);
  }
}

/**
 * The options with their defaults, for a model.
 * @param after K'
 * @throws RangeError for numbers out of range, and where there is nothing to train
 */
export function distillSettings(
  options: DistillOptions | undefined,
  method: string,
  { numLayers, numKeyValueHeads: before }: DecoderConfig,
  after: number,
): DistillSettings | undefined {
  if (options === undefined) return undefined;
  const { text, tokens, steps = STEPS, seed = 0 } = options;
  checkInteger(OP, 'steps', steps, 1);
  checkInteger(OP, 'seed', seed, 0);
  if (after >= before) {
    throw new RangeError(
      `${OP}: expected fewer key/value heads than the checkpoint's K=${before}, got ${after}`,
    );
  }
  if (method === 'random') {
    throw new RangeError(`${OP}: expected heads to begin with, by method mean, first or similar, got random`);
  }
  const layers = options.layers ?? Array.from({ length: numLayers }, (_, i) => i);
  for (const index of layers) {
    if (Number.isInteger(index) && index >= 0 && index < numLayers) continue;
    throw new RangeError(`${OP}: expected layers from 0 to ${numLayers - 1}, got ${describe(index)}`);
  }
  return { source: text ?? (tokens as ArrayLike<number>), steps, layers: new Set(layers), seed };
}
