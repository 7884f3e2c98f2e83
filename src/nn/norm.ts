/**
 * Normalisation over the last axis. Statistics are f32 for every dtype; the variance is E[(x - mean)^2], not
 * Flax's E[x^2] - E[x]^2.
 */

import { aBoolean, aFunction, aNumber, anything, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, type OptionKinds, optionKinds } from '../arguments/options.ts';
import { cast } from '../ops/cast.ts';
import { layerNorm } from '../ops/layer-norm.ts';
import { rmsNorm } from '../ops/rms-norm.ts';
import { aDType, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Initializer, ones, zeros } from './initializers.ts';
import { makeParam } from './linear.ts';
import { Module } from './module.ts';
import { resultDType, rounded } from './promote.ts';
import type { Rngs } from './rngs.ts';
import type { Param } from './variable.ts';

/** Options of `RMSNorm`. */
export interface RMSNormOptions {
  /** Length of the last axis. */
  readonly numFeatures: number;
  /** Added to the variance (the mean square); default 1e-6. */
  readonly epsilon?: number;
  /** Dtype of the output; default: promoted from input and parameters. */
  readonly dtype?: DType;
  /** Default f32. */
  readonly paramDtype?: DType;
  /** Default true. */
  readonly useScale?: boolean;
  /** Default ones. */
  readonly scaleInit?: Initializer;
  /** Keys of the initial parameters. */
  readonly rngs: Rngs;
}

/** Options of `LayerNorm`. */
export interface LayerNormOptions extends RMSNormOptions {
  /** Default true. */
  readonly useBias?: boolean;
  /** Default zeros. */
  readonly biasInit?: Initializer;
}

const NORM: OptionKinds<RMSNormOptions> = {
  numFeatures: anything,
  epsilon: aNumber,
  dtype: aDType,
  paramDtype: aDType,
  useScale: aBoolean,
  scaleInit: aFunction,
  rngs: anything,
};
const RMS_NORM_OPTIONS = optionKinds<RMSNormOptions>(NORM);
const LAYER_NORM_OPTIONS = optionKinds<LayerNormOptions>({ ...NORM, useBias: aBoolean, biasInit: aFunction });

/** `(x - mean) / sqrt(var + epsilon) * scale + bias`. */
export class LayerNorm extends Module {
  /** `[numFeatures]`, unless `useScale` is false. */
  readonly scale: Param | undefined;
  /** `[numFeatures]`, unless `useBias` is false. */
  readonly bias: Param | undefined;
  readonly numFeatures: number;
  readonly epsilon: number;
  readonly dtype: DType | undefined;

  constructor(options: LayerNormOptions) {
    super();
    checkOptions('LayerNorm', options, LAYER_NORM_OPTIONS);
    const { useScale = true, useBias = true, paramDtype = 'f32', rngs } = options;
    this.numFeatures = checkPositiveInteger('LayerNorm', 'numFeatures', options.numFeatures);
    this.epsilon = options.epsilon ?? 1e-6;
    this.dtype = options.dtype;
    const shape = [this.numFeatures];
    this.scale = useScale ? makeParam(options.scaleInit ?? ones, rngs, shape, paramDtype) : undefined;
    this.bias = useBias ? makeParam(options.biasInit ?? zeros, rngs, shape, paramDtype) : undefined;
  }

  /** @param x `[…, numFeatures]`. @throws RangeError for another last axis. @returns x's shape. */
  forward(x: Tensor): Tensor {
    checkFeatures('LayerNorm', x, this.numFeatures);
    return scope(() => {
      const [scale, bias] = [this.scale?.value, this.bias?.value];
      const dtype = resultDType('LayerNorm', this.dtype, x, scale, bias);
      const y = layerNorm(rounded(x, dtype), scale && rounded(scale, dtype), bias && rounded(bias, dtype), {
        eps: this.epsilon,
      });
      return cast(y, dtype);
    });
  }
}

/** `x / sqrt(mean(x^2) + epsilon) * scale`. */
export class RMSNorm extends Module {
  /** `[numFeatures]`, unless `useScale` is false. */
  readonly scale: Param | undefined;
  readonly numFeatures: number;
  readonly epsilon: number;
  readonly dtype: DType | undefined;

  constructor(options: RMSNormOptions) {
    super();
    checkOptions('RMSNorm', options, RMS_NORM_OPTIONS);
    const { useScale = true, paramDtype = 'f32', rngs } = options;
    this.numFeatures = checkPositiveInteger('RMSNorm', 'numFeatures', options.numFeatures);
    this.epsilon = options.epsilon ?? 1e-6;
    this.dtype = options.dtype;
    const shape = [this.numFeatures];
    this.scale = useScale ? makeParam(options.scaleInit ?? ones, rngs, shape, paramDtype) : undefined;
  }

  /** @param x `[…, numFeatures]`. @throws RangeError for another last axis. @returns x's shape. */
  forward(x: Tensor): Tensor {
    checkFeatures('RMSNorm', x, this.numFeatures);
    return scope(() => {
      const scale = this.scale?.value;
      const dtype = resultDType('RMSNorm', this.dtype, x, scale);
      return cast(rmsNorm(rounded(x, dtype), scale && rounded(scale, dtype), { eps: this.epsilon }), dtype);
    });
  }
}

function checkFeatures(op: string, x: Tensor, features: number): void {
  if (x.shape.at(-1) === features) return;
  throw new RangeError(`${op}: expected an input […, ${features}], got ${shapeText(x.shape)}`);
}
