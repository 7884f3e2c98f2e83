/*
 * int8_dot.h: dot products of weights and a few rows of x as codes, with lanes along k. Vectors of groups are
 * added in their order, so a row of x and a row of weights have the same sum stored and decoded, and beside any
 * others.
 */
#ifndef GQA_INT8_DOT_H
#define GQA_INT8_DOT_H
#include "int8_weights.h"

/* The products of two pairs of 16-bit codes per lane. */
#if !INT8_VNNI && !INT8_DOT
GQA_INLINE vi int8_pairs(const int8_code *w, const int8_code *x) {
#if defined(__wasm__)
  return (vi)wasm_i32x4_dot_i16x8(wasm_v128_load(w), wasm_v128_load(x)) + (vi)wasm_i32x4_dot_i16x8(wasm_v128_load(w + 8), wasm_v128_load(x + 8));
#else
  const __m128i *a = (const __m128i *)w, *b = (const __m128i *)x;
  return (vi)_mm_madd_epi16(_mm_loadu_si128(a), _mm_loadu_si128(b)) + (vi)_mm_madd_epi16(_mm_loadu_si128(a + 1), _mm_loadu_si128(b + 1));
#endif
}
#endif

/* sum += the products of a vector of codes and x's; is_signed: the codes are (INT8_OFFSET is 0). */
GQA_INLINE vi int8_dot(const int is_signed, vi sum, int8_bytes w, const int8_code *x) {
#if INT8_VNNI && VL == 16
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, _mm512_loadu_si512(x));
#elif INT8_VNNI
  return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)w, _mm256_loadu_si256((const __m256i *)x));
#elif INT8_DOT
  return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)w, vld1q_s8(x));
#else
  int8_code codes[INT8_HALF];
  int8_store_bytes(codes, w, is_signed);
  return sum + int8_pairs(codes, x);
#endif
}
/* The same for codes in memory. */
GQA_INLINE vi int8_dot_stored(const int is_signed, vi sum, const int8_code *w, const int8_code *x) {
#if INT8_VNNI || INT8_DOT
  int8_bytes codes;
  memcpy(&codes, w, sizeof codes);
  return int8_dot(is_signed, sum, codes, x);
#else
  return sum + int8_pairs(w, x);
#endif
}

/* Lanes of the scales of the groups of a vector: each four times. */
GQA_INLINE vf int8_spread(const float *scales) {
#if VL == 16
  return (vf)_mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), _mm512_castps128_ps512(_mm_loadu_ps(scales)));
#elif VL == 8
  return (vf)_mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(scales)), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
#else
  return vf_set(scales[0]);
#endif
}

/* -INT8_OFFSET times x's codes of a vector, in lanes, where the kind has signed codes. */
GQA_INLINE vi int8_start(const int kind, vi sum, const int8_code *x) {
#if INT8_VNNI
  if (kind != INT8_MINIMUM) return sum - int8_dot(0, vi_set(0), int8_set(INT8_OFFSET), x);
#endif
  return sum;
}

/*
 * acc += the scaled products of a vector of codes (low and high half), as registers or, with dot =
 * int8_dot_stored, in memory; start: int8_starts; scales: of the halves (INT8_HALVES), or scale0 of both.
 */
#define INT8_ADD(kind, acc, dot, low, high, x, start, scale0, scale1, x_scale)                               \
  {                                                                                                          \
    const int is_signed = (kind) != INT8_MINIMUM;                                                            \
    const vi first = dot(is_signed, (start)[0], low, x);                                                     \
    const vi second = dot(is_signed, (kind) == INT8_HALVES ? (start)[1] : first, high, (x) + INT8_TOGETHER * INT8_HALF); \
    if ((kind) == INT8_HALVES) acc = vf_fma(__builtin_convertvector(first, vf) * (x_scale), scale0, acc);    \
    acc = vf_fma(__builtin_convertvector(second, vf) * (x_scale), (kind) == INT8_HALVES ? (scale1) : (scale0), acc); \
  }
GQA_INLINE void int8_starts(const int kind, const int8_code *x, vi *start) {
  const int8_code *high = x + INT8_TOGETHER * INT8_HALF;
  start[0] = int8_start(kind, vi_set(0), x);
  if (kind == INT8_HALVES) start[1] = int8_start(kind, vi_set(0), high);
  else start[0] = int8_start(kind, start[0], high);
}

/* Words of spread scales, those of missing groups 0: what follows in memory is not theirs. */
GQA_INLINE size_t int8_spread_words(size_t groups) { return gqa_ceil(groups, INT8_TOGETHER) * VL; }
GQA_INLINE void int8_spread_scales(const float *scales, size_t groups, float *to) {
  for (size_t g = 0; g < groups; g += INT8_TOGETHER) vf_store(to + g * 4, int8_spread(scales + g));
  memset(to + groups * 4, 0, (int8_spread_words(groups) - groups * 4) * sizeof *to);
}

/* Minimums g, g + 1, … of n groups, the others 0: what follows in memory is not theirs. */
GQA_INLINE vf int8_minimums(const float *minimums, size_t g, size_t n) { return vf_load_upto(minimums + g, n - g); }

/*
 * The lanes of a stored row of weights times x, whose scales are spread. w: the row's scales and minimums, with
 * a vector to read past each, which is 0 for scales.
 */
GQA_INLINE vf int8_stored_dot(const int type, const uint8_t *p, size_t groups, int8_weights w, int8_row x) {
  const int kind = int8_kind(type);
  vf acc = vf_set(0.0f), minimum = vf_set(0.0f);
  for (size_t g = 0; g < groups && kind == INT8_MINIMUM; g += VL) minimum = vf_fma(int8_minimums(w.minimums, g, groups), vf_load(x.sums + g), minimum);
  INT8_EACH_VECTOR(type, p, groups, {
    const int8_code *codes = x.codes + v * 2 * INT8_TOGETHER * INT8_HALF;
    const vf scale0 = int8_spread(w.scales[0] + v * INT8_TOGETHER), scale1 = int8_spread(w.scales[1] + v * INT8_TOGETHER);
    vi start[2];
    int8_starts(kind, codes, start);
    INT8_ADD(kind, acc, int8_dot, low, high, codes, start, scale0, scale1, vf_load(x.scales + v * VL))
  })
  return acc + minimum;
}

/*
 * totals[j] = the lanes of decoded weight row j times x, for INT8_W rows. Scales of both are spread; minimums
 * end in zeros.
 */
enum { INT8_W = 4 };
GQA_INLINE void int8_decoded_dots(const int kind, const int8_weights *w, size_t groups, int8_row x, float (*totals)[VL]) {
  vf acc[INT8_W], minimums[INT8_W];
  GQA_UNROLL(4)
  for (int j = 0; j < INT8_W; j++) acc[j] = minimums[j] = vf_set(0.0f);
  for (size_t g = 0; g < groups && kind == INT8_MINIMUM; g += VL)
    GQA_UNROLL(4)
    for (int j = 0; j < INT8_W; j++) minimums[j] = vf_fma(vf_load(w[j].minimums + g), vf_load(x.sums + g), minimums[j]);
  for (size_t v = 0; v < gqa_ceil(groups, INT8_TOGETHER); v++) {
    const size_t at = v * 2 * INT8_TOGETHER * INT8_HALF;
    const vf x_scale = vf_load(x.scales + v * VL);
    vi start[2];
    int8_starts(kind, x.codes + at, start);
    GQA_UNROLL(4)
    for (int j = 0; j < INT8_W; j++) INT8_ADD(kind, acc[j], int8_dot_stored, w[j].codes + at, w[j].codes + at + INT8_TOGETHER * INT8_HALF, x.codes + at, start, vf_load(w[j].scales[0] + v * VL), vf_load(w[j].scales[1] + v * VL), x_scale)
  }
  GQA_UNROLL(4)
  for (int j = 0; j < INT8_W; j++) vf_store(totals[j], acc[j] + minimums[j]);
}

#endif
