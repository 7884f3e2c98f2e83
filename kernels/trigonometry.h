/*
 * trigonometry.h: sine and cosine of one f32, computed in f64 and rounded once: x is a multiple n of pi/2 and
 * a rest |r| <= pi/4, of which a Taylor series gives the result.
 *
 * Source: Payne and Hanek 1983, "Radian reduction for trigonometric functions" (large x); the 32-bit windows
 * on the bits of 2/pi follow Arm's optimized-routines (sincosf.h).
 */
#ifndef GQA_TRIGONOMETRY_H
#define GQA_TRIGONOMETRY_H
#include "simd.h"

/* |x| >= 2^20 by 96 bits of 2/pi; `bits` are those of |x|. Returns r and sets n modulo 4. */
static double trigonometry_reduce(uint32_t bits, int *n) {
  static const uint32_t windows[24] = {0xa2,       0xa2f9,     0xa2f983,   0xa2f9836e, 0xf9836e4e, 0x836e4e44, 0x6e4e4415, 0x4e441529,
                                       0x441529fc, 0x1529fc27, 0x29fc2757, 0xfc2757d1, 0x2757d1f5, 0x57d1f534, 0xd1f534dd, 0xf534ddc0,
                                       0x34ddc0db, 0xddc0db62, 0xc0db6295, 0xdb629599, 0x6295993c, 0x95993c43, 0x993c4390, 0x3c439041};
  const uint32_t *w = windows + ((bits >> 26) & 15);
  const uint32_t mantissa = ((bits & 0x7fffff) | 0x800000) << ((bits >> 23) & 7);
  const uint64_t low = (uint64_t)mantissa * w[8] >> 32;
  uint64_t turns = ((uint64_t)(mantissa * w[0]) << 32 | low) + (uint64_t)mantissa * w[4];
  const uint64_t whole = (turns + (1ull << 61)) >> 62;
  *n = (int)whole;
  return (double)(int64_t)(turns - (whole << 62)) * 0x1.921fb54442d18p-62;
}

/* sin(x), or with `quarter` 1 sin(x + pi/2) = cos(x); NaN for infinities. */
static float trigonometry_sine(float x, int quarter) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits &= 0x7fffffff;
  if (bits >= 0x7f800000) return x - x;
  int n;
  double r;
  if (bits < 0x49800000) { /* 2^20: n pi/2 is exact in the first 33 bits of pi/2 */
    const double whole = ((double)x * 0.63661977236758134 + 0x1.8p52) - 0x1.8p52;
    r = ((double)x - whole * 1.57079632673412561417) - whole * 6.07710050650619224932e-11;
    n = (int)whole;
  } else {
    r = trigonometry_reduce(bits, &n);
    if (x < 0) r = -r, n = -n;
  }
  n += quarter;
  const double z = r * r;
  const double value = n & 1 ? 1 - z / 2 * (1 - z / 12 * (1 - z / 30 * (1 - z / 56 * (1 - z / 90)))) : r * (1 - z / 6 * (1 - z / 20 * (1 - z / 42 * (1 - z / 72 * (1 - z / 110)))));
  return (float)(n & 2 ? -value : value);
}

GQA_INLINE vf vf_sine(vf x, int quarter) {
  for (int i = 0; i < VL; i++) x[i] = trigonometry_sine(x[i], quarter);
  return x;
}

#endif
