/**
 * Eigenvectors of symmetric matrices: Householder's reduction to a tridiagonal matrix and QL with implicit
 * shifts; for large ones, the leading few by orthogonal iteration. Deterministic: the sign of a vector is
 * that of its largest entry.
 *
 * Source: EISPACK tred2 and tql2 (as in JAMA, public domain).
 */
import { tensor } from '../ops/creation.ts';
import { matmul } from '../ops/matmul.ts';
import { scope } from '../tensor/scope.ts';

export interface Eigen {
  /** Descending. */
  readonly values: Float64Array;
  /** Row i is the unit vector of value i. */
  readonly vectors: Float64Array;
}

/** Larger matrices would take minutes for all eigenvectors. */
const FULL_LIMIT = 512;
const ITERATIONS = 24;

/** The `count` leading eigenvectors of a symmetric `[n, n]` matrix. */
export function leadingEigen(matrix: Float64Array, n: number, count: number): Eigen {
  if (n <= FULL_LIMIT) {
    const { values, vectors } = symmetricEigen(matrix, n);
    return { values: values.slice(0, count), vectors: vectors.slice(0, count * n) };
  }
  return iterate(matrix, n, count);
}

/** Orthogonal iteration from fixed pseudo-random vectors, then a Rayleigh-Ritz step. */
function iterate(matrix: Float64Array, n: number, count: number): Eigen {
  let state = 12345;
  let rows = Float64Array.from({ length: count * n }, () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 30 - 1;
  });
  const times = multiplier(matrix, n);
  for (let i = 0; i < ITERATIONS; i++) {
    orthonormalize(rows, count, n);
    rows = times(rows, count);
  }
  orthonormalize(rows, count, n);
  const image = times(rows, count);
  const small = new Float64Array(count * count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) small[i * count + j] = dot(rows, i * n, image, j * n, n);
  }
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < i; j++) {
      const mean = (small[i * count + j] + small[j * count + i]) / 2;
      small[i * count + j] = mean;
      small[j * count + i] = mean;
    }
  }
  const inner = symmetricEigen(small, count);
  const vectors = new Float64Array(count * n);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      const factor = inner.vectors[i * count + j];
      for (let c = 0; c < n; c++) vectors[i * n + c] += factor * rows[j * n + c];
    }
  }
  return { values: inner.values, vectors };
}

/** rows -> rows @ matrix, by the backend's kernels in f32. */
function multiplier(
  matrix: Float64Array,
  n: number,
): (rows: Float64Array, count: number) => Float64Array<ArrayBuffer> {
  const largest = matrix.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-300);
  const scaled = Float32Array.from(matrix, (value) => value / largest);
  return (rows, count) =>
    scope(() => {
      const right = tensor(scaled, { shape: [n, n] });
      const out = matmul(tensor(Float32Array.from(rows), { shape: [count, n] }), right);
      return Float64Array.from(out.dataSync() as Float32Array, (value) => value * largest);
    });
}

/** Modified Gram-Schmidt, twice over. */
function orthonormalize(rows: Float64Array, count: number, n: number): void {
  for (let i = 0; i < count; i++) {
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const factor = dot(rows, i * n, rows, j * n, n);
        for (let c = 0; c < n; c++) rows[i * n + c] -= factor * rows[j * n + c];
      }
    }
    const length = Math.sqrt(dot(rows, i * n, rows, i * n, n)) || 1;
    for (let c = 0; c < n; c++) rows[i * n + c] /= length;
  }
}

function dot(a: Float64Array, at: number, b: Float64Array, bt: number, n: number): number {
  let sum = 0;
  for (let c = 0; c < n; c++) sum += a[at + c] * b[bt + c];
  return sum;
}

/** All eigenvectors of a symmetric `[n, n]` matrix. */
export function symmetricEigen(matrix: Float64Array, n: number): Eigen {
  const V = Float64Array.from(matrix);
  const d = new Float64Array(n);
  const e = new Float64Array(n);
  tridiagonalize(V, d, e, n);
  diagonalize(V, d, e, n);
  const order = Array.from(d.keys()).sort((a, b) => d[b] - d[a] || a - b);
  const vectors = new Float64Array(n * n);
  order.forEach((column, row) => {
    let largest = 0;
    for (let i = 0; i < n; i++) {
      if (Math.abs(V[i * n + column]) > Math.abs(largest) * (1 + 1e-9)) largest = V[i * n + column];
    }
    const sign = largest < 0 ? -1 : 1;
    for (let i = 0; i < n; i++) vectors[row * n + i] = sign * V[i * n + column];
  });
  return { values: Float64Array.from(order, (i) => d[i]), vectors };
}

/** tred2 */
function tridiagonalize(V: Float64Array, d: Float64Array, e: Float64Array, n: number): void {
  for (let j = 0; j < n; j++) d[j] = V[(n - 1) * n + j];
  for (let i = n - 1; i > 0; i--) {
    let scale = 0;
    let h = 0;
    for (let k = 0; k < i; k++) scale += Math.abs(d[k]);
    if (scale === 0) {
      e[i] = d[i - 1];
      for (let j = 0; j < i; j++) {
        d[j] = V[(i - 1) * n + j];
        V[i * n + j] = 0;
        V[j * n + i] = 0;
      }
    } else {
      for (let k = 0; k < i; k++) {
        d[k] /= scale;
        h += d[k] * d[k];
      }
      let f = d[i - 1];
      let g = f > 0 ? -Math.sqrt(h) : Math.sqrt(h);
      e[i] = scale * g;
      h -= f * g;
      d[i - 1] = f - g;
      e.fill(0, 0, i);
      for (let j = 0; j < i; j++) {
        f = d[j];
        V[j * n + i] = f;
        g = e[j] + V[j * n + j] * f;
        for (let k = j + 1; k < i; k++) {
          g += V[k * n + j] * d[k];
          e[k] += V[k * n + j] * f;
        }
        e[j] = g;
      }
      f = 0;
      for (let j = 0; j < i; j++) {
        e[j] /= h;
        f += e[j] * d[j];
      }
      const hh = f / (h + h);
      for (let j = 0; j < i; j++) e[j] -= hh * d[j];
      for (let j = 0; j < i; j++) {
        f = d[j];
        g = e[j];
        for (let k = j; k < i; k++) V[k * n + j] -= f * e[k] + g * d[k];
        d[j] = V[(i - 1) * n + j];
        V[i * n + j] = 0;
      }
    }
    d[i] = h;
  }
  accumulate(V, d, e, n);
}

function accumulate(V: Float64Array, d: Float64Array, e: Float64Array, n: number): void {
  for (let i = 0; i < n - 1; i++) {
    V[(n - 1) * n + i] = V[i * n + i];
    V[i * n + i] = 1;
    const h = d[i + 1];
    if (h !== 0) {
      for (let k = 0; k <= i; k++) d[k] = V[k * n + i + 1] / h;
      for (let j = 0; j <= i; j++) {
        let g = 0;
        for (let k = 0; k <= i; k++) g += V[k * n + i + 1] * V[k * n + j];
        for (let k = 0; k <= i; k++) V[k * n + j] -= g * d[k];
      }
    }
    for (let k = 0; k <= i; k++) V[k * n + i + 1] = 0;
  }
  for (let j = 0; j < n; j++) {
    d[j] = V[(n - 1) * n + j];
    V[(n - 1) * n + j] = 0;
  }
  V[n * n - 1] = 1;
  e[0] = 0;
}

/** tql2 */
function diagonalize(V: Float64Array, d: Float64Array, e: Float64Array, n: number): void {
  e.copyWithin(0, 1);
  e[n - 1] = 0;
  let f = 0;
  let largest = 0;
  for (let l = 0; l < n; l++) {
    largest = Math.max(largest, Math.abs(d[l]) + Math.abs(e[l]));
    let m = l;
    while (m < n - 1 && Math.abs(e[m]) > 2 ** -52 * largest) m++;
    if (m > l) {
      do {
        let g = d[l];
        let p = (d[l + 1] - g) / (2 * e[l]);
        let r = Math.hypot(p, 1);
        if (p < 0) r = -r;
        d[l] = e[l] / (p + r);
        d[l + 1] = e[l] * (p + r);
        const dl1 = d[l + 1];
        let h = g - d[l];
        for (let i = l + 2; i < n; i++) d[i] -= h;
        f += h;
        p = d[m];
        let c = 1;
        let c2 = c;
        let c3 = c;
        const el1 = e[l + 1];
        let s = 0;
        let s2 = 0;
        for (let i = m - 1; i >= l; i--) {
          c3 = c2;
          c2 = c;
          s2 = s;
          g = c * e[i];
          h = c * p;
          r = Math.hypot(p, e[i]);
          e[i + 1] = s * r;
          s = e[i] / r;
          c = p / r;
          p = c * d[i] - s * g;
          d[i + 1] = h + s * (c * g + s * d[i]);
          for (let k = 0; k < n; k++) {
            const at = k * n + i;
            h = V[at + 1];
            V[at + 1] = s * V[at] + c * h;
            V[at] = c * V[at] - s * h;
          }
        }
        p = (-s * s2 * c3 * el1 * e[l]) / dl1;
        e[l] = s * p;
        d[l] = c * p;
      } while (Math.abs(e[l]) > 2 ** -52 * largest);
    }
    d[l] += f;
    e[l] = 0;
  }
}
