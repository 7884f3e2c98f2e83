/** Dropout with Flax's masks. */

import { aBoolean, aNumber, anything, aString, listOfNumbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { cast } from '../ops/cast.ts';
import { zeros } from '../ops/creation.ts';
import { dropout } from '../ops/dropout.ts';
import { reshape } from '../ops/reshape.ts';
import { keyWords } from '../random/key.ts';
import { scope } from '../tensor/scope.ts';
import { normalizeAxis } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { withFlax } from './arguments.ts';
import { Module, type View } from './module.ts';
import { resultDType, rounded } from './promote.ts';
import { type RngStream, Rngs } from './rngs.ts';

/** Options of `Dropout`. */
export interface DropoutOptions {
  /** Probability of dropping an element, 0 … 1. */
  readonly rate: number;
  /** Axes along which the mask is shared. */
  readonly broadcastDims?: readonly number[];
  /** True: the input passes through. Default false. */
  readonly deterministic?: boolean;
  /** Default `'dropout'`. */
  readonly rngCollection?: string;
  /** Keys for the masks; can be passed to the call instead. */
  readonly rngs?: Rngs | RngStream;
}

/** Options of one call of `Dropout`. */
export interface DropoutCall {
  /** No dropout; default the module's own. */
  readonly deterministic?: boolean;
  /** Used instead of the constructor's. */
  readonly rngs?: Rngs | RngStream | Tensor;
}

const OPTIONS = optionKinds<DropoutOptions>({
  rate: aNumber,
  broadcastDims: listOfNumbers,
  deterministic: aBoolean,
  rngCollection: aString,
  rngs: anything,
});
const CALL = optionKinds<DropoutCall>({ deterministic: aBoolean, rngs: anything });

/**
 * Sets elements to 0 with probability `rate` and divides the others by `1 - rate`. Masks equal Flax's for the
 * same key. Source: flax/nnx/nn/stochastic.py (Dropout).
 */
export class Dropout extends Module {
  readonly rate: number;
  readonly broadcastDims: readonly number[];
  readonly rngCollection: string;
  deterministic: boolean | undefined;
  readonly rngs: RngStream | undefined;

  /** @throws RangeError unless `0 <= rate <= 1`. */
  constructor(options: DropoutOptions) {
    super();
    checkOptions('Dropout', options, OPTIONS);
    const { rate, rngs } = options;
    if (!(rate >= 0 && rate <= 1)) throw new RangeError(`Dropout: expected 0 <= rate <= 1, got ${rate}`);
    this.rate = rate;
    this.broadcastDims = options.broadcastDims ?? [];
    this.deterministic = 'deterministic' in options ? options.deterministic : false;
    this.rngCollection = options.rngCollection ?? 'dropout';
    this.rngs = (rngs instanceof Rngs ? rngs.stream(this.rngCollection) : rngs)?.fork();
  }

  /**
   * Kept elements are divided by `1 - rate`, the others are 0.
   * @throws TypeError when `deterministic` is set neither here nor in the module, or there is no key.
   */
  forward(x: Tensor, call: DropoutCall = {}): Tensor {
    checkOptions('Dropout', call, CALL);
    const deterministic = call.deterministic ?? this.deterministic;
    if (deterministic === undefined) throw new TypeError(NO_DETERMINISTIC);
    if (deterministic || this.rate === 0) return reshape(x, x.shape);
    if (this.rate === 1) return zeros(x.shape, { dtype: x.dtype });
    const rngs = call.rngs ?? this.rngs;
    if (rngs === undefined) throw new TypeError(NO_RNGS);
    return scope(() => {
      const key =
        rngs instanceof Tensor ? rngs : rngs instanceof Rngs ? rngs.stream(this.rngCollection)() : rngs();
      const shape = [...x.shape];
      for (const dim of this.broadcastDims) shape[normalizeAxis('Dropout', dim, shape.length)] = 1;
      const dtype = resultDType('Dropout', undefined, x);
      return cast(dropout(rounded(x, dtype), this.rate, keyWords('Dropout', key), shape), dtype);
    });
  }

  protected override applyView(view: View): void {
    if (view.deterministic !== undefined) this.deterministic = view.deterministic;
  }
}

const NO_DETERMINISTIC = `No \`deterministic\` argument was provided to Dropout. Consider one of the following options:

1. Pass \`deterministic\` to the Dropout constructor
2. Pass \`deterministic\` to forward
3. Use \`setView({ deterministic })\` on the model`;

const NO_RNGS = withFlax(
  'Dropout: expected rngs in the constructor or the call unless deterministic is true, got none',
  '`deterministic` is False, but no `rngs` argument was provided to Dropout as either a __call__ argument or class attribute.',
);
