/** `mhaGqa` and `mhaMqa`: from a seed, an input and head counts to the flat output. */
import { Rngs } from '../nn/rngs.ts';
import { type TensorLike, tensor } from '../ops/creation.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { LinenGqa, NnxMqa } from './gqa-module.ts';

/**
 * Grouped-query self-attention as a Flax Linen module (`DenseGeneral` layers q, k, v, out, with biases),
 * initialised by `PRNGKey(seed)` on `x` and applied to it; no mask.
 * @param seed an integer.
 * @param x `[T, Din]`, nested arrays or a tensor.
 * @param numHeads query heads N.
 * @param numKvHeads key/value heads K, a divisor of N.
 * @param qkvFeatures N times the head dim.
 * @throws RangeError unless counts are positive integers, K divides N, N divides `qkvFeatures`, and x has
 *   rank 2.
 * @returns `T * Din` numbers: the output `[T, Din]`, flat.
 * @example
 * mhaGqa(0, [[1, 0, 0, 0], [0, 1, 0, 0]], 4, 2, 8); // Float32Array of 8
 */
export function mhaGqa(
  seed: number,
  x: Tensor | TensorLike,
  numHeads: number,
  numKvHeads: number,
  qkvFeatures: number,
): Float32Array {
  return run('mhaGqa', seed, x, (inFeatures) => {
    return new LinenGqa({ seed, inFeatures, numHeads, numKvHeads, qkvFeatures });
  });
}

/**
 * Multi-query self-attention as a Flax NNX module (`Linear` layers q_proj, k_proj, v_proj, out_proj)
 * initialised by `Rngs(seed)`; no mask.
 * @param seed an integer.
 * @param x `[T, dModel]`, nested arrays or a tensor.
 * @param numHeads query heads N; the one key/value head has `dModel / numHeads` dims.
 * @throws RangeError unless counts are positive integers, N divides `dModel`, and x is `[T, dModel]`.
 * @returns `T * dModel` numbers: the output, flat.
 */
export function mhaMqa(seed: number, x: Tensor | TensorLike, numHeads: number, dModel: number): Float32Array {
  return run('mhaMqa', seed, x, (inFeatures) => {
    const module = new NnxMqa({ dModel, numHeads, rngs: new Rngs(seed) });
    if (inFeatures !== dModel) {
      module.dispose();
      throw new RangeError(`mhaMqa: expected x [T, ${dModel}], got a last axis of ${inFeatures}`);
    }
    return module;
  });
}

function run(
  op: string,
  seed: number,
  x: Tensor | TensorLike,
  make: (inFeatures: number) => LinenGqa | NnxMqa,
): Float32Array {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`${op}: expected an integer seed, got ${seed}`);
  return scope(() => {
    const input = x instanceof Tensor ? x : tensor(x);
    if (input.shape.length !== 2)
      throw new RangeError(`${op}: expected x [T, Din], got ${shapeText(input.shape)}`);
    const module = make(input.shape[1]);
    try {
      return Float32Array.from(module.forward(input).dataSync());
    } finally {
      module.dispose();
    }
  });
}
