/**
 * The initializers of flax.nnx.initializers: functions of a key, a shape and a dtype. Values are drawn in f32
 * and equal JAX's bit for bit (`orthogonal` and `deltaOrthogonal` to 5e-6). Other dtypes are rounded from
 * f32; JAX draws in the dtype itself.
 *
 * Source: jax/_src/nn/initializers.py.
 */

import { numbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { cast } from '../ops/cast.ts';
import { full } from '../ops/creation.ts';
import { factorNormal, scaledTruncatedNormal, scaledUniform } from '../random/samplers.ts';
import type { DType } from '../tensor/dtype.ts';
import { type Shape, shapeText, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { withFlax } from './arguments.ts';
import { orthogonalMatrix, placeInCentre } from './orthogonal.ts';

/** Creates the initial value of a parameter. `dtype` defaults to f32. */
export type Initializer = (key: Tensor, shape: Shape, dtype?: DType) => Tensor;

const f = Math.fround;

/** All zeros; ignores the key. */
export const zeros: Initializer = (_key, shape, dtype = 'f32') => full(shape, 0, { dtype });

/** All ones; ignores the key. */
export const ones: Initializer = (_key, shape, dtype = 'f32') => full(shape, 1, { dtype });

/** `zeros`. */
export function zerosInit(): Initializer {
  return zeros;
}

/** `ones`. */
export function onesInit(): Initializer {
  return ones;
}

/** Every element `value`. */
export function constant(value: number): Initializer {
  return (_key, shape, dtype = 'f32') => full(shape, value, { dtype });
}

/** Uniform over `[0, scale)`. @param scale default 0.01. */
export function uniform(scale = 1e-2): Initializer {
  return drawn((key, shape) => scaledUniform('uniform', key, shape, 0, 1, f(scale)));
}

/** Normal of mean 0. @param stddev default 0.01. */
export function normal(stddev = 1e-2): Initializer {
  return drawn((key, shape) => factorNormal('normal', key, shape, f(f(Math.SQRT2) * f(stddev))));
}

/**
 * Normal of mean 0, truncated to `lower … upper` standard deviations; `stddev` is that of the untruncated
 * normal.
 * @param stddev default 0.01. @param lower default -2. @param upper default 2.
 */
export function truncatedNormal(stddev = 1e-2, lower = -2, upper = 2): Initializer {
  return drawn((key, shape) => scaledTruncatedNormal('truncatedNormal', key, lower, upper, shape, f(stddev)));
}

/** The divisor of the variance: number of inputs, of outputs, or their arithmetic or geometric mean. */
export type FanMode = 'fan_in' | 'fan_out' | 'fan_avg' | 'fan_geo_avg';
/** The distribution of the values. */
export type FanDistribution = 'truncated_normal' | 'normal' | 'uniform';

/** Which axes of the shape are inputs, outputs and batch; the others are a receptive field. */
export interface FanAxes {
  /** Default -2. */
  readonly inAxis?: number | readonly number[];
  /** Default -1. */
  readonly outAxis?: number | readonly number[];
  /** Default none. */
  readonly batchAxis?: number | readonly number[];
}

const AXES = optionKinds<FanAxes>({ inAxis: numbers, outAxis: numbers, batchAxis: numbers });

/**
 * Mean 0 and variance `scale / n`, n being the inputs (`fan_in`), the outputs (`fan_out`) or their arithmetic
 * or geometric mean.
 * @param distribution `truncated_normal` is truncated at 2 standard deviations and scaled to the wanted
 *   variance.
 * @throws RangeError for another mode or distribution, and for a shape of fewer than two axes without
 *   `inAxis`.
 */
export function varianceScaling(
  scale: number,
  mode: FanMode,
  distribution: FanDistribution,
  axes: FanAxes = {},
): Initializer {
  checkOptions('varianceScaling', axes, AXES);
  return drawn((key, shape) => {
    const n = denominator(mode, shape, axes);
    const variance = f(n === 0 ? 0 : scale / n);
    const stddev = f(Math.sqrt(variance));
    if (distribution === 'truncated_normal') {
      const corrected = f(stddev / f(0.8796256610342398));
      return scaledTruncatedNormal('varianceScaling', key, -2, 2, shape, corrected);
    }
    if (distribution === 'normal')
      return factorNormal('varianceScaling', key, shape, f(f(Math.SQRT2) * stddev));
    if (distribution === 'uniform') {
      return scaledUniform('varianceScaling', key, shape, -1, 1, f(Math.sqrt(f(3 * variance))));
    }
    throw new RangeError(`invalid distribution for variance scaling initializer: ${distribution}`);
  });
}

/** `varianceScaling(1, 'fan_avg', 'uniform')`. */
export function glorotUniform(axes?: FanAxes): Initializer {
  return varianceScaling(1, 'fan_avg', 'uniform', axes);
}

/** `varianceScaling(1, 'fan_avg', 'truncated_normal')`. */
export function glorotNormal(axes?: FanAxes): Initializer {
  return varianceScaling(1, 'fan_avg', 'truncated_normal', axes);
}

/** `varianceScaling(1, 'fan_in', 'uniform')`. */
export function lecunUniform(axes?: FanAxes): Initializer {
  return varianceScaling(1, 'fan_in', 'uniform', axes);
}

/** `varianceScaling(1, 'fan_in', 'truncated_normal')`: the default of kernels. */
export function lecunNormal(axes?: FanAxes): Initializer {
  return varianceScaling(1, 'fan_in', 'truncated_normal', axes);
}

/** `varianceScaling(2, 'fan_in', 'uniform')`. */
export function heUniform(axes?: FanAxes): Initializer {
  return varianceScaling(2, 'fan_in', 'uniform', axes);
}

/** `varianceScaling(2, 'fan_in', 'truncated_normal')`. */
export function heNormal(axes?: FanAxes): Initializer {
  return varianceScaling(2, 'fan_in', 'truncated_normal', axes);
}

export {
  glorotNormal as xavierNormal,
  glorotUniform as xavierUniform,
  heNormal as kaimingNormal,
  heUniform as kaimingUniform,
};

/**
 * `scale` times a random matrix with orthonormal columns (rows, when there are fewer of them).
 * @param scale default 1.
 * @param columnAxis the axis that holds the columns, the others together the rows; default -1.
 * @throws RangeError for fewer than two axes.
 */
export function orthogonal(scale = 1, columnAxis = -1): Initializer {
  return drawn((key, shape) => orthogonalMatrix(key, shape, f(scale), columnAxis));
}

/**
 * Zeros with an orthogonal matrix at the centre of the leading axes: a convolution that keeps norms.
 * @throws RangeError unless the shape has 3 to 5 axes and the last is no shorter than the one before.
 */
export function deltaOrthogonal(scale = 1, columnAxis = -1): Initializer {
  return drawn((key, shape) => {
    if (shape.length < 3 || shape.length > 5) {
      throw new RangeError('Delta orthogonal initializer requires a 3D, 4D or 5D shape.');
    }
    if ((shape.at(-1) as number) < (shape.at(-2) as number)) {
      throw new RangeError(
        withFlax(
          `deltaOrthogonal: expected a last axis no shorter than the one before it, got ${shapeText(shape)}`,
          '`fan_in` must be less or equal than `fan_out`. ',
        ),
      );
    }
    const matrix = orthogonalMatrix(key, shape.slice(-2), f(scale), columnAxis);
    return placeInCentre(matrix, shape);
  });
}

/** An initializer that draws in f32 and rounds to `dtype`. */
function drawn(draw: (key: Tensor, shape: Shape) => Tensor): Initializer {
  return (key, shape, dtype = 'f32') => {
    const made = draw(key, shape);
    if (dtype === 'f32') return made;
    const rounded = cast(made, dtype);
    made.dispose();
    return rounded;
  };
}

function denominator(mode: FanMode, shape: Shape, axes: FanAxes): number {
  const { inAxis = -2, outAxis = -1, batchAxis = [] } = axes;
  if (inAxis === -2 && shape.length <= 1) {
    throw new RangeError(
      withFlax(
        `varianceScaling: expected two axes or more, or inAxis, got ${shapeText(shape)}`,
        `Can't compute input and output sizes of a ${shape.length}-dimensional weights tensor with default in_axis. ` +
          'Must be at least 2D or specify in_axis explicitly.',
      ),
    );
  }
  const size = (axis: number | readonly number[]) =>
    [axis].flat().reduce<number>((product, i) => product * (shape.at(i) as number), 1);
  const known = size(inAxis) * size(outAxis) * size(batchAxis);
  const field = known === 0 ? 0 : sizeOf(shape) / known;
  const [fanIn, fanOut] = [size(inAxis) * field, size(outAxis) * field];
  switch (mode) {
    case 'fan_in':
      return fanIn;
    case 'fan_out':
      return fanOut;
    case 'fan_avg':
      return (fanIn + fanOut) / 2;
    case 'fan_geo_avg':
      return Math.sqrt(fanIn * fanOut);
    default:
      throw new RangeError(`invalid mode for variance scaling initializer: ${mode}`);
  }
}
