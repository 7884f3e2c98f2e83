/*
 * int8_weights.h: block-quantized weights decoded to the codes of int8.h, and their scales and minimums. Layouts:
 * quant.h, quant_k.h. Nothing is read past a block.
 */
#ifndef GQA_INT8_WEIGHTS_H
#define GQA_INT8_WEIGHTS_H
#include "int8.h"

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

#endif
