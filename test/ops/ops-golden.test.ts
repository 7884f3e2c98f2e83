/**
 * Ops against PyTorch and transformers, stored weights against the gguf package's blocks, on every backend.
 */
import { describe, expect, test } from 'vitest';
import * as gqa from '../../src/index.ts';
import { gatedActivation } from '../../src/ops/gated.ts';
import { type CaseInput, storedTensor } from '../cases/inputs.ts';
import { backends } from './backends.ts';
import { readGolden } from './golden.ts';
import { difference } from './run-cases.ts';

interface OpGolden {
  readonly name: string;
  readonly op: string;
  readonly options: { eps?: number; axis?: number; approximate?: 'none' | 'tanh'; interleaved?: boolean };
  readonly inputs: readonly string[];
  /** How far PyTorch's f32 is from its f64: backends get that much more room. */
  readonly float32Noise: number;
}

type Inputs = Readonly<Record<string, gqa.Tensor>>;

const CALLS: Partial<Record<string, (inputs: Inputs, options: OpGolden['options']) => gqa.Tensor>> = {
  rmsNorm: ({ x, weight }, { eps }) => gqa.rmsNorm(x, weight, { eps }),
  layerNorm: ({ x, weight, bias }, { eps }) => gqa.layerNorm(x, weight, bias, { eps }),
  softmax: ({ x }, { axis }) => gqa.softmax(x, { axis }),
  logSoftmax: ({ x }, { axis }) => gqa.logSoftmax(x, { axis }),
  gelu: ({ x }, { approximate }) => gqa.gelu(x, { approximate }),
  silu: ({ x }) => gqa.silu(x),
  relu: ({ x }) => gqa.relu(x),
  tanh: ({ x }) => gqa.tanh(x),
  swiglu: ({ gate, up }) => gqa.swiglu(gate, up),
  geglu: ({ gate, up }) => gatedActivation(gate, up, 'geluTanh'),
  rope: ({ x, cos, sin }, { interleaved }) => gqa.rope(x, cos, sin, { interleaved }),
};

/** cos and sin of positions times frequencies, in f64 and rounded once. */
function angles(positions: CaseInput, frequencies: CaseInput, f: (angle: number) => number): CaseInput {
  const half = frequencies.values.length;
  const values = Float32Array.from({ length: positions.values.length * half }, (_, i) =>
    f(positions.values[Math.floor(i / half)] * frequencies.values[i % half]),
  );
  const shape = [...positions.shape, half];
  return { name: f.name, dtype: 'f32', shape, bytes: new Uint8Array(values.buffer), values };
}

const ops = readGolden<OpGolden>('ops/ops');
for (const backend of backends) {
  describe(`ops golden on ${backend.name}`, () => {
    for (const row of ops.cases) {
      const call = CALLS[row.op];
      test.skipIf(!call)(row.name + (call ? '' : `: no op ${row.op} yet`), () => {
        const inputs = row.inputs.map((name) => ops.input(`${row.name}/${name}`) as CaseInput);
        if (row.op === 'rope')
          inputs.push(angles(inputs[1], inputs[2], Math.cos), angles(inputs[1], inputs[2], Math.sin));
        const names = [...row.inputs, 'cos', 'sin'];
        gqa.scope(() => {
          const tensors = Object.fromEntries(
            inputs.map((input, i) => [names[i], storedTensor(backend, input)]),
          );
          const got = (call as NonNullable<typeof call>)(tensors, row.options).dataSync();
          const tolerance = 2e-6 + 2 * row.float32Noise;
          expect(difference(got, ops.values(`${row.name}/output`), tolerance)).toBeUndefined();
        });
      });
    }
  });
}

interface BlockGolden {
  readonly name: string;
  readonly type: string;
  readonly rows: number;
  readonly cols: number;
}

/** The rows of an f32 matrix again and again, up to `rows`. */
function repeatRows(x: CaseInput, rows: number): CaseInput {
  const size = rows * x.shape[1];
  const values = Float32Array.from({ length: size }, (_, i) => x.values[i % x.values.length]);
  return { ...x, shape: [rows, x.shape[1]], bytes: new Uint8Array(values.buffer), values };
}

const blockGoldens = ['quant/blocks', 'quant/more-blocks'].map((name) => readGolden<BlockGolden>(name));
for (const [backend, blocks] of backends.flatMap((one) =>
  blockGoldens.map((golden) => [one, golden] as const),
)) {
  describe(`stored weights golden on ${backend.name}`, () => {
    for (const row of blocks.cases) {
      const dtype = row.type.toLowerCase() as gqa.DType;
      test(row.name, () => {
        const raw = blocks.input(`${row.name}/raw`) as CaseInput;
        const shape = [row.rows, row.cols];
        gqa.scope(() => {
          const weight = storedTensor(backend, { ...raw, dtype, shape });
          const dequantized = blocks.values(`${row.name}/dequantized`);
          expect(difference(gqa.cast(weight, 'f32').dataSync(), dequantized, 1e-7)).toBeUndefined();
          const ids = Int32Array.from({ length: row.rows }, (_, i) => row.rows - 1 - i);
          const idBytes = new Uint8Array(ids.buffer);
          const reversed = {
            name: 'ids',
            dtype: 'i32' as const,
            shape: [row.rows],
            bytes: idBytes,
            values: ids,
          };
          const picked = gqa.embedding(weight, storedTensor(backend, reversed)).dataSync();
          const want = Array.from(ids).flatMap((id) =>
            Array.from(dequantized).slice(id * row.cols, (id + 1) * row.cols),
          );
          expect(difference(picked, want, 1e-7)).toBeUndefined();
          // One row, a few and many go different ways in the kernels.
          const x = blocks.input(`${row.name}/x`) as CaseInput;
          const product = blocks.values(`${row.name}/product`);
          for (const rows of [1, 5, 40]) {
            const repeated = storedTensor(backend, repeatRows(x, rows));
            const want = Array.from({ length: rows * row.rows }, (_, i) => product[i % product.length]);
            expect(
              difference(gqa.linear(repeated, weight).dataSync(), want, 1e-5),
              `${rows}`,
            ).toBeUndefined();
          }
        });
      });
    }
  });
}
