/** The conversions to latent attention that are compared. */
import { jointLatent, keyTurn, matrix, momentsThrough, splitTurn } from './latent-layer.mjs';

/**
 * Rotating dims R, and how the rest is chosen. `fold`: planes taken as one. `moments`: whether components are
 * those of the activations, or of the weights. `rotates`: 'first', the largest pair of each plane, or 'dearest',
 * the pairs whose scores change most without rotation. `errors`: 'balanced' (keys and values with the same
 * energy), or 'attention' (weighted by the queries and by o). `ranks`: 'even', or 'greedy' over the layers.
 */
const TRANS_MLA = { R: 64, fold: 1, moments: true, rotates: 'first', errors: 'balanced', ranks: 'even' };
export const METHODS = {
  weights: { ...TRANS_MLA, moments: false },
  transmla: TRANS_MLA,
  freqfold: { ...TRANS_MLA, R: 32, fold: 2 },
  care: { ...TRANS_MLA, ranks: 'greedy' },
  dearest: { ...TRANS_MLA, R: 32, rotates: 'dearest' },
  dearest16: { ...TRANS_MLA, R: 16, rotates: 'dearest' },
  attention: { ...TRANS_MLA, R: 32, rotates: 'dearest', errors: 'attention' },
};

export function identity(n) {
  return Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
}

/** Square blocks along the diagonal. */
function blockDiagonal(blocks) {
  const sides = blocks.map((block) => Math.sqrt(block.length));
  const n = sides.reduce((sum, side) => sum + side, 0);
  const out = new Float64Array(n * n);
  let at = 0;
  blocks.forEach((block, i) => {
    const side = sides[i];
    for (let r = 0; r < side; r++) out.set(block.subarray(r * side, (r + 1) * side), (at + r) * n + at);
    at += side;
  });
  return out;
}

/** Of a matrix `[n, n]`. */
export function trace(values, n) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += values[i * n + i];
  return sum;
}

/** The sum of matrices over the query heads of each key/value head, along a diagonal `[K * H, K * H]`. */
function perGroup(perHead, K) {
  const size = perHead.length / K;
  return blockDiagonal(
    Array.from({ length: K }, (_, k) =>
      perHead
        .slice(k * size, (k + 1) * size)
        .reduce((sum, one) => sum.map((value, i) => value + one[i]), new Float64Array(perHead[0].length)),
    ),
  );
}

/** What the layer becomes with any number of components: `split`, and `latent` of `jointLatent`. */
export function prepareLayer(library, config, found, planes, method) {
  const { concat, matmul, scope, slice } = library;
  const { numHeads: N, numKeyValueHeads: K, headDim: H, hiddenSize: D } = config;
  return scope(() => {
    const moments = method.moments ? found.moments : matrix(library, identity(D), D);
    const keys = momentsThrough(library, found.key, moments);
    const turn = keyTurn(library, keys, K, H, planes, method.fold);
    const heads = Array.from({ length: N }, (_, n) => slice(found.query, [n * H], [(n + 1) * H]));
    const queries = matrix(
      library,
      perGroup(
        heads.map((head) => momentsThrough(library, head, moments)),
        K,
      ),
      K * H,
    );
    const order = method.rotates === 'first' ? turn.pairs : dearest(library, config, turn, keys, queries);
    const split = splitTurn(library, turn, order.slice(0, method.R / 2));
    const plainKey = matmul(split.plain, found.key);
    const metrics =
      method.errors === 'balanced'
        ? [identity(split.plain.shape[0]), identity(K * H)]
        : [momentsThrough(library, split.plain, queries), perGroup(found.outputs, K)];
    const roots = balanced(library, [plainKey, found.value], moments, metrics);
    const latent = jointLatent(library, concat([plainKey, found.value]), moments, roots);
    return { split, latent };
  });
}

/**
 * The root of both metrics, scaled so that keys and values have the same energy in them (TransMLA's balance).
 * @param projections of the input to keys and to values
 */
function balanced(library, projections, moments, metrics) {
  const { matmul, squareRoots } = library;
  const parts = metrics.map((metric, i) => {
    const n = projections[i].shape[0];
    const { root, inverse } = squareRoots(metric, n);
    const energy = trace(
      momentsThrough(library, matmul(matrix(library, root, n), projections[i]), moments),
      n,
    );
    const scale = 1 / Math.sqrt(energy);
    return { root: root.map((value) => value * scale), inverse: inverse.map((value) => value / scale) };
  });
  return {
    root: blockDiagonal(parts.map(({ root }) => root)),
    inverse: blockDiagonal(parts.map(({ inverse }) => inverse)),
  };
}

/**
 * Pairs by how much their part of the scores changes when they do not rotate: the energies of keys and queries,
 * times the mean of |e^(i angle d) - 1|^2 over the distances d of tokens in a row.
 */
function dearest(library, config, { turn, pairs }, keys, queries) {
  const { numKeyValueHeads: K, headDim: H, rope } = config;
  const n = K * H;
  const turned = matrix(library, turn, n);
  const ofKeys = momentsThrough(library, turned, matrix(library, keys, n));
  const ofQueries = momentsThrough(library, turned, queries);
  const cost = ({ rows: [a, b], plane }) =>
    (ofKeys[a * n + a] + ofKeys[b * n + b]) *
    (ofQueries[a * n + a] + ofQueries[b * n + b]) *
    (1 - meanCosine(rope.theta ** ((-2 * plane) / H)));
  return [...pairs].sort((a, b) => cost(b) - cost(a));
}

/** Over all pairs of tokens of a row of 512. */
function meanCosine(frequency) {
  const length = 512;
  let [sum, weights] = [0, 0];
  for (let distance = 0; distance < length; distance++) {
    sum += (length - distance) * Math.cos(frequency * distance);
    weights += length - distance;
  }
  return sum / weights;
}

/**
 * Components per layer, `total` on average: the same number in each, or in the manner of CARE the components
 * of all layers by their share of their layer's energy.
 */
export function ranksOf(prepared, total, { ranks }) {
  if (ranks === 'even') return prepared.map(() => total);
  const all = prepared.flatMap(({ latent: { energies } }, layer) => {
    const whole = energies.reduce((sum, value) => sum + Math.max(0, value), 0);
    return Array.from(energies, (energy) => ({ layer, share: energy / whole }));
  });
  all.sort((a, b) => b.share - a.share);
  const counts = prepared.map(() => 0);
  for (const { layer } of all.slice(0, total * prepared.length)) counts[layer]++;
  return counts;
}
