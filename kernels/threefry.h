/*
 * threefry.h: the random bits of JAX. Element i of an array drawn from `key` has bits out0 ^ out1 of
 * Threefry-2x32 with 20 rounds on the counter (high word of i, low word of i).
 *
 * Source: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"; jax/_src/prng.py, threefry_2x32
 * and the partitionable form of random_bits (JAX's default).
 */
#ifndef GQA_THREEFRY_H
#define GQA_THREEFRY_H
#include "simd.h"

GQA_INLINE vu vu_rotate(vu x, int bits) { return (x << bits) | (x >> (32 - bits)); }

/* VL elements at once: counters (high, low), one key. */
GQA_INLINE vu vu_threefry_bits(uint32_t key0, uint32_t key1, vu high, vu low) {
  static const int rotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  uint32_t keys[3] = {key0, key1, key0 ^ key1 ^ 0x1BD11BDAu};
  vu x0 = high + keys[0], x1 = low + keys[1];
  for (int group = 0; group < 5; group++) {
    for (int round = 0; round < 4; round++) {
      x0 += x1;
      x1 = vu_rotate(x1, rotations[group & 1][round]);
      x1 ^= x0;
    }
    x0 += keys[(group + 1) % 3];
    x1 += keys[(group + 2) % 3] + (uint32_t)(group + 1);
  }
  return x0 ^ x1;
}

/* Uniform floats in [0, 1) from bits, as jax.random.uniform makes them: 23 bits of mantissa. */
GQA_INLINE vf vf_uniform(vu bits) { return (vf)((bits >> 9) | 0x3f800000u) - 1.0f; }
#endif
