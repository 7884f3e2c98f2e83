/** CARE's whitening beside the principal components of activations. */
import { jointLatent, matrix, momentsThrough } from './latent-layer.mjs';
import { identity, trace } from './methods.mjs';

/**
 * The keys and values of a layer, y = A x, by L numbers in two ways: the leading singular vectors of A C^(1/2),
 * multiplied by C^(-1/2) (CARE; C are the moments of x), and the leading principal components of y.
 * @returns the distance of the two approximations of y on the calibration text, relative to the size of y
 */
export function whiteningDistance(library, { key, value, moments }, L) {
  const { concat, matmul, scope, slice, squareRoots, sub, symmetricEigen } = library;
  return scope(() => {
    const A = concat([key, value]);
    const [n, D] = A.shape;
    const { root, inverse } = squareRoots(Float64Array.from(moments.dataSync()), D);
    const whitened = matmul(A, matrix(library, root, D));
    const inner = momentsThrough(
      library,
      matrix(library, identity(D), D),
      matmul(whitened, whitened, { transposeA: true }),
    );
    const vectors = slice(matrix(library, symmetricEigen(inner, D).vectors, D), [0], [L]);
    const kept = matmul(matmul(whitened, vectors, { transposeB: true }), vectors);
    const byWhitening = matmul(kept, matrix(library, inverse, D));

    const same = { root: identity(n), inverse: identity(n) };
    const { down, up } = jointLatent(library, A, moments, same);
    const byComponents = matmul(slice(up, [0, 0], [n, L]), slice(down, [0], [L]));

    const energy = (map) => trace(momentsThrough(library, map, moments), n);
    return Math.sqrt(energy(sub(byWhitening, byComponents)) / energy(A));
  });
}
