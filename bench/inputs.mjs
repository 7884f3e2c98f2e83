/**
 * The inputs of a row, the same for every contender, and the expected output. Element i of an input is a hash
 * of (seed, i), uniform in [-1, 1) and exact in f32, so that each program can make it (peers/torch/ops.py
 * does it in Python).
 */

/** The seeds of a row's inputs. */
export const SEEDS = { query: 1, key: 2, value: 3, x: 4, weight: 5 };

/** Element `index` of the input with this seed: murmur3's finaliser over both. */
function element(seed, index) {
  let x = (Math.imul(index, 0x9e3779b1) + Math.imul(seed, 0x7f4a7c15)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  x ^= x >>> 16;
  return (x >>> 8) * 2 ** -23 - 1;
}

/** The first `size` elements of an input. */
export function numbers(seed, size) {
  const out = new Float32Array(size);
  for (let i = 0; i < size; i++) out[i] = element(seed, i);
  return out;
}

const word = new DataView(new ArrayBuffer(4));

/** The nearest bf16, ties to even. */
function roundToBfloat(value) {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  word.setUint32(0, (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000);
  return word.getFloat32(0);
}

const ends = (n) => [...new Set([0, n >> 1, n - 1])];

/** The output rows of attention that are checked: [query, head] of batch row 0. */
export function checkedRows({ T, N }) {
  return ends(T).flatMap((t) => ends(N).map((n) => [t, n]));
}

/** The outputs of `linear` that are checked: [row, feature]. */
export function checkedOutputs({ rows, Out }) {
  return ends(rows).flatMap((r) => ends(Out).map((o) => [r, o]));
}

/** The expected values of the checked outputs of `linear` in double precision. */
export function linearTruth(shape) {
  const stored = shape.dtype === 'bf16' ? roundToBfloat : (x) => x;
  return checkedOutputs(shape).map(([r, o]) => {
    let sum = 0;
    for (let i = 0; i < shape.In; i++)
      sum += element(SEEDS.x, r * shape.In + i) * stored(element(SEEDS.weight, o * shape.In + i));
    return sum;
  });
}

/** The expected values of the checked rows of attention by the formula in double precision: [checked rows][H], flat. */
export function attentionTruth(shape) {
  const { S, N, K, H, causal, dtype } = shape;
  const stored = dtype === 'bf16' ? roundToBfloat : (x) => x;
  const key = (s, k, d) => stored(element(SEEDS.key, (s * K + k) * H + d));
  const value = (s, k, d) => stored(element(SEEDS.value, (s * K + k) * H + d));
  const out = [];
  for (const [t, n] of checkedRows(shape)) {
    const k = Math.floor(n / (N / K));
    const seen = causal ? t + 1 : S;
    const query = Float64Array.from({ length: H }, (_, d) => element(SEEDS.query, (t * N + n) * H + d));
    const scores = Float64Array.from({ length: seen }, (_, s) => {
      let dot = 0;
      for (let d = 0; d < H; d++) dot += query[d] * key(s, k, d);
      return dot / Math.sqrt(H);
    });
    const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const row = new Float64Array(H);
    let sum = 0;
    for (let s = 0; s < seen; s++) {
      const weight = Math.exp(scores[s] - highest);
      sum += weight;
      for (let d = 0; d < H; d++) row[d] += weight * value(s, k, d);
    }
    out.push(...row.map((x) => x / sum));
  }
  return out;
}

/** The largest difference, relative to max(1, max |expected|). */
export function largestError(got, expected) {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY;
  let error = 0;
  let scale = 1;
  for (let i = 0; i < got.length; i++) {
    const difference = Math.abs(got[i] - expected[i]);
    if (!(difference <= error)) error = difference;
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return error / scale;
}
