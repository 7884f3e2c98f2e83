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

#define INT8_TYPES(X, ...) X(GQA_Q8_0, __VA_ARGS__) X(GQA_Q4_0, __VA_ARGS__) X(GQA_Q4_1, __VA_ARGS__) GQA_K_TYPES(X, __VA_ARGS__)

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

/* --- weights --- */

/*
 * A row of weights: codes; per group the scales of its halves (the first alone but for INT8_HALVES) and its
 * minimum (INT8_MINIMUM).
 */
typedef struct {
  int8_code *codes;
  float *scales[2], *minimums;
} int8_weights;

/* The codes of half of INT8_TOGETHER groups. */
typedef uint8_t int8_bytes __attribute__((vector_size(VL * 4)));
typedef uint8_t int8_16 __attribute__((vector_size(16)));

GQA_INLINE int8_bytes int8_set(uint8_t x) {
  const int8_bytes zero = {0};
  return x - zero;
}
/* 16 bytes at each of the addresses p + at[i]. */
GQA_INLINE int8_bytes int8_gather(const uint8_t *p, const size_t *at) {
#if VL == 16
  const __m512i first = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(p + at[0])));
  const __m512i two = _mm512_inserti32x4(first, _mm_loadu_si128((const __m128i *)(p + at[1])), 1);
  const __m512i three = _mm512_inserti32x4(two, _mm_loadu_si128((const __m128i *)(p + at[2])), 2);
  return (int8_bytes)_mm512_inserti32x4(three, _mm_loadu_si128((const __m128i *)(p + at[3])), 3);
#elif VL == 8
  return (int8_bytes)_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(p + at[0]))), _mm_loadu_si128((const __m128i *)(p + at[1])), 1);
#else
  int8_bytes v;
  memcpy(&v, p + at[0], sizeof v);
  return v;
#endif
}
/* The bits of `mask` of each byte after a shift to the right by by[i] bits in group i. */
GQA_INLINE int8_bytes int8_shifted(int8_bytes v, const int *by, uint8_t mask) {
  vu shifts;
  GQA_UNROLL(16)
  for (int i = 0; i < VL; i++) shifts[i] = (uint32_t)by[i / 4];
  return (int8_bytes)((vu)v >> shifts) & int8_set(mask);
}
GQA_INLINE int8_bytes int8_high(int8_bytes v, int shift, uint8_t mask) {
  const int by[4] = {shift, shift, shift, shift};
  return int8_shifted(v, by, mask);
}
/* Bit i of bits[g] as 16 or 0 in byte i of group g. */
GQA_INLINE int8_bytes int8_fifth_bits(const uint16_t *bits) {
#if VL == 16
  uint64_t mask;
  memcpy(&mask, bits, 8);
  return (int8_bytes)_mm512_maskz_set1_epi8(mask, 16);
#else
  typedef uint64_t longs __attribute__((vector_size(VL * 4)));
  longs spread;
  for (int i = 0; i < VL / 2; i++) spread[i] = (uint64_t)(bits[i / 2] >> i % 2 * 8 & 255) * 0x0101010101010101u;
  const longs lanes = spread & (0x8040201008040201u - (longs){0});
  return (int8_bytes)((int8_bytes)lanes != 0) & int8_set(16);
#endif
}

/*
 * The codes of half h of n <= INT8_TOGETHER groups (missing ones repeat the last), from group g of the block at
 * p on.
 */
GQA_INLINE int8_bytes int8_codes(int type, const uint8_t *p, const int g, const int h, size_t n) {
  size_t at[4], high[4];
  int by[4], high_by[4];
  GQA_UNROLL(4)
  for (int i = 0; i < INT8_TOGETHER; i++) {
    const int t = g + i;
    const size_t block = type_is_super(type) ? 0 : (n < INT8_TOGETHER ? gqa_min((size_t)i, n - 1) : (size_t)i) * stored_bytes(type, GQA_GROUP);
    high[i] = high_by[i] = by[i] = 0;
    switch (type) {
      case GQA_Q8_0: at[i] = block + 2 + 16 * h; break;
      case GQA_Q4_0: at[i] = block + 2, by[i] = 4 * h; break;
      case GQA_Q4_1: at[i] = block + 4, by[i] = 4 * h; break;
      case GQA_Q5_0: at[i] = block + 6, by[i] = 4 * h, high[i] = block + 2 + 2 * h; break;
      case GQA_Q5_1: at[i] = block + 8, by[i] = 4 * h, high[i] = block + 4 + 2 * h; break;
      case GQA_Q6_K: at[i] = 64 * (t >> 2) + 32 * (t & 1) + 16 * h, by[i] = t & 2 ? 4 : 0, high[i] = 128 + 32 * (t >> 2) + 16 * h, high_by[i] = 2 * (t & 3); break;
      default: at[i] = (type == GQA_Q5_K ? 48 : 16) + 32 * (t >> 1) + 16 * h, by[i] = t & 1 ? 4 : 0, high[i] = 16 + 16 * h, high_by[i] = t; break;
    }
  }
  int8_bytes v = int8_gather(p, at);
  if (type == GQA_Q8_0) return v ^ int8_set(INT8_OFFSET);
  v = int8_shifted(v, by, 15);
  if (type == GQA_Q5_0 || type == GQA_Q5_1) {
    uint16_t bits[INT8_TOGETHER];
    for (int i = 0; i < INT8_TOGETHER; i++) memcpy(bits + i, p + high[i], 2);
    return v | int8_fifth_bits(bits);
  }
  if (type == GQA_Q6_K) return (v | (int8_bytes)((vu)int8_shifted(int8_gather(p, high), high_by, 3) << 4)) + int8_set((uint8_t)(INT8_OFFSET - 32));
  if (type == GQA_Q5_K) return v | (int8_bytes)((vu)int8_shifted(int8_gather(p, high), high_by, 1) << 4);
  return v;
}

/*
 * The first four bytes of n blocks in lanes, the others 0. In registers: a load of stores of just before waits
 * until they are in the cache.
 */
typedef uint32_t int8_four __attribute__((vector_size(16)));
GQA_INLINE int8_four int8_four_heads(const uint8_t *p, size_t bytes, size_t n) {
  uint32_t head[4];
  const int8_four lanes = {0, 1, 2, 3};
  GQA_UNROLL(4)
  for (size_t i = 0; i < 4; i++) memcpy(head + i, p + (n < 4 ? gqa_min(i, n - 1) : i) * bytes, 4);
#if defined(__SSE2__) /* gcc 12 would store the four */
  const __m128i low = _mm_unpacklo_epi32(_mm_cvtsi32_si128((int)head[0]), _mm_cvtsi32_si128((int)head[1]));
  const __m128i high = _mm_unpacklo_epi32(_mm_cvtsi32_si128((int)head[2]), _mm_cvtsi32_si128((int)head[3]));
  const int8_four v = (int8_four)_mm_unpacklo_epi64(low, high);
#else
  const int8_four v = {head[0], head[1], head[2], head[3]};
#endif
  return n < 4 ? v & (int8_four)(lanes < (uint32_t)n) : v;
}
GQA_INLINE vu int8_heads(const uint8_t *p, size_t bytes, size_t n) {
#if VL == 4
  return int8_four_heads(p, bytes, n);
#else
  __m128i four[VL / 4];
  GQA_UNROLL(4)
  for (size_t i = 0; i < VL / 4; i++) four[i] = 4 * i < n ? (__m128i)int8_four_heads(p + 4 * i * bytes, bytes, n - 4 * i) : _mm_setzero_si128();
#if VL == 16
  const __m512i low = _mm512_inserti32x4(_mm512_castsi128_si512(four[0]), four[1], 1);
  return (vu)_mm512_inserti32x4(_mm512_inserti32x4(low, four[2], 2), four[3], 3);
#else
  return (vu)_mm256_inserti128_si256(_mm256_castsi128_si256(four[0]), four[1], 1);
#endif
#endif
}
/* The f16 numbers in the low halves of lanes. */
GQA_INLINE vf int8_from_halves(vu v) {
  const vh halves = __builtin_convertvector(v, vh);
  return vf_load_f16((const uint16_t *)&halves);
}

/* The scales and minimums of n <= INT8_AHEAD groups, to a whole vector with zeros. */
GQA_INLINE void int8_load_scales(int type, const uint8_t *p, size_t n, int8_weights to) {
  const size_t bytes = stored_bytes(type, type_is_super(type) ? GQA_SUPER : GQA_GROUP);
  if (type_is_super(type)) {
    for (size_t g = 0; g < n; g += GQA_SUPER_GROUPS, p += bytes) {
      k_scales s;
      load_k_scales(type, p, &s);
      if (type != GQA_Q6_K) memcpy(to.minimums + g, s.v + K_MINIMUMS, GQA_SUPER_GROUPS * sizeof(float));
      for (int i = 0; i < GQA_SUPER_GROUPS; i++) {
        to.scales[0][g + i] = s.v[type == GQA_Q6_K ? 2 * i : i];
        if (type == GQA_Q6_K) to.scales[1][g + i] = s.v[2 * i + 1];
      }
    }
    for (size_t g = n; g % VL != 0; g++) to.scales[0][g] = to.scales[1][g] = to.minimums[g] = 0.0f;
    return;
  }
  for (size_t g = 0; g < n; g += VL, p += VL * bytes) {
    const vu heads = int8_heads(p, bytes, n - g);
    const vf scale = int8_from_halves(heads);
    vf_store(to.scales[0] + g, scale);
    if (type == GQA_Q4_0) vf_store(to.minimums + g, scale * -8.0f);
    else if (type == GQA_Q5_0) vf_store(to.minimums + g, scale * -16.0f);
    else if (type != GQA_Q8_0) vf_store(to.minimums + g, int8_from_halves(heads >> 16));
  }
}

GQA_INLINE void int8_store_bytes(int8_code *to, int8_bytes v, const int is_signed) {
#if INT8_VNNI || INT8_DOT
  (void)is_signed;
  memcpy(to, &v, sizeof v);
#else
  typedef int8_t narrow __attribute__((vector_size(16)));
  typedef int16_t wide __attribute__((vector_size(32)));
  typedef uint16_t wide_u __attribute__((vector_size(32)));
  const wide w = is_signed ? __builtin_convertvector((narrow)v, wide) : (wide)__builtin_convertvector(v, wide_u);
  memcpy(to, &w, sizeof w);
#endif
}

/*
 * Runs the statement for each vector of `groups` groups of blocks from p on: v is its number, low and high its
 * codes.
 */
#define INT8_EACH_VECTOR(type, p, groups, ...)                                                               \
  {                                                                                                          \
    const size_t block_groups = type_is_super(type) ? GQA_SUPER_GROUPS : INT8_TOGETHER;                      \
    const size_t block_bytes = stored_bytes(type, block_groups * GQA_GROUP), whole = (groups) / block_groups; \
    const uint8_t *block = (p);                                                                              \
    size_t v = 0;                                                                                            \
    for (size_t b = 0; b < whole; b++, block += block_bytes) {                                               \
      for (size_t line = 0; line < block_bytes; line += 64) __builtin_prefetch(block + 4096 + line);         \
      GQA_UNROLL(8)                                                                                          \
      for (int g = 0; g < (int)block_groups; g += INT8_TOGETHER, v++) {                                      \
        const int8_bytes low = int8_codes(type, block, g, 0, INT8_TOGETHER), high = int8_codes(type, block, g, 1, INT8_TOGETHER); \
        __VA_ARGS__                                                                                          \
      }                                                                                                      \
    }                                                                                                        \
    const size_t rest = (groups) % block_groups;                                                             \
    if (rest && !type_is_super(type)) {                                                                      \
      const int8_bytes low = int8_codes(type, block, 0, 0, rest), high = int8_codes(type, block, 0, 1, rest); \
      __VA_ARGS__                                                                                            \
    }                                                                                                        \
  }

/* The scales and minimums of whole blocks, to a whole vector with zeros; their codes. */
GQA_NOINLINE void int8_decode_scales(int type, const uint8_t *p, size_t groups, int8_weights to) {
  GQA_SPECIALISE(INT8_TYPES, type, {
    for (size_t g = 0; g < groups; g += INT8_AHEAD)
      int8_load_scales(GQA_VALUE, p + stored_bytes(GQA_VALUE, g * GQA_GROUP), gqa_min(INT8_AHEAD, groups - g), (int8_weights){0, {to.scales[0] + g, to.scales[1] + g}, to.minimums + g});
  })
}
GQA_INLINE void int8_decode_codes_of(const int type, const uint8_t *p, size_t groups, int8_code *to) {
  INT8_EACH_VECTOR(type, p, groups, {
    int8_code *codes = to + v * 2 * INT8_TOGETHER * INT8_HALF;
    int8_store_bytes(codes, low, int8_kind(type) != INT8_MINIMUM);
    int8_store_bytes(codes + INT8_TOGETHER * INT8_HALF, high, int8_kind(type) != INT8_MINIMUM);
  })
}
GQA_NOINLINE void int8_decode_codes(int type, const uint8_t *p, size_t groups, int8_code *to) {
  GQA_SPECIALISE(INT8_TYPES, type, int8_decode_codes_of(GQA_VALUE, p, groups, to))
}

/* --- dot products, lanes along k: a few rows of x --- */

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
 * int8_dot_stored, in memory; start = int8_start of both halves (INT8_HALVES) or of their sum in start[1].
 */
#define INT8_ADD(kind, acc, dot, low, high, x, start, s)                                                        \
  {                                                                                                             \
    const int is_signed = (kind) != INT8_MINIMUM;                                                               \
    const vi first = dot(is_signed, (start)[0], low, x);                                                        \
    const vi second = dot(is_signed, (kind) == INT8_HALVES ? (start)[1] : first, high, (x) + INT8_TOGETHER * INT8_HALF); \
    if ((kind) == INT8_HALVES) acc = vf_fma(__builtin_convertvector(first, vf), int8_spread((s)[0]), acc);       \
    acc = vf_fma(__builtin_convertvector(second, vf), int8_spread((s)[(kind) == INT8_HALVES]), acc);             \
  }
GQA_INLINE void int8_starts(const int kind, const int8_code *x, vi *start) {
  const int8_code *high = x + INT8_TOGETHER * INT8_HALF;
  start[0] = int8_start(kind, vi_set(0), x);
  if (kind == INT8_HALVES) start[1] = int8_start(kind, vi_set(0), high);
  else start[0] = int8_start(kind, start[0], high);
}

/*
 * to = the scales of weights and x multiplied, to a whole vector with zeros; minimum += minimums times the sums
 * of x: for n groups. What follows those of the weights is not theirs.
 */
GQA_INLINE void int8_multiply_scales(const int kind, int8_weights w, const float *x_scales, const float *x_sums, size_t n, float *const *to, vf *minimum) {
  for (size_t g = 0; g < n; g += VL) {
    vi lanes, mine = vi_set(-1);
    GQA_UNROLL(16)
    for (int i = 0; i < VL; i++) lanes[i] = i;
    if (g + VL > n) mine = lanes < vi_set((int32_t)(n - g));
    for (int h = 0; h <= (kind == INT8_HALVES); h++) vf_store(to[h] + g, vf_select(mine, vf_load(w.scales[h] + g), vf_set(0.0f)) * vf_load(x_scales + g));
    if (kind == INT8_MINIMUM) *minimum = vf_fma(vf_select(mine, vf_load(w.minimums + g), vf_set(0.0f)), vf_load(x_sums + g), *minimum);
  }
}

/* The lanes of a stored row of weights times x; scales: those of both multiplied, of the halves. */
GQA_INLINE vf int8_stored_dot(const int type, const uint8_t *p, size_t groups, const int8_code *x, float *const *scales) {
  const int kind = int8_kind(type);
  vf acc = vf_set(0.0f);
  INT8_EACH_VECTOR(type, p, groups, {
    const int8_code *codes = x + v * 2 * INT8_TOGETHER * INT8_HALF;
    const float *s[] = {scales[0] + v * INT8_TOGETHER, scales[1] + v * INT8_TOGETHER};
    vi start[2];
    int8_starts(kind, codes, start);
    INT8_ADD(kind, acc, int8_dot, low, high, codes, start, s)
  })
  return acc;
}

/* The same for INT8_W rows of decoded weights. */
enum { INT8_W = 4 };
GQA_INLINE void int8_decoded_dots(const int kind, const int8_weights *w, size_t groups, const int8_code *x, float *const (*scales)[2], vf *acc) {
  GQA_UNROLL(4)
  for (int j = 0; j < INT8_W; j++) acc[j] = vf_set(0.0f);
  for (size_t v = 0; v < gqa_ceil(groups, INT8_TOGETHER); v++) {
    const size_t at = v * 2 * INT8_TOGETHER * INT8_HALF;
    vi start[2];
    int8_starts(kind, x + at, start);
    GQA_UNROLL(4)
    for (int j = 0; j < INT8_W; j++) {
      const float *s[] = {scales[j][0] + v * INT8_TOGETHER, scales[j][1] + v * INT8_TOGETHER};
      INT8_ADD(kind, acc[j], int8_dot_stored, w[j].codes + at, w[j].codes + at + INT8_TOGETHER * INT8_HALF, x + at, start, s)
    }
  }
}

#endif
