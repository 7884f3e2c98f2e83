/**
 * Merges heads with the least error, by linear maps that attention is invariant to. Any invertible matrix on
 * v is undone by its inverse on o. Maps on k are undone on q, but must commute with RoPE: rotations and
 * scalings inside each frequency plane, which are complex numbers. Given the heads' second moments and the
 * weight of errors in each direction (metrics), the best rank-H common head is a principal component
 * analysis: over all values of the group for v, and over one complex number per head for each plane of k. For
 * equal heads it is the mean.
 *
 * Source: the invariance is that of "Align Attention Heads Before Merging Them" (arXiv 2412.20677), which
 * aligns by rotations and then takes the mean; principal components are used here instead, which have a
 * smaller error.
 */
import { leadingEigen, symmetricEigen } from './symmetric-eigen.ts';

/** new = sum of pool[j] @ old[j]; old[j] is about restore[j] @ new. `[H, H]` each. */
export interface Alignment {
  readonly pool: readonly Float64Array[];
  readonly restore: readonly Float64Array[];
}

/** Eigenvalues below this share of the largest are raised to it. */
const FLOOR = 1e-6;

/** A symmetric positive matrix's square root and its inverse, with small eigenvalues raised. */
export function squareRoots(matrix: Float64Array, n: number): { root: Float64Array; inverse: Float64Array } {
  const { values, vectors } = symmetricEigen(matrix, n);
  const least = Math.max(values[0] * FLOOR, 1e-30);
  const root = new Float64Array(n * n);
  const inverse = new Float64Array(n * n);
  for (let e = 0; e < n; e++) {
    const value = Math.sqrt(Math.max(values[e], least));
    const at = e * n;
    for (let i = 0; i < n; i++) {
      const left = vectors[at + i];
      for (let j = 0; j < n; j++) {
        const outer = left * vectors[at + j];
        root[i * n + j] += outer * value;
        inverse[i * n + j] += outer / value;
      }
    }
  }
  return { root, inverse };
}

/** c = a @ b over blocks: a `[n, n]`, b `[n, m]`. */
export function times(a: Float64Array, b: Float64Array, n: number, m: number): Float64Array {
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const factor = a[i * n + k];
      if (factor === 0) continue;
      for (let j = 0; j < m; j++) out[i * m + j] += factor * b[k * m + j];
    }
  }
  return out;
}

export function transposed(matrix: Float64Array, n: number): Float64Array {
  return Float64Array.from(matrix, (_, i) => matrix[(i % n) * n + Math.floor(i / n)]);
}

/** Rows of head j and columns of head l of a square matrix, `[h, h]`. */
export function blockOf(matrix: Float64Array, side: number, j: number, l: number, h: number): Float64Array {
  const out = new Float64Array(h * h);
  for (let r = 0; r < h; r++) {
    const at = (j * h + r) * side + l * h;
    out.set(matrix.subarray(at, at + h), r * h);
  }
  return out;
}

/**
 * Merges heads by any matrices.
 * @param moments `[R * h, R * h]`: sums over tokens of all products of the group's values
 * @param metrics `[h, h]` each: an error d of head j costs d^T metric[j] d
 */
export function alignFreely(moments: Float64Array, metrics: readonly Float64Array[], h: number): Alignment {
  const n = metrics.length * h;
  const roots = metrics.map((metric) => squareRoots(metric, h));
  const weighted = new Float64Array(n * n);
  roots.forEach(({ root: left }, j) => {
    roots.forEach(({ root: right }, l) => {
      const turned = times(times(left, blockOf(moments, n, j, l, h), h, h), right, h, h);
      for (let r = 0; r < h; r++) weighted.set(turned.subarray(r * h, (r + 1) * h), (j * h + r) * n + l * h);
    });
  });
  const { values, vectors } = leadingEigen(weighted, n, h);
  let before = 0;
  for (let i = 0; i < n; i++) before += moments[i * n + i] / metrics.length;
  const after = values.reduce((sum, value) => sum + Math.max(0, value), 0);
  const scale = before > 0 && after > 0 ? Math.sqrt(before / after) : 1;
  const pool: Float64Array[] = [];
  const restore: Float64Array[] = [];
  roots.forEach(({ root, inverse }, j) => {
    const own = new Float64Array(h * h);
    for (let e = 0; e < h; e++) own.set(vectors.subarray(e * n + j * h, e * n + (j + 1) * h), e * h);
    pool.push(times(own, root, h, h).map((value) => value * scale));
    restore.push(times(inverse, transposed(own, h), h, h).map((value) => value / scale));
  });
  return { pool, restore };
}

/** A complex number per head of the group, for one plane. */
export interface PlaneAlignment {
  readonly pool: readonly (readonly [re: number, im: number])[];
  readonly restore: readonly (readonly [re: number, im: number])[];
}

/**
 * Merges one plane of rotated keys, by complex factors.
 * @param re,im `[R, R]`: sums over tokens of z[j] * conj(z[l])
 * @param energies of the queries that read each head, in this plane
 */
export function alignPlane(re: Float64Array, im: Float64Array, energies: readonly number[]): PlaneAlignment {
  const R = energies.length;
  const strongest = Math.max(...energies, 1e-300);
  const weights = energies.map((energy) => Math.sqrt(Math.max(energy / strongest, FLOOR)));
  // A Hermitian matrix as a real symmetric one of twice the side: [[re, -im], [im, re]].
  const n = 2 * R;
  const real = new Float64Array(n * n);
  for (let j = 0; j < R; j++) {
    for (let l = 0; l < R; l++) {
      const weight = weights[j] * weights[l];
      real[j * n + l] = weight * re[j * R + l];
      real[(R + j) * n + R + l] = weight * re[j * R + l];
      real[(R + j) * n + l] = weight * im[j * R + l];
      real[j * n + R + l] = -weight * im[j * R + l];
    }
  }
  const { values, vectors } = symmetricEigen(real, n);
  let before = 0;
  for (let j = 0; j < R; j++) before += re[j * R + j] / R;
  const scale = before > 0 && values[0] > 0 ? Math.sqrt(before / values[0]) : 1;
  const pool: [number, number][] = [];
  const restore: [number, number][] = [];
  for (let j = 0; j < R; j++) {
    const [a, b] = [vectors[j], vectors[R + j]];
    pool.push([a * weights[j] * scale, -b * weights[j] * scale]);
    restore.push([a / weights[j] / scale, b / weights[j] / scale]);
  }
  return { pool, restore };
}
