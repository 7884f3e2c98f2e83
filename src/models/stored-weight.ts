/**
 * Weights and the checkpoint tensors that hold them: loading from the place that `WeightPlace` gives, and
 * storing a trained model's weights there.
 */

import type { Backend } from '../backend/backend.ts';
import { copyStrided } from '../backend/calls/copy.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { loadTensor } from '../checkpoint/load-tensor.ts';
import { tensorChunks } from '../checkpoint/tensor-bytes.ts';
import type { Param } from '../nn/variable.ts';
import { cast } from '../ops/cast.ts';
import { allocate } from '../ops/operands.ts';
import { type DType, isBlockDType } from '../tensor/dtype.ts';
import { sameShape, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { WeightPlace } from './weight-place.ts';

/** A weight and its place in a checkpoint to be written. */
export interface PlacedWeight {
  readonly place: WeightPlace;
  /** As the model holds it. */
  readonly tensor: Tensor;
  /** Makes the weight as the checkpoint has it, where that is not `tensor`; the caller frees it. */
  readonly made?: () => Tensor;
}

/** A parameter and its place in the checkpoint. */
export interface StoredParam {
  readonly parameter: Param;
  readonly place: WeightPlace;
}

/**
 * How to walk over the weight `[Out, In]` and over its part of the stored tensor: blocks of outputs, outputs,
 * inputs.
 */
function walkOf({ shape, stored, first, transposed, blocks, item }: WeightPlace) {
  const [outs, ins = 1] = shape;
  const { size, stride } = blocks ?? { size: outs, stride: 0 };
  const [byOut, byIn] = transposed ? [1, stored[stored.length - 1]] : [ins, 1];
  return {
    counts: [outs / size, size, ins],
    weight: [size * ins, ins, 1],
    stored: [stride * byOut, byOut, byIn],
    start: (item ?? 0) * sizeOf(stored.slice(1)) + first * byOut,
  };
}

/** The weight as stored, or converted to f32 or `dtype` if possible. Contiguous weights are not copied. */
export function loadWeight(
  checkpoint: Checkpoint,
  place: WeightPlace,
  { backend, dtype }: { readonly backend: Backend; readonly dtype?: DType },
): Tensor {
  const { name, shape, stored, first, transposed, blocks, item, wide } = place;
  const own = checkpoint.tensor(name).dtype;
  const isFloat = ['f64', 'f32', 'f16', 'bf16'].includes(own);
  // No kernel takes f64 weights.
  const asked = own === 'f64' ? (dtype ?? 'f32') : dtype;
  const wanted = shape.length === 1 ? 'f32' : isFloat ? asked : undefined;
  if (!transposed && !blocks) {
    const whole = sameShape(shape, item === undefined ? stored : stored.slice(1));
    const rows = whole ? undefined : ([first, first + shape[0]] as const);
    return loadTensor(checkpoint, name, { backend, dtype: wanted, item, rows });
  }
  const narrow = own === 'f64' ? wanted : undefined;
  const matrix = loadTensor(checkpoint, name, { backend, dtype: wide ? 'f32' : narrow });
  const out = allocate(backend, matrix.dtype, shape);
  const { start, stored: xStrides, weight: outStrides, counts } = walkOf(place);
  backend.run(copyStrided, { out, outStrides, x: matrix, xOffset: start, xStrides, shape: counts });
  matrix.dispose();
  if (wide || wanted === undefined || wanted === out.dtype) return out;
  const converted = cast(out, wanted);
  out.dispose();
  return converted;
}

/**
 * One stored tensor's bytes, from the weights that are parts of it. They are joined in their own type where
 * that is one float type, else in f32.
 */
export function* storedBytes(
  backend: Backend,
  parts: readonly PlacedWeight[],
  dtype: 'f32' | 'f16' | 'bf16',
): Generator<Uint8Array> {
  const made: Tensor[] = [];
  const keep = (tensor: Tensor): Tensor => {
    made.push(tensor);
    return tensor;
  };
  try {
    const tensors = parts.map(({ tensor, made: make }) => (make ? keep(make()) : tensor));
    const whole = joined(backend, parts, tensors, keep);
    yield* tensorChunks(whole.dtype === dtype ? whole : keep(cast(whole, dtype)));
  } finally {
    for (const tensor of made) tensor.dispose();
  }
}

function joined(
  backend: Backend,
  parts: readonly PlacedWeight[],
  tensors: readonly Tensor[],
  keep: (tensor: Tensor) => Tensor,
): Tensor {
  const { shape, stored, transposed } = parts[0].place;
  if (sameShape(shape, stored) && !transposed) return tensors[0];
  const [{ dtype: first }] = tensors;
  const own = tensors.every(({ dtype }) => dtype === first) && !isBlockDType(first) ? first : 'f32';
  const whole = keep(allocate(backend, own, stored));
  parts.forEach(({ place }, i) => {
    const { start, stored: outStrides, weight: xStrides, counts } = walkOf(place);
    const x = tensors[i].dtype === own ? tensors[i] : keep(cast(tensors[i], own));
    backend.run(copyStrided, { out: whole, outOffset: start, outStrides, x, xStrides, shape: counts });
  });
  return whole;
}
