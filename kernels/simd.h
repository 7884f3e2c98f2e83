/*
 * simd.h: the vector operations that all kernels use.
 *
 * VL, which each unit defines before it includes the kernels, is the width in f32 lanes: 16 (AVX-512), 8
 * (AVX2 + FMA + F16C), 4 (SSE2 baseline, NEON, WASM SIMD128). It is the one macro without a prefix. The
 * arithmetic is compiler vector extensions (gcc, clang); intrinsics are used only where the compilers do not
 * find the instruction. Loads and stores need no alignment. Accuracy: vf_exp within 2 ulp over the whole
 * range of f32.
 */
#ifndef GQA_SIMD_H
#define GQA_SIMD_H
#include <stddef.h>
#include <stdint.h>
#if defined(__wasm__)
/* Freestanding: with bulk memory the compiler turns these into instructions. */
#define memcpy __builtin_memcpy
#define memset __builtin_memset
#else
#include <string.h>
#endif

#ifndef VL
#error "define VL: 16, 8 or 4"
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#endif
#if defined(__wasm__)
#include <wasm_simd128.h>
#endif

#define GQA_INLINE static inline __attribute__((always_inline, unused))
#define GQA_NOINLINE static __attribute__((noinline, unused))
#define GQA_PRAGMA(text) _Pragma(#text)
#define GQA_UNROLL(n) GQA_PRAGMA(GCC unroll n)

/*
 * Repeats the statement for each value of a list, with GQA_VALUE as a constant, so that inlined code is
 * specialised for it. A list is a macro: #define LIST(X, ...) X(VALUE, __VA_ARGS__) X(OTHER, __VA_ARGS__)
 */
#define GQA_SPECIALISE(list, value, ...) switch (value) { list(GQA_CASE, __VA_ARGS__) }
#define GQA_CASE(value, ...) case value: { enum { GQA_VALUE = value }; __VA_ARGS__; break; }
/* The values of a list for an enum: enum { LIST(GQA_NAME) }. */
#define GQA_NAME(value, ...) value,

/* The sums that a micro kernel keeps in registers. NEON has 32 registers, but gcc spills with 24 sums. */
#if VL == 16
#define VF_SUMS 24
#elif defined(__aarch64__)
#define VF_SUMS 16
#else
#define VF_SUMS 12
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef float vf_u __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef int32_t vi_u __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint8_t vb_u __attribute__((vector_size(VL), aligned(1), may_alias));
typedef int8_t vc_u __attribute__((vector_size(VL), aligned(1), may_alias));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
typedef uint16_t vh_u __attribute__((vector_size(VL * 2), aligned(2), may_alias));

GQA_INLINE vf vf_load(const float *p) { return *(const vf_u *)p; }
GQA_INLINE void vf_store(float *p, vf v) { *(vf_u *)p = v; }
GQA_INLINE vi vi_load(const int32_t *p) { return *(const vi_u *)p; }
/* x - 0 is x for every x, so this compiles to a broadcast; 0 + x is not (-0), and costs an addition. */
GQA_INLINE vf vf_set(float x) {
  vf zero = {0};
  return x - zero;
}
GQA_INLINE vi vi_set(int32_t x) {
  vi zero = {0};
  return x - zero;
}

/*
 * a * b + c: fused where the target has it (native contracts the expression; relaxed SIMD needs the
 * intrinsic).
 */
GQA_INLINE vf vf_fma(vf a, vf b, vf c) {
#if defined(__wasm_relaxed_simd__)
  return (vf)wasm_f32x4_relaxed_madd((v128_t)a, (v128_t)b, (v128_t)c);
#else
  return a * b + c;
#endif
}

/* mask lanes are all ones or all zeros, as from comparisons. */
GQA_INLINE vf vf_select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* True when every lane of a comparison's result is set. */
GQA_INLINE int vi_all(vi mask) {
#if VL == 16
  return _mm512_movepi32_mask((__m512i)mask) == 0xffff;
#elif VL == 8
  return _mm256_movemask_ps((__m256)mask) == 0xff;
#elif defined(__wasm__)
  return wasm_i32x4_all_true((v128_t)mask);
#elif defined(__aarch64__)
  return vminvq_u32((uint32x4_t)mask) != 0;
#else
  int all = -1;
  for (int i = 0; i < VL; i++) all &= mask[i];
  return all;
#endif
}

/* max and min: when either operand is NaN the second is returned, as x86 does. */
GQA_INLINE vf vf_max(vf a, vf b) {
#if VL == 16
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif VL == 8
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__wasm__)
  return (vf)wasm_f32x4_pmax((v128_t)b, (v128_t)a);
#else
  return vf_select(a > b, a, b);
#endif
}
GQA_INLINE vf vf_min(vf a, vf b) {
#if VL == 16
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif VL == 8
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__wasm__)
  return (vf)wasm_f32x4_pmin((v128_t)b, (v128_t)a);
#else
  return vf_select(a < b, a, b);
#endif
}

GQA_INLINE vf vf_sqrt(vf v) {
#if VL == 16
  return (vf)_mm512_sqrt_ps((__m512)v);
#elif VL == 8
  return (vf)_mm256_sqrt_ps((__m256)v);
#elif defined(__wasm__)
  return (vf)wasm_f32x4_sqrt((v128_t)v);
#elif defined(__SSE2__)
  return (vf)_mm_sqrt_ps((__m128)v);
#else
  vf r;
  for (int i = 0; i < VL; i++) r[i] = __builtin_sqrtf(v[i]);
  return r;
#endif
}
GQA_INLINE vf vf_abs(vf v) { return (vf)((vi)v & vi_set(0x7fffffff)); }

/* --- lanes --- */

/*
 * Lanes of a (0 … VL - 1) and b (VL … 2 VL - 1) by constant numbers. gcc has clang's builtin from version 12
 * on.
 */
#if defined(__clang__) || __GNUC__ >= 12
#define VF_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VF_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

#if VL == 16
#define GQA_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define GQA_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define GQA_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define GQA_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define GQA_SWAP_PAIRS 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#elif VL == 8
#define GQA_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define GQA_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define GQA_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define GQA_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define GQA_SWAP_PAIRS 1, 0, 3, 2, 5, 4, 7, 6
#else
#define GQA_ZIP_LOW 0, 4, 1, 5
#define GQA_ZIP_HIGH 2, 6, 3, 7
#define GQA_EVEN 0, 2, 4, 6
#define GQA_ODD 1, 3, 5, 7
#define GQA_SWAP_PAIRS 1, 0, 3, 2
#endif

/* [a b c d ...] -> [b a d c ...] */
GQA_INLINE vf vf_swap_pairs(vf v) { return VF_SHUFFLE(v, v, GQA_SWAP_PAIRS); }

/* The VL x VL transpose, in place: log2(VL) rounds of a perfect shuffle. */
GQA_INLINE void vf_transpose(vf *v) {
  GQA_UNROLL(4)
  for (int round = 1; round < VL; round *= 2) {
    vf t[VL];
    GQA_UNROLL(8)
    for (int i = 0; i < VL / 2; i++) {
      t[2 * i] = VF_SHUFFLE(v[i], v[i + VL / 2], GQA_ZIP_LOW);
      t[2 * i + 1] = VF_SHUFFLE(v[i], v[i + VL / 2], GQA_ZIP_HIGH);
    }
    GQA_UNROLL(16)
    for (int i = 0; i < VL; i++) v[i] = t[i];
  }
}

/* Lanes 0 to 3 of the result are the sums of a, b, c and d (neighbouring lanes first). */
GQA_INLINE vf vf_sum4(vf a, vf b, vf c, vf d) {
  a = VF_SHUFFLE(a, b, GQA_EVEN) + VF_SHUFFLE(a, b, GQA_ODD);
  c = VF_SHUFFLE(c, d, GQA_EVEN) + VF_SHUFFLE(c, d, GQA_ODD);
  a = VF_SHUFFLE(a, c, GQA_EVEN) + VF_SHUFFLE(a, c, GQA_ODD);
  for (int n = VL; n > 4; n /= 2) a = VF_SHUFFLE(a, a, GQA_EVEN) + VF_SHUFFLE(a, a, GQA_ODD);
  return a;
}

/* Horizontal sum and max, by halves: the same order on every call. */
GQA_INLINE float vf_sum(vf v) {
#if VL == 16
  return _mm512_reduce_add_ps((__m512)v);
#endif
  float a[VL];
  vf_store(a, v);
  for (int n = VL / 2; n > 0; n /= 2)
    for (int i = 0; i < n; i++) a[i] += a[i + n];
  return a[0];
}
GQA_INLINE float vf_hmax(vf v) {
  float a[VL];
  vf_store(a, v);
  for (int n = VL / 2; n > 0; n /= 2)
    for (int i = 0; i < n; i++) a[i] = a[i] > a[i + n] ? a[i] : a[i + n];
  return a[0];
}

/* The first n < VL lanes; the others load as 0 and are not stored. */
GQA_INLINE vf vf_load_n(const float *p, int n) {
#if VL == 16
  return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
  float a[VL] = {0};
  memcpy(a, p, (size_t)n * sizeof(float));
  return vf_load(a);
#endif
}
GQA_INLINE void vf_store_n(float *p, vf v, int n) {
#if VL == 16
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
  float a[VL];
  vf_store(a, v);
  memcpy(p, a, (size_t)n * sizeof(float));
#endif
}

/* The next VL elements of which `left` are left: as many as there are. */
GQA_INLINE vf vf_load_upto(const float *p, size_t left) { return left >= VL ? vf_load(p) : vf_load_n(p, (int)left); }
GQA_INLINE void vf_store_upto(float *p, vf v, size_t left) {
  if (left >= VL) vf_store(p, v);
  else vf_store_n(p, v, (int)left);
}

/*
 * e^x from the smallest subnormal (x = -103.97) to the largest f32 (88.72), 0 below and infinity above.
 * Cody-Waite reduction by ln 2 and a degree-6 polynomial (the coefficients are Cephes' expf).
 */
GQA_INLINE vf vf_exp(vf x) {
  vf c = vf_max(vf_min(x, vf_set(89.0f)), vf_set(-105.0f));
  vf magic = vf_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
  vf t = vf_fma(c, vf_set(1.44269504088896341f), magic);
  vi n = (vi)t - (vi)magic;
  t = t - magic;
  vf f = vf_fma(t, vf_set(-0.693359375f), c);
  f = vf_fma(t, vf_set(2.12194440e-4f), f);
  vf p = vf_set(1.9875691500e-4f);
  p = vf_fma(p, f, vf_set(1.3981999507e-3f));
  p = vf_fma(p, f, vf_set(8.3334519073e-3f));
  p = vf_fma(p, f, vf_set(4.1665795894e-2f));
  p = vf_fma(p, f, vf_set(1.6666665459e-1f));
  p = vf_fma(p, f, vf_set(5.0000001201e-1f));
  vf r = vf_fma(p, f * f, f) + 1.0f;
#if VL == 16
  (void)n;
  r = (vf)_mm512_scalef_ps((__m512)r, (__m512)t);
#else
  /*
   * 2^n in two factors, each a normal number: the second product rounds into the subnormals, or to infinity.
   */
  vi half = n >> 1;
  r = r * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
#endif
  return vf_select(x == x, r, x);
}

/* tanh(x) = 1 - 2 / (1 + exp(2x)), absolute error below 2e-7; computed on |x| with the sign restored. */
GQA_INLINE vf vf_tanh(vf x) {
  vi sign = (vi)x & vi_set((int32_t)0x80000000u);
  vf magnitude = (vf)((vi)x & vi_set(0x7fffffff));
  vf big = vf_set(1.0f) - 2.0f / (vf_exp(magnitude + magnitude) + 1.0f);
  vf square = x * x; /* |x| < 1/4: the odd Taylor terms keep relative accuracy */
  vf p = vf_fma(square, vf_set(-17.0f / 315.0f), vf_set(2.0f / 15.0f));
  p = vf_fma(square, p, vf_set(-1.0f / 3.0f));
  vf small = vf_fma(magnitude * square, p, magnitude);
  vf r = vf_select(magnitude < vf_set(0.25f), small, big);
  return vf_select(x == x, (vf)((vi)r | sign), x);
}

/* ln(x): 1 ulp or so; subnormals included, ln(0) = -infinity, NaN below 0. The polynomial is Cephes' logf. */
GQA_INLINE vf vf_log(vf x) {
  vi tiny = x < vf_set(0x1p-126f);
  vf scaled = vf_select(tiny, x * 0x1p23f, x);
  vi bits = (vi)((vu)scaled - 0x3f3504f3u); /* sqrt(1/2): the mantissa ends in [sqrt(1/2), sqrt(2)) */
  vi exponent = (bits >> 23) - (tiny & vi_set(23));
  vf m = (vf)((bits & vi_set(0x007fffff)) + vi_set(0x3f3504f3)) - 1.0f;
  vf e = __builtin_convertvector(exponent, vf);
  vf z = m * m;
  vf p = vf_set(7.0376836292e-2f);
  p = vf_fma(p, m, vf_set(-1.1514610310e-1f));
  p = vf_fma(p, m, vf_set(1.1676998740e-1f));
  p = vf_fma(p, m, vf_set(-1.2420140846e-1f));
  p = vf_fma(p, m, vf_set(1.4249322787e-1f));
  p = vf_fma(p, m, vf_set(-1.6668057665e-1f));
  p = vf_fma(p, m, vf_set(2.0000714765e-1f));
  p = vf_fma(p, m, vf_set(-2.4999993993e-1f));
  p = vf_fma(p, m, vf_set(3.3333331174e-1f));
  vf y = vf_fma(p * m, z, e * -2.12194440e-4f);
  y = vf_fma(z, vf_set(-0.5f), y);
  vf r = vf_fma(e, vf_set(0.693359375f), m + y);
  vf infinity = vf_set(__builtin_inff());
  r = vf_select(x == 0.0f, -infinity, r);
  r = vf_select(x == infinity, infinity, r);
  return vf_select(x >= 0.0f, r, vf_set(__builtin_nanf("")));
}

/*
 * erf(x), absolute error below 4.5e-7, exactly +-1 from |x| = 4 on: the rational approximation on [-4, 4]
 * that Eigen and XLA use.
 */
GQA_INLINE vf vf_erf(vf x) {
  vf c = vf_max(vf_min(x, vf_set(4.0f)), vf_set(-4.0f)), z = c * c;
  vf p = vf_set(-2.72614225801306e-10f);
  p = vf_fma(p, z, vf_set(2.77068142495902e-08f));
  p = vf_fma(p, z, vf_set(-2.10102402082508e-06f));
  p = vf_fma(p, z, vf_set(-5.69250639462346e-05f));
  p = vf_fma(p, z, vf_set(-7.34990630326855e-04f));
  p = vf_fma(p, z, vf_set(-2.95459980854025e-03f));
  p = vf_fma(p, z, vf_set(-1.60960333262415e-02f));
  vf q = vf_set(-1.45660718464996e-05f);
  q = vf_fma(q, z, vf_set(-2.13374055278905e-04f));
  q = vf_fma(q, z, vf_set(-1.68282697438203e-03f));
  q = vf_fma(q, z, vf_set(-7.37332916720468e-03f));
  q = vf_fma(q, z, vf_set(-1.42647390514189e-02f));
  vf r = vf_select(vf_abs(c) == 4.0f, c * 0.25f, c * p / q);
  return vf_select(x == x, r, x);
}

#include "narrow.h"

#endif
