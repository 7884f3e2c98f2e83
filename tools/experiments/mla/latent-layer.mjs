/**
 * A grouped-query layer as multi-head latent attention, in the absorbed form: all query heads read one
 * key/value head of R + L dims. The first R dims of a key rotate; the other L are the latent, which is also the
 * value, so a cache stores R + L numbers of a token. Only the weights of q, k, v and o and the rotary table
 * differ from other layers: the library's decoder runs it.
 *
 * Letters: N query heads, K key/value heads, H head dim, D model dim, R rotating dims, P = K * H - R, L latent.
 *
 * Source: TransMLA (arXiv 2502.07864), section 4; DeepSeek-V2 (arXiv 2405.04434) for the form.
 */

/** A Float64Array as a tensor of so many columns. */
export function matrix({ tensor }, values, columns) {
  return tensor(Float32Array.from(values), { shape: [values.length / columns, columns] });
}

/** A C A^T as numbers, symmetric to the last bit. @param A `[n, m]` @param C `[m, m]` */
export function momentsThrough({ matmul }, A, C) {
  const n = A.shape[0];
  const out = Float64Array.from(matmul(matmul(A, C), A, { transposeB: true }).dataSync());
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) out[i * n + j] = out[j * n + i];
  }
  return out;
}

/**
 * The keys of all heads as one vector `[K * H]`, turned by an orthogonal matrix that commutes with RoPE
 * (RoRoPE): in each plane one matrix mixes the heads, the same for both dims of the plane. Its rows are the
 * principal components of the keys, so the first pair of a plane has most of the plane's energy. Neighbouring
 * planes that are folded are taken as one, at the frequency of the plane in their middle (FreqFold).
 * @param moments `[K * H, K * H]` of the keys before RoPE
 * @param planes the two dims of each plane of a head
 * @returns `turn` `[K * H, K * H]`, and its rows in pairs, `{ rows, plane }`: first those of the largest
 *   component of each plane
 */
export function keyTurn({ symmetricEigen }, moments, K, H, planes, fold) {
  const side = K * H;
  const turn = new Float64Array(side * side);
  const pairs = [];
  for (let first = 0; first < planes.length; first += fold) {
    const old = planes
      .slice(first, first + fold)
      .flatMap((dims) => Array.from({ length: K }, (_, head) => dims.map((dim) => head * H + dim)));
    const n = old.length;
    const shared = new Float64Array(n * n);
    old.forEach(([a, b], j) => {
      old.forEach(([c, d], l) => {
        shared[j * n + l] = moments[a * side + c] + moments[b * side + d];
      });
    });
    const { vectors } = symmetricEigen(shared, n);
    old.forEach((rows, component) => {
      old.forEach(([a, b], j) => {
        turn[rows[0] * side + a] = vectors[component * n + j];
        turn[rows[1] * side + b] = vectors[component * n + j];
      });
      pairs.push({ rows, plane: first + (fold >> 1), component });
    });
  }
  pairs.sort((a, b) => a.component - b.component || a.plane - b.plane);
  return { turn, pairs };
}

/** The heads as they are, in the form of `keyTurn`. */
export function noTurn(K, H, planes) {
  const side = K * H;
  const turn = Float64Array.from({ length: side * side }, (_, i) => (i % (side + 1) === 0 ? 1 : 0));
  const heads = Array.from({ length: K }, (_, head) => head * H);
  const pairs = heads.flatMap((at) =>
    planes.map((dims, plane) => ({ rows: dims.map((dim) => at + dim), plane })),
  );
  return { turn, pairs };
}

/**
 * The rows of `keyTurn` that rotate, and the others.
 * @returns `rope` `[R, K * H]`, pairs next to each other; `plain` `[P, K * H]`; the plane of each rotating pair
 */
export function splitTurn(library, { turn, pairs }, rotating) {
  const side = Math.sqrt(turn.length);
  const take = (list) => {
    const rows = list.flatMap((pair) => pair.rows);
    const values = rows.map((row) => turn.subarray(row * side, (row + 1) * side));
    return matrix(library, Float64Array.from(values.flatMap((row) => Array.from(row))), side);
  };
  const plain = pairs.filter((pair) => !rotating.includes(pair));
  return { rope: take(rotating), plain: take(plain), planes: rotating.map(({ plane }) => plane) };
}

/**
 * The principal components of y = A x, where an error e of y costs |S e|^2.
 * @param A `[n, D]`
 * @param moments `[D, D]` of x
 * @param root S `[n, n]`, and its inverse
 * @returns `down` `[n, D]` and `up` `[n, n]`: the best approximation by L numbers takes the first L rows of
 *   `down` and columns of `up`; `energies`, what each component is worth, descending
 */
export function jointLatent(library, A, moments, { root, inverse }) {
  const { matmul, symmetricEigen } = library;
  const n = A.shape[0];
  const weighted = matmul(matrix(library, root, n), A);
  const { values, vectors } = symmetricEigen(momentsThrough(library, weighted, moments), n);
  const basis = matrix(library, vectors, n);
  const up = matmul(matrix(library, inverse, n), basis, { transposeB: true });
  return { down: matmul(basis, weighted), up, energies: values };
}

/**
 * The decoder layer with its attention in the absorbed form.
 * @param weights f32: `query` and `output` of the old layer, `[N * H, D]` (o transposed), and `key` `[K * H, D]`
 * @param split of `splitTurn`
 * @param latent `down` and `up` of `jointLatent`
 * @param L how many numbers of the latent are kept
 */
export function latentLayer(library, config, layer, weights, split, latent, L) {
  const { concat, matmul, slice, transpose, zeros } = library;
  const { numHeads: N, numKeyValueHeads: K, headDim: H, hiddenSize: D } = config;
  const { rope, plain } = split;
  const [R, P] = [rope.shape[0], plain.shape[0]];
  const down = slice(latent.down, [0], [L]);
  const up = slice(latent.up, [0, 0], [P + K * H, L]);
  // [L, K * H]: maps a query in the space of all heads' keys to the latent.
  const toLatent = matmul(slice(up, [0], [P]), plain, { transposeA: true });
  const queries = [];
  const outputs = [];
  for (let n = 0; n < N; n++) {
    const at = Math.floor((n * K) / N) * H;
    const query = slice(weights.query, [n * H], [(n + 1) * H]);
    const output = slice(weights.output, [n * H], [(n + 1) * H]);
    queries.push(matmul(slice(rope, [0, at], [R, at + H]), query));
    queries.push(matmul(slice(toLatent, [0, at], [L, at + H]), query));
    outputs.push(zeros([R, D]), matmul(slice(up, [P + at], [P + at + H]), output, { transposeA: true }));
  }
  return {
    ...layer,
    queryKeyValue: [
      { weight: concat(queries) },
      { weight: concat([matmul(rope, weights.key), down]) },
      { weight: concat([zeros([R, D]), down]) },
    ],
    attentionOutput: { weight: transpose(concat(outputs)) },
  };
}
