/**
 * Rotary position embedding (Su et al. 2021) from tables of cosines and sines, which contain positions and
 * scaling.
 */

import { aBoolean } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { isRecorded, record } from '../autograd/tape.ts';
import * as calls from '../backend/calls/rope.ts';
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { broadcastTo } from './broadcast-to.ts';
import {
  allocate,
  checkExactShape,
  checkRank,
  checkTensor,
  commonBackend,
  floatDType,
  freeCopy,
} from './operands.ts';

/** Options of `rope`. */
export interface RopeOptions {
  /** Pairs are (2i, 2i + 1), as GPT-J and GGUF's `llama`; default false: (i, i + half), as Hugging Face. */
  readonly interleaved?: boolean;
}

const OPTIONS = optionKinds<RopeOptions>({ interleaved: aBoolean });

/**
 * Rotates pair i of each head by its angle: `(a, b) -> (a cos - b sin, b cos + a sin)`. Dims past `2 * half`
 * pass through.
 * @param x `[B, T, N, H]` or `[T, N, H]`, f32 (f64 on the reference backend).
 * @param cos `[B, T, half]` or `[T, half]`, f32, `2 * half <= H`.
 * @param sin as `cos`.
 * @throws RangeError when shapes are inconsistent.
 * @returns x's shape and dtype.
 */
export function rope(x: Tensor, cos: Tensor, sin: Tensor, options: RopeOptions = {}): Tensor {
  checkOptions('rope', options, OPTIONS);
  const { interleaved = false } = options;
  checkTensor('rope', 'x', x);
  checkTensor('rope', 'cos', cos);
  checkTensor('rope', 'sin', sin);
  const backend = commonBackend('rope', x, cos, sin);
  const dtype = floatDType('rope', x, cos, sin);
  checkRank('rope', 'x', x, 3, 4);
  checkRank('rope', 'cos', cos, 2, x.shape.length - 1);
  checkExactShape('rope', 'sin', sin, cos.shape);
  const rank = x.shape.length;
  const heads = x.shape[rank - 2];
  const headDim = x.shape[rank - 1];
  const half = cos.shape[cos.shape.length - 1];
  const shared = cos.shape.length < rank - 1;
  const first = shared ? 1 : 0;
  for (let axis = first; axis < rank - 2; axis++) {
    if (cos.shape[axis - first] !== x.shape[axis]) {
      checkExactShape('rope', 'cos', cos, [...x.shape.slice(first, rank - 2), half]);
    }
  }
  if (2 * half > headDim) {
    throw new RangeError(
      `rope: expected 2 * half <= H, got cos ${shapeText(cos.shape)} for x ${shapeText(x.shape)}`,
    );
  }
  let tokens = 1;
  for (let axis = 0; axis < rank - 2; axis++) tokens *= x.shape[axis];
  const repeat = shared && x.shape[0] !== 1;
  const c = repeat ? broadcastTo(cos, [x.shape[0], ...cos.shape]) : cos;
  const s = repeat ? broadcastTo(sin, [x.shape[0], ...cos.shape]) : sin;
  const out = allocate(backend, dtype, x);
  const sizes = { tokens, heads, headDim, half, interleaved };
  backend.run(calls.rope, { out, x, cos: c, sin: s, direction: 1, ...sizes });
  if (isRecorded(x, cos, sin)) {
    const { shape } = x;
    record({
      inputs: [x, cos, sin],
      outputs: [out],
      saved: [c, s],
      vjp: ([g], [cosines, sines], needed) => {
        if (needed[1] || needed[2]) throw new Error('rope: cos and sin are positions and have no gradient');
        const dX = allocate(backend, dtype, shape);
        backend.run(calls.rope, {
          out: dX,
          x: g as Tensor,
          cos: cosines,
          sin: sines,
          direction: -1,
          ...sizes,
        });
        return [dX];
      },
    });
  }
  freeCopy(c, cos);
  freeCopy(s, sin);
  return out;
}
