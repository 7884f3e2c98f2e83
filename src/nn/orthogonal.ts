/**
 * Random orthogonal matrices: the Q of a QR factorisation of a normal matrix, with signs chosen so that R has
 * a positive diagonal. That Q is unique, so Gram-Schmidt in f64 equals LAPACK's to f32 accuracy.
 *
 * Source: jax/_src/random/core.py (_orthogonal); Mezzadri 2007, "How to generate random matrices from the
 * classical compact groups".
 */
import { tensor, zeros } from '../ops/creation.ts';
import { factorNormal } from '../random/samplers.ts';
import { normalizeAxis, type Shape, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** `scale` times an orthogonal matrix of rows (all axes but `columnAxis`) by columns. */
export function orthogonalMatrix(key: Tensor, shape: Shape, scale: number, columnAxis: number): Tensor {
  if (shape.length < 2) throw new RangeError('orthogonal initializer requires at least a 2D shape');
  if (sizeOf(shape) === 0) return zeros(shape);
  const axis = normalizeAxis('orthogonal', columnAxis, shape.length);
  const columns = shape[axis];
  const rows = sizeOf(shape) / columns;
  const [long, short] = [Math.max(rows, columns), Math.min(rows, columns)];
  const drawn = factorNormal('orthogonal', key, [long, short], Math.fround(Math.SQRT2));
  const q = orthonormalColumns(drawn.dataSync(), long, short);
  drawn.dispose();

  // `columnAxis` is the column index; the other axes, in order, form the row index.
  const inner = sizeOf(shape.slice(axis + 1));
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const base = Math.floor(row / inner) * columns * inner + (row % inner);
    for (let column = 0; column < columns; column++) {
      const value = Math.fround(rows >= columns ? q[column][row] : q[row][column]);
      values[base + column * inner] = scale * value;
    }
  }
  return tensor(values, { shape });
}

/** Modified Gram-Schmidt, applied twice per column to limit f64 rounding errors. Returns the columns. */
function orthonormalColumns(z: ArrayLike<number>, rows: number, columns: number): Float64Array[] {
  const q: Float64Array[] = [];
  for (let j = 0; j < columns; j++) {
    const v = Float64Array.from({ length: rows }, (_, i) => z[i * columns + j]);
    for (let pass = 0; pass < 2; pass++) {
      for (const u of q) {
        let dot = 0;
        for (let i = 0; i < rows; i++) dot += u[i] * v[i];
        for (let i = 0; i < rows; i++) v[i] -= dot * u[i];
      }
    }
    const norm = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
    q.push(v.map((x) => x / norm));
  }
  return q;
}

/** Zeros of `shape` with `matrix` in its last two axes at index `floor((n - 1) / 2)` of each leading one. */
export function placeInCentre(matrix: Tensor, shape: Shape): Tensor {
  const values = new Float32Array(sizeOf(shape));
  const at = shape.slice(0, -2).reduce((index, n) => index * n + Math.floor((n - 1) / 2), 0);
  values.set(matrix.dataSync(), at * matrix.size);
  matrix.dispose();
  return tensor(values, { shape });
}
