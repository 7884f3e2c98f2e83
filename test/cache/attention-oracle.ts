/**
 * Rows of random keys, values and queries, and causal attention over them in plain loops: the expected output
 * of a cache.
 */
import type { Backend } from '../../src/backend/backend.ts';
import type { CacheDType, CacheLayer, KeyValueCache } from '../../src/cache/index.ts';
import { attend } from '../../src/ops/attend.ts';
import { tensor } from '../../src/ops/creation.ts';
import { scope } from '../../src/tensor/scope.ts';
import { isFreed, type Storage } from '../../src/tensor/storage.ts';

export interface Sequences {
  readonly B: number;
  readonly S: number;
  readonly N: number;
  readonly layer: CacheLayer;
  /** `[B, S, N, H]`, `[B, S, K, H]`, `[B, S, K, Hv]` */
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
}

const made = new Map<string, Sequences>();

/** The same numbers for the same arguments, made once. */
export function randomSequences(
  B: number,
  S: number,
  G: number,
  layer: CacheLayer,
  seed: number = 7,
): Sequences {
  const key = JSON.stringify([B, S, G, layer, seed]);
  if (!made.has(key)) made.set(key, makeSequences(B, S, G, layer, seed));
  return made.get(key)!;
}

function makeSequences(B: number, S: number, G: number, layer: CacheLayer, seed: number): Sequences {
  const { numKeyValueHeads: K, headDim: H, latentDim } = layer;
  const Hv = valueDim(layer);
  let state = seed;
  const draw = (size: number) =>
    Float32Array.from({ length: size }, () => {
      state = (state * 48271) % 2147483647;
      return (state / 2147483647) * 2 - 1;
    });
  const N = K * G;
  const query = draw(B * S * N * H);
  const key = draw(B * S * K * H);
  const value =
    latentDim === undefined
      ? draw(B * S * K * Hv)
      : Float32Array.from({ length: B * S * K * Hv }, (_, i) => key[Math.floor(i / Hv) * H + (i % Hv)]);
  return { B, S, N, layer, query, key, value };
}

export function valueDim({ headDim, valueHeadDim, latentDim }: CacheLayer): number {
  return latentDim ?? valueHeadDim ?? headDim;
}

const expected = new WeakMap<Sequences, Map<string, Float64Array>>();

/**
 * Outputs `[S, N, Hv]` of one row: key j is seen from query i when j <= i and (i - j < window or j < sinks).
 * Computed once: all storage types and backends have the same.
 */
export function expectedRow(
  x: Sequences,
  row: number,
  window: number = Infinity,
  sinks: number = 0,
): Float64Array {
  if (!expected.has(x)) expected.set(x, new Map());
  const rows = expected.get(x)!;
  const key = `${row} ${window} ${sinks}`;
  if (!rows.has(key)) rows.set(key, attendedRow(x, row, window, sinks));
  return rows.get(key)!;
}

function attendedRow(x: Sequences, row: number, window: number, sinks: number): Float64Array {
  const { S, N, layer } = x;
  const { numKeyValueHeads: K, headDim: H } = layer;
  const Hv = valueDim(layer);
  const out = new Float64Array(S * N * Hv);
  for (let i = 0; i < S; i++) {
    for (let n = 0; n < N; n++) {
      const k = Math.floor(n / (N / K));
      const q = ((row * S + i) * N + n) * H;
      const weights: [token: number, score: number][] = [];
      for (let j = 0; j <= i; j++) {
        if (i - j >= window && j >= sinks) continue;
        const at = ((row * S + j) * K + k) * H;
        let score = 0;
        for (let h = 0; h < H; h++) score += x.query[q + h] * x.key[at + h];
        weights.push([(row * S + j) * K + k, score / Math.sqrt(H)]);
      }
      const most = Math.max(...weights.map(([, score]) => score));
      const sum = weights.reduce((total, [, score]) => total + Math.exp(score - most), 0);
      for (const [token, score] of weights) {
        for (let h = 0; h < Hv; h++)
          out[(i * N + n) * Hv + h] += (Math.exp(score - most) / sum) * x.value[token * Hv + h];
      }
    }
  }
  return out;
}

/**
 * Feeds each row its tokens from `from[row]` on, `counts[row]` of them, in one pass.
 * @returns the outputs of each row's own tokens, `[counts[row], N, Hv]`
 */
export function feed(
  cache: KeyValueCache,
  x: Sequences,
  from: readonly number[],
  counts: readonly number[],
  commit: boolean = true,
): Float32Array[] {
  const { numKeyValueHeads: K, headDim: H, latentDim } = x.layer;
  const Hv = valueDim(x.layer);
  const T = Math.max(...counts);
  const part = (all: Float32Array, width: number, shape: readonly number[]) => {
    const flat = new Float32Array(x.B * T * width);
    for (let row = 0; row < x.B; row++) {
      const start = (row * x.S + from[row]) * width;
      flat.set(all.subarray(start, start + counts[row] * width), row * T * width);
    }
    return tensor(flat, { shape: [x.B, T, ...shape] });
  };
  return scope(() => {
    cache.reserve(counts);
    const value = latentDim === undefined ? part(x.value, K * Hv, [K, Hv]) : undefined;
    cache.write(0, part(x.key, K * H, [K, H]), value);
    const out = attend(part(x.query, x.N * H, [x.N, H]), cache.view(0), { queryLengths: counts }).dataSync();
    if (commit) cache.commit();
    const width = x.N * Hv;
    return counts.map((count, row) =>
      (out as Float32Array).slice(row * T * width, (row * T + count) * width),
    );
  });
}

/**
 * What storing K and V in a type can do to an output at most. A stored value is off by at most r of the
 * largest in its head (f16 2^-11, bf16 2^-8: half the distance of neighbours; q8_0 half a scale of 1/127,
 * itself rounded to f16). So a score is off by at most D = sum |q| max|k| r / sqrt(H), weights by the factor
 * e^(2D), and the output by max|v| (e^(2D) - 1 + r).
 */
export function storageError(x: Sequences, key: CacheDType, value: CacheDType): number {
  const { headDim: H } = x.layer;
  const rounding = { f32: 0, f16: 2 ** -11, bf16: 2 ** -8, q8_0: (0.5 / 127) * (1 + 2 ** -10) };
  let most = 0;
  for (let q = 0; q < x.query.length; q += H) {
    let sum = 0;
    for (let h = 0; h < H; h++) sum += Math.abs(x.query[q + h]);
    most = Math.max(most, sum);
  }
  const scores = (most * rounding[key]) / Math.sqrt(H); // all |k| and |v| are below 1
  return Math.exp(2 * scores) - 1 + rounding[value];
}

export function allocated(backend: Backend): { backend: Backend; held: () => number } {
  const storages: Storage[] = [];
  const counting = Object.create(backend, {
    allocate: {
      value: (bytes: number) => {
        const storage = backend.allocate(bytes);
        storages.push(storage);
        return storage;
      },
    },
  }) as Backend;
  const held = () =>
    storages.reduce((bytes, storage) => bytes + (isFreed(storage) ? 0 : storage.byteLength), 0);
  return { backend: counting, held };
}
