/** Random arrays by the formulas of jax.random (kernels/random.c). */

export const RANDOM_KINDS = ['bits', 'uniform', 'normal', 'gumbel', 'bernoulli'] as const;

/**
 * Fills `out`: u32 for bits, bool for bernoulli, else f32. Element i (row-major) has the bits out0 ^ out1 of
 * threefry2x32(key, high word of i, low word of i), and u = 23 of them as a float in [0, 1), scaled to v =
 * max(minval, u * (maxval - minval) + minval) with one rounding. Then: bits (u32); uniform v * scale; normal
 * clamp(factor * erfInv(v), low, high) * scale; gumbel -log(-log(v)); bernoulli (bool) v < high. `key` is two
 * words; the other numbers are f32 values.
 */
export const random = {
  name: 'random',
  fields: {
    kind: RANDOM_KINDS as typeof RANDOM_KINDS,
    out: 'operand',
    count: 'number',
    key: 'numbers',
    minval: 'number',
    maxval: 'number',
    factor: 'number',
    low: 'number',
    high: 'number',
    scale: 'number',
  },
} as const;
