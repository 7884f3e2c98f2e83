/** Projections with Flax's kernels: `[In, Out]` for `Linear`, `[...in, ...out]` for `LinearGeneral`. */

import {
  aBoolean,
  aFunction,
  anything,
  checkPositiveInteger,
  describe,
  numbers,
} from '../arguments/kinds.ts';
import { checkOptions, type OptionKinds, optionKinds } from '../arguments/options.ts';
import { reshape } from '../ops/reshape.ts';
import { transpose } from '../ops/transpose.ts';
import { aDType, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { normalizeAxis, shapeText, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { tupleText, withFlax } from './arguments.ts';
import { type Initializer, lecunNormal, zeros } from './initializers.ts';
import { Module } from './module.ts';
import { dense, resultDType } from './promote.ts';
import type { ParamKeys } from './rngs.ts';
import { Param } from './variable.ts';

/** Options of both projections. */
interface ProjectionOptions {
  /** Default true. */
  readonly useBias?: boolean;
  /** Dtype of the computation and the output; default: promoted from input and parameters. */
  readonly dtype?: DType;
  /** Default f32. */
  readonly paramDtype?: DType;
  /** Default lecunNormal. */
  readonly kernelInit?: Initializer;
  /** Default zeros. */
  readonly biasInit?: Initializer;
  /** `Rngs`, or another source of keys. */
  readonly rngs: ParamKeys;
}

/** Options of `Linear`. */
export interface LinearOptions extends ProjectionOptions {
  /** Length of the last axis of the input. */
  readonly inFeatures: number;
  /** Length of the last axis of the output. */
  readonly outFeatures: number;
}

const PROJECTION: OptionKinds<ProjectionOptions> = {
  useBias: aBoolean,
  dtype: aDType,
  paramDtype: aDType,
  kernelInit: aFunction,
  biasInit: aFunction,
  rngs: anything,
};
const LINEAR_OPTIONS = optionKinds<LinearOptions>({
  ...PROJECTION,
  inFeatures: anything,
  outFeatures: anything,
});

/** `x @ kernel + bias`. */
export class Linear extends Module {
  /** `[In, Out]` */
  readonly kernel: Param;
  /** `[Out]`, unless `useBias` is false. */
  readonly bias: Param | undefined;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly dtype: DType | undefined;

  /** @throws RangeError unless both feature counts are positive integers. */
  constructor(options: LinearOptions) {
    super();
    checkOptions('Linear', options, LINEAR_OPTIONS);
    const { inFeatures, outFeatures, useBias = true, paramDtype = 'f32', rngs } = options;
    this.inFeatures = checkPositiveInteger('Linear', 'inFeatures', inFeatures);
    this.outFeatures = checkPositiveInteger('Linear', 'outFeatures', outFeatures);
    this.dtype = options.dtype;
    const { kernelInit = lecunNormal(), biasInit = zeros } = options;
    this.kernel = makeParam(kernelInit, rngs, [inFeatures, outFeatures], paramDtype);
    this.bias = useBias ? makeParam(biasInit, rngs, [outFeatures], paramDtype) : undefined;
  }

  /**
   * @param x `[…, In]`.
   * @throws RangeError for another last axis.
   * @returns `[…, Out]`.
   */
  forward(x: Tensor): Tensor {
    if (x.shape.at(-1) !== this.inFeatures) {
      throw new RangeError(`Linear: expected an input […, ${this.inFeatures}], got ${shapeText(x.shape)}`);
    }
    return scope(() => {
      const dtype = resultDType('Linear', this.dtype, x, this.kernel.value, this.bias?.value);
      return dense(x, this.kernel.value, this.bias?.value, dtype);
    });
  }
}

/** Options of `LinearGeneral`. */
export interface LinearGeneralOptions extends ProjectionOptions {
  /** Lengths of the axes that are projected. */
  readonly inFeatures: number | readonly number[];
  /** Lengths of the new last axes. */
  readonly outFeatures: number | readonly number[];
  /** Input axes to project, one per entry of `inFeatures`, in ascending order. Default -1. */
  readonly axis?: number | readonly number[];
}

const GENERAL_OPTIONS = optionKinds<LinearGeneralOptions>({
  ...PROJECTION,
  inFeatures: anything,
  outFeatures: anything,
  axis: numbers,
});

/** A projection of one or more axes onto one or more new last axes. */
export class LinearGeneral extends Module {
  /** `[...inFeatures, ...outFeatures]` */
  readonly kernel: Param;
  /** `[...outFeatures]`, unless `useBias` is false. */
  readonly bias: Param | undefined;
  readonly inFeatures: readonly number[];
  readonly outFeatures: readonly number[];
  readonly axis: readonly number[];
  readonly dtype: DType | undefined;

  /** @throws RangeError unless feature counts are positive integers, one per axis. */
  constructor(options: LinearGeneralOptions) {
    super();
    checkOptions('LinearGeneral', options, GENERAL_OPTIONS);
    const { useBias = true, paramDtype = 'f32', kernelInit = lecunNormal(), biasInit = zeros } = options;
    this.inFeatures = [options.inFeatures].flat() as number[];
    this.outFeatures = [options.outFeatures].flat() as number[];
    this.axis = [options.axis ?? -1].flat() as number[];
    this.dtype = options.dtype;
    for (const count of this.inFeatures) checkPositiveInteger('LinearGeneral', 'inFeatures', count);
    for (const count of this.outFeatures) checkPositiveInteger('LinearGeneral', 'outFeatures', count);
    if (this.inFeatures.length !== this.axis.length) {
      throw new RangeError(
        withFlax(
          `LinearGeneral: expected as many inFeatures as axes, got ${this.inFeatures.length} and ${this.axis.length}`,
          `in_features and axis must have the same length. Got ${tupleText(this.inFeatures)} and ${tupleText(this.axis)}.`,
        ),
      );
    }
    // The initializer gets the kernel as a matrix, so that fans count all input and all output features.
    const flat = [sizeOf(this.inFeatures), sizeOf(this.outFeatures)];
    const shape = [...this.inFeatures, ...this.outFeatures];
    this.kernel = makeParam(kernelInit, options.rngs, flat, paramDtype, shape);
    this.bias = useBias
      ? makeParam(biasInit, options.rngs, [flat[1]], paramDtype, this.outFeatures)
      : undefined;
  }

  /**
   * @param x any rank; its `axis` axes have `inFeatures`.
   * @throws RangeError when they do not.
   * @returns the other axes of `x`, then `outFeatures`.
   */
  forward(x: Tensor): Tensor {
    const rank = x.shape.length;
    const axes = this.axis.map((axis) => normalizeAxis('LinearGeneral', axis, rank)).sort((a, b) => a - b);
    if (axes.some((axis, i) => x.shape[axis] !== this.inFeatures[i])) {
      throw new RangeError(
        `LinearGeneral: expected an input with ${tupleText(this.inFeatures)} at axes ${tupleText(axes)}, got ${shapeText(x.shape)}`,
      );
    }
    const rest = x.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    const lead = rest.map((axis) => x.shape[axis]);
    return scope(() => {
      const { value: kernel } = this.kernel;
      const bias = this.bias?.value;
      const [inSize, outSize] = [sizeOf(this.inFeatures), sizeOf(this.outFeatures)];
      // [..., in axes] -> [..., In] @ [In, Out] -> [..., out axes]
      const matrix = reshape(transpose(x, [...rest, ...axes]), [...lead, inSize]);
      const dtype = resultDType('LinearGeneral', this.dtype, x, kernel, bias);
      const y = dense(matrix, reshape(kernel, [inSize, outSize]), bias && reshape(bias, [outSize]), dtype);
      return reshape(y, [...lead, ...this.outFeatures]);
    });
  }
}

/** Initialises a parameter with shape `drawn` and stores it as `shape`. */
export function makeParam(
  init: Initializer,
  rngs: ParamKeys,
  drawn: readonly number[],
  dtype: DType,
  shape: readonly number[] = drawn,
): Param {
  if (typeof rngs?.params !== 'function') {
    throw new TypeError(`expected rngs to be an Rngs, such as new Rngs(0), got ${describe(rngs)}`);
  }
  const key = rngs.params();
  const made = init(key, drawn, dtype);
  key.dispose();
  if (shape === drawn) return new Param(made);
  const shaped = reshape(made, shape);
  made.dispose();
  return new Param(shaped);
}
