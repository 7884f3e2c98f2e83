/** where, argmax, topK, slice with strides, sin, cos and the promotion of dtypes against JAX, on every backend. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as gqa from '../../src/index.ts';
import { encode } from '../../src/tensor/encode.ts';
import { storedTensor } from '../cases/inputs.ts';
import { backends } from './backends.ts';
import { difference } from './run-cases.ts';

interface JaxArray {
  readonly dtype: string;
  readonly shape: number[];
  readonly values: (number | string)[];
}
interface JaxCase {
  readonly name: string;
  readonly inputs: JaxArray[];
  readonly outputs: JaxArray[];
  readonly gradients: Readonly<Record<string, JaxArray>>;
}

const { cases } = JSON.parse(
  readFileSync(new URL('../golden/ops/jax-ops.json', import.meta.url), 'utf8'),
) as { cases: JaxCase[] };
const DTYPES: Readonly<Record<string, gqa.DType>> = {
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
  int32: 'i32',
  bool: 'bool',
};
const numbers = ({ values }: JaxArray) =>
  values.map((value) => (typeof value === 'number' ? value : Number(value.replace('inf', 'Infinity'))));

type Run = (inputs: gqa.Tensor[], name: string) => gqa.Tensor | readonly gqa.Tensor[];
const axisOf = (name: string) => (name.endsWith('None') ? undefined : Number(name.split(' ').at(-1)));
const RUN: Readonly<Record<string, Run>> = {
  where: ([c, x, y]) => gqa.where(c, x, y ?? -1.5),
  topK: ([x], name) => gqa.topK(x, Number(name.at(-1))),
  argmax: ([x], name) => gqa.argmax(x, { axis: axisOf(name), keepDims: name.includes('keepdims') }),
  slice: ([x], name) =>
    name === 'slice'
      ? gqa.slice(x, [0, 1, 0], [4, 7, 5], [3, 2, 4])
      : gqa.slice(x, [1, 2, 0], [3, 3, 5], [7, 9, 1]),
  sin: ([x]) => gqa.sin(x),
  cos: ([x]) => gqa.cos(x),
  exp: ([x]) => gqa.exp(x),
  mul: ([x]) => gqa.mul(x, 1.1),
  add: ([x, y]) => gqa.add(x, y),
};
/** One rounding of the dtype; f32 functions differ by an ulp or two. */
const tolerance = (dtype: string) => ({ bfloat16: 2 ** -8, float16: 2 ** -11 })[dtype] ?? 2e-6;

for (const backend of backends) {
  describe(`JAX's ops on ${backend.name}`, () => {
    for (const { name, inputs, outputs, gradients } of cases) {
      test(name, () => {
        gqa.scope(() => {
          const tensors = inputs.map((input) => {
            const dtype = DTYPES[input.dtype];
            const values = numbers(input);
            const bytes = encode(dtype, values);
            return storedTensor(backend, { name, dtype, shape: input.shape, bytes, values });
          });
          const run = RUN[name.split(' ')[0]];
          const result = run(tensors, name);
          for (const [i, out] of [result].flat().entries()) {
            const want = outputs[i];
            expect([out.dtype, out.shape]).toEqual([DTYPES[want.dtype], want.shape]);
            expect(difference(out.dataSync(), numbers(want), tolerance(want.dtype))).toBeUndefined();
          }
          const leaves = Object.keys(gradients).map(Number);
          if (leaves.length === 0) return;
          const loss = (...values: gqa.Tensor[]) => {
            const all = tensors.map((x, i) => (leaves.includes(i) ? values[leaves.indexOf(i)] : x));
            const [out] = [run(all, name)].flat();
            const wide = gqa.cast(out, 'f32');
            return gqa.sum(gqa.mul(wide, wide));
          };
          const argnums = leaves.map((_, i) => i);
          const got = gqa.grad(loss, argnums)(...leaves.map((i) => tensors[i])) as gqa.Tensor[];
          leaves.forEach((leaf, i) => {
            const want = gradients[leaf];
            expect(got[i].shape).toEqual(want.shape);
            // JAX rounds gradients to the dtype of the argument; here they are f32.
            const dtype = outputs[0].dtype === 'float32' ? want.dtype : outputs[0].dtype;
            expect(difference(got[i].dataSync(), numbers(want), 4 * tolerance(dtype))).toBeUndefined();
          });
        });
      });
    }
  });
}
