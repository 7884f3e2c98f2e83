/**
 * The reference backend against published threefry vectors, error-function values with 17 digits, and
 * attention computed by hand. test/ops/attention-golden.test.ts compares it with PyTorch, JAX and Flax.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { threefry2x32, uniformAt } from '../../src/backend/threefry.ts';
import { dotProductAttention, gelu, setBackend, Tensor, tensor } from '../../src/index.ts';

beforeAll(async () => {
  await setBackend('reference');
});

test('threefry2x32, the known answers of Random123', () => {
  expect(threefry2x32([0, 0], 0, 0)).toEqual([0x6b200159, 0x99ba4efe]);
  const ones = 0xffffffff;
  expect(threefry2x32([ones, ones], ones, ones)).toEqual([0x1cb996fc, 0xbb002be7]);
  expect(threefry2x32([0x13198a2e, 0x03707344], 0x243f6a88, 0x85a308d3)).toEqual([0xc4923a9c, 0x483df7a0]);
});

test('uniforms lie in [0, 1) on a grid of 2^-23', () => {
  for (let i = 0; i < 1000; i++) {
    const value = uniformAt([1, 2], i);
    expect(value >= 0 && value < 1 && Number.isInteger(value * 2 ** 23)).toBe(true);
  }
});

test('gelu is x times the normal distribution function, tail included', () => {
  // Phi by mpmath 1.3.0, ncdf(x).
  const phi = {
    '-10': 7.61985302416053e-24,
    '-3': 0.0013498980316300946,
    '0.5': 0.6914624612740131,
    '2': 0.97724986805182079,
  };
  for (const [x, want] of Object.entries(phi)) {
    const got = gelu(tensor(Float64Array.of(Number(x)))).dataSync()[0] / Number(x);
    expect(Math.abs(got / want - 1)).toBeLessThan(2e-14);
  }
});

test('attention by hand', () => {
  // Two keys whose scores are 0 and ln 3: weights 1/4 and 3/4.
  const query = tensor(Float64Array.of(1), { shape: [1, 1, 1, 1] });
  const key = tensor(Float64Array.of(0, Math.log(3)), { shape: [1, 2, 1, 1] });
  const value = tensor(Float64Array.of(8, 4), { shape: [1, 2, 1, 1] });
  const [out, lse] = dotProductAttention(query, key, value, { returnLogSumExp: true });
  expect(out.dataSync()[0]).toBeCloseTo(5, 14);
  expect(lse.dataSync()[0]).toBeCloseTo(Math.log(4), 14);
  // A sink of ln 4 doubles the denominator; nothing else changes.
  const sinks = tensor(Float64Array.of(Math.log(4)));
  const [half, more] = dotProductAttention(query, key, value, { sinks, returnLogSumExp: true });
  expect(half.dataSync()[0]).toBeCloseTo(2.5, 14);
  expect(more.dataSync()[0]).toBeCloseTo(Math.log(8), 14);
  // Nothing to attend to: zeros and -Infinity, or the sink alone.
  const mask = tensor([false]);
  expect(
    dotProductAttention(query, key, value, { mask, returnLogSumExp: true }).map((x) => x.dataSync()[0]),
  ).toEqual([0, -Infinity]);
  const alone = dotProductAttention(query, key, value, { mask, sinks, returnLogSumExp: true });
  expect(alone.map((x) => x.dataSync()[0])).toEqual([0, Math.log(4)]);
});

test('fresh memory is NaN, freed bytes are counted', () => {
  const backend = new ReferenceBackend();
  const storage = backend.allocate(8);
  expect(backend.bytesInUse).toBe(8);
  const x = new Tensor(storage, 'f32', [2]);
  expect(Array.from(x.dataSync())).toEqual([Number.NaN, Number.NaN]);
  x.dispose();
  expect(backend.bytesInUse).toBe(0);
});

test('files are read in slices that outlive the file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-'));
  const path = join(folder, 'numbers');
  writeFileSync(path, new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer));
  const file = new ReferenceBackend().openFile(path);
  const storage = file.storage(4, 8);
  expect(file.size).toBe(16);
  expect(() => file.storage(12, 8)).toThrow(RangeError);
  expect(() => file.storage(-1, 2)).toThrow(RangeError);
  file.close();
  expect(Array.from(new Tensor(storage, 'f32', [2]).dataSync())).toEqual([2, 3]);
  rmSync(folder, { recursive: true });
});
