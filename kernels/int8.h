/*
 * int8.h: products of 8-bit activations and block-quantized weights, in integers.
 *
 * A group of 32 values of x becomes codes of -127 to 127 and a scale, its largest magnitude / 127, as in
 * llama.cpp. A weight is scale * code + minimum (quant.h), with one scale per group, or per half a group
 * (q6_k). So a group's product is scale * x's scale * (sum of code * x's code, exact in 32 bits) + minimum *
 * (the sum of x). Codes keep the form that the processor multiplies:
 *
 * - INT8_VNNI (x86): four unsigned bytes of weights times four signed bytes of x per lane;
 * - INT8_DOT (arm64): four signed bytes of both;
 * - otherwise two 16-bit integers of both per lane: WASM (its SIMD128 is exact in every engine), SSE2.
 *
 * Numerics: integers are exact; scales, minimums and sums are f32. A group of x with a NaN or an infinity has
 * the scale NaN, so the results of its row are NaN.
 */
#ifndef GQA_INT8_H
#define GQA_INT8_H
#include "quant.h"
#include "tasks.h"

#if (VL == 16 && defined(__AVX512VNNI__)) || (VL == 8 && defined(__AVXVNNI__))
#define INT8_VNNI 1
#else
#define INT8_VNNI 0
#endif
#if defined(__ARM_FEATURE_DOTPROD)
#define INT8_DOT 1
#else
#define INT8_DOT 0
#endif

#if INT8_VNNI || INT8_DOT
typedef int8_t int8_code;
#else
typedef int16_t int8_code;
#endif

/*
 * Codes in the 32 bits of a lane. A group is summed in four lanes, so a vector has INT8_TOGETHER groups: the
 * first halves of so many groups lie beside each other, then the second halves. INT8_WORDS words are half a
 * group. INT8_AHEAD groups: whose scales are decoded before their codes.
 */
enum { INT8_STEP = 4 / sizeof(int8_code), INT8_TOGETHER = VL / 4, INT8_HALF = GQA_GROUP / 2, INT8_WORDS = INT8_HALF / INT8_STEP, INT8_AHEAD = 32 };

/*
 * What differs between types: minimums (or an offset, which becomes one), or signed codes, with a scale per
 * group or half a group. Where the unit multiplies unsigned codes, INT8_OFFSET is added to signed ones and its
 * products with x are subtracted, in integers.
 */
enum { INT8_OFFSET = INT8_VNNI ? 128 : 0 };
enum { INT8_MINIMUM, INT8_SIGNED, INT8_HALVES };
#define INT8_KINDS(X, ...) X(INT8_MINIMUM, __VA_ARGS__) X(INT8_SIGNED, __VA_ARGS__) X(INT8_HALVES, __VA_ARGS__)
GQA_INLINE int int8_kind(int type) { return type == GQA_Q8_0 ? INT8_SIGNED : type == GQA_Q6_K ? INT8_HALVES : INT8_MINIMUM; }

#define INT8_TYPES(X, ...) X(GQA_Q8_0, __VA_ARGS__) X(GQA_Q4_0, __VA_ARGS__) X(GQA_Q4_1, __VA_ARGS__) GQA_INT8_K_TYPES(X, __VA_ARGS__)

/* Groups of k values in whole vectors of scales, and the words of their codes. */
GQA_INLINE size_t int8_groups(size_t k) { return gqa_ceil(k / GQA_GROUP, VL) * VL; }
GQA_INLINE size_t int8_words(size_t k) { return gqa_ceil(k / GQA_GROUP, INT8_TOGETHER) * INT8_TOGETHER * 2 * INT8_WORDS; }
/* The first word of half h of group g. */
GQA_INLINE size_t int8_word(size_t g, int h) { return ((g / INT8_TOGETHER * 2 + (size_t)h) * INT8_TOGETHER + g % INT8_TOGETHER) * INT8_WORDS; }

/* --- x --- */

/* A row of x: codes; per group, to a whole vector with zeros: scales, and the sum of its codes times the scale. */
typedef struct {
  int8_code *codes;
  float *scales, *sums;
} int8_row;

/* Words (4 bytes) of a row. */
GQA_INLINE size_t int8_row_words(size_t k) { return int8_words(k) + 2 * int8_groups(k); }

/* Row r of `rows` rows at `memory`: all codes, then all scales, … */
GQA_INLINE int8_row int8_row_at(float *memory, size_t rows, size_t k, size_t r) {
  const size_t words = int8_words(k), groups = int8_groups(k);
  float *scales = memory + rows * words;
  return (int8_row){(int8_code *)(memory + r * words), scales + r * groups, scales + (rows + r) * groups};
}

/* Lane i of the result: the sum or the largest of the lanes of v[i]. Changes v. */
GQA_INLINE vf int8_lane_sums(vf *v) {
  vf_transpose(v);
  vf sum = v[0];
  GQA_UNROLL(16)
  for (int i = 1; i < VL; i++) sum += v[i];
  return sum;
}
GQA_INLINE vf int8_lane_maxima(vf *v) {
  vf_transpose(v);
  vf largest = v[0];
  GQA_UNROLL(16)
  for (int i = 1; i < VL; i++) largest = vf_max(largest, v[i]);
  return largest;
}

GQA_INLINE void int8_store_codes(int8_code *p, vi q) {
  typedef int8_code codes __attribute__((vector_size(VL * sizeof(int8_code))));
  const codes c = __builtin_convertvector(q, codes);
  memcpy(p, &c, sizeof c);
}

/* Groups with a NaN or an infinity: codes 0, scale and sum NaN. */
GQA_NOINLINE void int8_mark_groups(const float *x, size_t first, size_t n, int8_row to) {
  for (size_t g = first; g < first + n; g++) {
    float zero = 0.0f;
    for (int i = 0; i < GQA_GROUP; i++) zero += x[g * GQA_GROUP + (size_t)i] * 0.0f;
    if (zero == 0.0f) continue;
    for (int h = 0; h < 2; h++) memset(to.codes + int8_word(g, h) * INT8_STEP, 0, INT8_HALF * sizeof(int8_code));
    to.scales[g] = to.sums[g] = __builtin_nanf("");
  }
}

/* Quantises k values, VL groups at a time. */
GQA_NOINLINE void int8_quantise(const float *x, size_t k, int8_row to) {
  /* Groups of the last vector that do not exist are zeros. */
  for (size_t g = k / GQA_GROUP; g < gqa_ceil(k / GQA_GROUP, INT8_TOGETHER) * INT8_TOGETHER; g++)
    for (int h = 0; h < 2; h++) memset(to.codes + int8_word(g, h) * INT8_STEP, 0, INT8_HALF * sizeof(int8_code));
  const vf magic = vf_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
  for (size_t first = 0; first < k / GQA_GROUP; first += VL) {
    const size_t n = gqa_min(VL, k / GQA_GROUP - first);
    const float *from = x + first * GQA_GROUP;
    vf v[VL], sums[VL], bad = vf_set(0.0f);
    for (size_t g = 0; g < VL; g++) {
      v[g] = sums[g] = vf_set(0.0f);
      for (int j = 0; j < GQA_GROUP_VECTORS && g < n; j++) {
        const vf values = vf_load(from + g * GQA_GROUP + (size_t)(j * VL));
        v[g] = vf_max(v[g], vf_abs(values));
        bad = vf_fma(values, vf_set(0.0f), bad);
      }
    }
    const vf largest = int8_lane_maxima(v), scales = largest / 127.0f;
    float inverses[VL];
    vf_store(to.scales + first, scales);
    /* Below 2^-120 the inverse may overflow: such values count as 0. */
    vf_store(inverses, vf_select(largest >= 0x1p-120f, 127.0f / largest, vf_set(0.0f)));
    for (size_t g = 0; g < n; g++) {
      GQA_UNROLL(8)
      for (int j = 0; j < GQA_GROUP_VECTORS; j++) {
        const vf rounded = vf_fma(vf_load(from + g * GQA_GROUP + (size_t)(j * VL)), vf_set(inverses[g]), magic);
        int8_store_codes(to.codes + int8_word(first + g, j * VL / INT8_HALF) * INT8_STEP + j * VL % INT8_HALF, (vi)rounded - (vi)magic);
        sums[g] += rounded - magic;
      }
    }
    vf_store(to.sums + first, int8_lane_sums(sums) * scales);
    if (vf_sum(bad) != 0.0f) int8_mark_groups(x, first, n, to);
  }
}

#endif
