/**
 * Random keys and samplers, as in JAX.
 * @module gqa/random
 */
export { type CategoricalOptions, categorical, permutation, randint } from './integers.ts';
export { foldIn, key, PRNGKey, split } from './key.ts';
export {
  bernoulli,
  bits,
  gumbel,
  normal,
  truncatedNormal,
  type UniformOptions,
  uniform,
} from './samplers.ts';
