/*
 * simd.h: the vector operations that every kernel is written over, once.
 *
 * VL is the width in f32 lanes: 16 (AVX-512), 8 (AVX2 + FMA + F16C), 4 (SSE2 baseline, NEON, WASM SIMD128). The arithmetic is
 * compiler vector extensions (gcc, clang); intrinsics stand only where the compilers do not find the instruction.
 * Loads and stores need no alignment. Accuracy: vf_exp within 2 ulp on [-87, 88]; below it flushes to 0, above to infinity.
 */
#ifndef GQA_SIMD_H
#define GQA_SIMD_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef VL
#error "define VL: 16, 8 or 4"
#endif
#if VL == 16 || VL == 8
#include <immintrin.h>
#endif
#if defined(__wasm__)
#include <wasm_simd128.h>
#endif

#define GQA_INLINE static inline __attribute__((always_inline, unused))
#define GQA_NOINLINE static __attribute__((noinline, unused))
#define GQA_UNROLL(n) _Pragma("GCC unroll " #n)

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
GQA_INLINE vf vf_set(float x) {
  vf zero = {0};
  return zero + x;
}
GQA_INLINE vi vi_set(int32_t x) {
  vi zero = {0};
  return zero + x;
}

/* a * b + c: fused where the target has it (native contracts the expression; relaxed SIMD needs the intrinsic). */
GQA_INLINE vf vf_fma(vf a, vf b, vf c) {
#if defined(__wasm_relaxed_simd__)
  return (vf)wasm_f32x4_relaxed_madd((v128_t)a, (v128_t)b, (v128_t)c);
#else
  return a * b + c;
#endif
}

/* mask lanes are all ones or all zeros, as comparisons give them. */
GQA_INLINE vf vf_select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

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

/* Horizontal sum and max, by halves: the same order on every call. */
GQA_INLINE float vf_sum(vf v) {
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

/* exp(x). Cody-Waite reduction by ln 2 and a degree-6 polynomial (the coefficients are Cephes' expf). */
GQA_INLINE vf vf_exp(vf x) {
  vf low = vf_set(-87.3365447f), high = vf_set(88.3762626f);
  vf c = vf_max(vf_min(x, high), low);
  vf magic = vf_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
  vf t = vf_fma(c, vf_set(1.44269504088896341f), magic);
  vi n = (vi)t;
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
  r = (vf)((vi)r + (n << 23));
  r = vf_select(x < low, vf_set(0.0f), r);
  r = vf_select(x > high, vf_set(__builtin_inff()), r);
  return vf_select(x == x, r, x);
}

/* tanh(x) = 1 - 2 / (1 + exp(2x)), absolute error below 2e-7; the sign is put back so that small x stay exact to 1e-7 of 1. */
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

/* --- narrow storage --- */

/* One f16 value; exact for every bit pattern but NaN payloads. */
GQA_INLINE float half_to_float(uint16_t h) {
#if defined(__F16C__)
  return _cvtsh_ss(h);
#else
  uint32_t bits = (uint32_t)(h & 0x7fff) << 13;
  float f;
  memcpy(&f, &bits, 4);
  f *= 0x1p112f; /* moves the exponent bias from 15 to 127, subnormals included */
  memcpy(&bits, &f, 4);
  if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000u;
  bits |= (uint32_t)(h & 0x8000) << 16;
  memcpy(&f, &bits, 4);
  return f;
#endif
}

GQA_INLINE vf vf_load_f16(const uint16_t *p) {
#if VL == 16
  return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif VL == 8
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
  vh h;
  memcpy(&h, p, sizeof h);
  vi w = __builtin_convertvector(h, vi);
  vf f = (vf)((w & 0x7fff) << 13) * 0x1p112f;
  vi special = ((w & 0x7c00) == 0x7c00) & vi_set(0x7f800000);
  return (vf)((vi)f | special | ((w & 0x8000) << 16));
#endif
}

GQA_INLINE vf vf_load_bf16(const uint16_t *p) {
  vh h;
  memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
}

GQA_INLINE uint16_t float_to_bfloat(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* Rounds to nearest even, subnormals included. */
GQA_INLINE uint16_t float_to_half(float x) {
#if defined(__F16C__)
  return (uint16_t)_cvtss_sh(x, 0);
#else
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return sign | 0x7e00;
  if (bits >= 0x47800000u) return sign | 0x7c00;
  if (bits < 0x38800000u) { /* subnormal: adding 0.5 lets the hardware round to units of 2^-24 */
    float f, half = 0.5f;
    memcpy(&f, &bits, 4);
    f += half;
    memcpy(&bits, &f, 4);
    return sign | (uint16_t)(bits - 0x3f000000u);
  }
  return sign | (uint16_t)((bits + 0xfff + ((bits >> 13) & 1) - 0x38000000u) >> 13);
#endif
}

/* VL bytes as f32. */
GQA_INLINE vf vf_load_u8(const uint8_t *p) { return __builtin_convertvector(__builtin_convertvector(*(const vb_u *)p, vi), vf); }
GQA_INLINE vf vf_load_i8(const int8_t *p) { return __builtin_convertvector(__builtin_convertvector(*(const vc_u *)p, vi), vf); }

#endif
