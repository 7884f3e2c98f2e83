/** What each step of the conversion changes: the largest difference of logits on one row of tokens. */
import {
  jointLatent,
  keyTurn,
  latentLayer,
  matrix,
  momentsThrough,
  noTurn,
  splitTurn,
} from './latent-layer.mjs';
import { identity } from './methods.mjs';
import { latentConfig, logitsOf } from './model.mjs';

/** `[step, change]` of each, relative to the largest logit; the last is a change against the step before it. */
export function exactness(library, decoder, statistics, planes, row) {
  const { config } = decoder;
  const { numKeyValueHeads: K, headDim: H } = config;
  const { concat, matmul } = library;
  const before = logitsOf(library, decoder, row, (index) => ({ layer: decoder.layers[index] }));
  const largest = before.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const difference = (a, b) =>
    a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0) / largest;
  const turned = (found) =>
    keyTurn(library, momentsThrough(library, found.key, found.moments), K, H, planes, 1);

  /** The logits with layers that keep R rotating dims and a latent of L numbers. */
  const withLayers = (pairsOf, R, latentOf) =>
    logitsOf(library, decoder, row, (index) => {
      const found = statistics[index];
      const turn = pairsOf(found);
      const split = splitTurn(library, turn, turn.pairs.slice(0, R / 2));
      const A = concat([matmul(split.plain, found.key), found.value]);
      const L = A.shape[0];
      const latent = latentOf(A, found);
      const layer = latentLayer(library, config, decoder.layers[index], found, split, latent, L);
      return { layer, config: latentConfig(config, R + L), planes: split.planes };
    });
  const plain = (A) => ({ down: A, up: matrix(library, identity(A.shape[0]), A.shape[0]) });
  const principal = (A, found) => {
    const same = identity(A.shape[0]);
    return jointLatent(library, A, found.moments, { root: same, inverse: same });
  };

  const all = K * H;
  const merged = withLayers(() => noTurn(K, H, planes), all, plain);
  const apart = withLayers(turned, H, plain);
  return [
    ['heads merged into one', difference(before, merged)],
    ['keys turned', difference(before, withLayers(turned, all, plain))],
    ['values in all of their principal components', difference(before, withLayers(turned, all, principal))],
    [`no RoPE on all but ${H} dims of the keys`, difference(before, apart)],
    [
      'the keys without RoPE and the values in all of their joint principal components',
      difference(apart, withLayers(turned, H, principal)),
    ],
  ];
}
