/** The options of distillation, checked and with their defaults. */
import { aBoolean, aNumber, anything, aString, checkInteger, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { matmulPrecision } from '../ops/matmul-precision.ts';
import { hashOf, type RunIdentity } from '../train/run-identity.ts';

/** Options of distillation: a text or tokens, and these. */
export interface DistillOptions {
  /**
   * The text to learn from, of the kinds that the model is used for. Layers learn from at most 131,072 tokens
   * spread over it, and read each at least four times.
   */
  readonly text?: string;
  /** Token ids in place of a text. */
  readonly tokens?: ArrayLike<number>;
  /** Training steps of each layer, of about 1,024 tokens each; default 400. */
  readonly steps?: number;
  /** Indices of the layers to train one by one; default all. */
  readonly layers?: readonly number[];
  /**
   * Steps after these, of about 1,024 tokens each, in which all layers learn together to predict what the
   * original predicts; default 80. They are not kept: a resumed distillation begins them again.
   */
  readonly finalSteps?: number;
  /** Of the order in which the text is read; default 0. */
  readonly seed?: number;
  /**
   * Whether to continue a distillation that was interrupted; default false. Each trained layer is kept in a
   * folder beside `to`, its name with `.distill`, until `to` is written; with the same options on the same
   * backend and instruction set the result has the bits of one without a break. Options, texts, the model's
   * config and the bytes of its weights are compared, but not where its files are.
   */
  readonly resume?: boolean;
}

const OPTIONS = optionKinds<DistillOptions>({
  text: aString,
  tokens: anything,
  steps: aNumber,
  layers: anything,
  finalSteps: aNumber,
  seed: aNumber,
  resume: aBoolean,
});

export interface DistillSettings {
  /** A text, or token ids. */
  readonly source: string | ArrayLike<number>;
  readonly steps: number;
  readonly layers: ReadonlySet<number>;
  readonly finalSteps: number;
  readonly seed: number;
  readonly resume: boolean;
}

const OP = 'convertCheckpoint: distill';
const STEPS = 400;
const FINAL_STEPS = 80;

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
  const { text, tokens, steps = STEPS, finalSteps = FINAL_STEPS, seed = 0, resume = false } = options;
  checkInteger(OP, 'steps', steps, 1);
  checkInteger(OP, 'finalSteps', finalSteps, 0);
  checkInteger(OP, 'seed', seed, 0);
  if (after >= before) {
    throw new RangeError(
      `${OP}: expected fewer key/value heads than the checkpoint's K=${before}, got ${after}`,
    );
  }
  if (method === 'random') {
    throw new RangeError(
      `${OP}: expected method mean, first or similar, which give heads to begin with, got random`,
    );
  }
  const layers = options.layers ?? Array.from({ length: numLayers }, (_, i) => i);
  for (const index of layers) {
    if (Number.isInteger(index) && index >= 0 && index < numLayers) continue;
    throw new RangeError(`${OP}: expected layers from 0 to ${numLayers - 1}, got ${describe(index)}`);
  }
  const numbers = { steps, finalSteps, seed, resume };
  return { source: text ?? (tokens as ArrayLike<number>), layers: new Set(layers), ...numbers };
}

/**
 * What the trained layers depend on: the settings, the model's config and weights, and how its heads were merged
 * before.
 */
export function distillIdentity(
  { source: text, layers, resume: _resume, finalSteps: _final, ...numbers }: DistillSettings,
  config: DecoderConfig,
  merging: {
    /** Of the checkpoint: `weightsHash`. */
    readonly weights: number;
    readonly method: string;
    /** K' */
    readonly after: number;
    readonly calibration: string | undefined;
  },
): RunIdentity {
  const hash = (from: string | ArrayLike<number>) =>
    hashOf(typeof from === 'string' ? new TextEncoder().encode(from) : from);
  const { weights, method, after, calibration } = merging;
  return {
    ...{ numKeyValueHeads: after, method, configHash: hash(JSON.stringify(config)), weightsHash: weights },
    calibrationHash: calibration === undefined ? null : hash(calibration),
    textHash: hash(text),
    layers: [...layers].sort((a, b) => a - b).join(' '),
    ...numbers,
    matmulPrecision: matmulPrecision(),
  };
}
