/*
 * quant.h: the storage types of weights, read in groups of 32 elements.
 *
 * A group is 32 f32, f16 or bf16 values, or one ggml block: q8_0 = f16 d, 32 int8: d * q; q4_0 = f16 d, 16
 * bytes: d * (q - 8); q4_1 = f16 d, f16 m, 16 bytes: d * q + m. Byte i of a 4-bit block holds value i in its
 * low nibble and value i + 16 in its high nibble. q5_0, q5_1 and the blocks of 256 values are in quant_k.h.
 * Nothing is read past a group: weights may end where a mapped file ends. Decoded values equal d * q + m
 * rounded to f32 (once where FMA exists).
 *
 * Source: ggml-common.h. Checked in kernels/test/test_linear.c; src/tensor/decode-blocks.ts reads the same
 *   layouts.
 */
#ifndef GQA_QUANT_H
#define GQA_QUANT_H
#include "gqa.h"
#include "simd.h"

enum { GQA_GROUP = 32, GQA_GROUP_VECTORS = GQA_GROUP / VL };

#include "quant_k.h"

GQA_INLINE size_t group_bytes(int type) {
  switch (type) {
    case GQA_F32: return 128;
    case GQA_F16:
    case GQA_BF16: return 64;
    case GQA_Q8_0: return 34;
    case GQA_Q4_0: return 18;
    default: return 20; /* q4_1 */
  }
}
GQA_INLINE int type_is_block(int type) { return type >= GQA_Q8_0; }
/* Bytes of n elements; whole blocks for block types. */
GQA_INLINE size_t stored_bytes(int type, size_t n) { return type_is_k(type) ? k_bytes(type, n) : type_is_block(type) ? n / GQA_GROUP * group_bytes(type) : n * (group_bytes(type) / GQA_GROUP); }

/*
 * The f16 pair at the head of a block as f32: the scale in [0], and in [1] q4_1's minimum. Writes 4 floats.
 */
GQA_INLINE void block_scales(int type, const uint8_t *block, float *scales) {
#if defined(__F16C__)
  (void)type;
  _mm_storeu_ps(scales, _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)block)));
#else
  uint16_t h[2];
  memcpy(h, block, 4);
  scales[0] = half_to_float(h[0]);
  if (type == GQA_Q4_1) scales[1] = half_to_float(h[1]);
#endif
}

/* The integers of a 4-bit block as f32, before the minimum of q4_1 or the -8 of q4_0. */
GQA_INLINE void q4_codes(const uint8_t *data, vf *q) {
#if defined(__aarch64__)
  const uint8x16_t bytes = vld1q_u8(data);
  vf_widen_i8(vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), q);
  vf_widen_i8(vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), q + 4);
#else
  GQA_UNROLL(4)
  for (int j = 0; j < GQA_GROUP_VECTORS / 2; j++) {
    vi bytes = vi_load_u8(data + j * VL);
    q[j] = __builtin_convertvector(bytes & 15, vf);
    q[j + GQA_GROUP_VECTORS / 2] = __builtin_convertvector(bytes >> 4, vf);
  }
#endif
}

/* The 32 integers of a q8_0 block as f32. */
GQA_INLINE void q8_codes(const int8_t *data, vf *q) {
#if defined(__aarch64__)
  vf_widen_i8(vld1q_s8(data), q);
  vf_widen_i8(vld1q_s8(data + 16), q + 4);
#else
  GQA_UNROLL(8)
  for (int j = 0; j < GQA_GROUP_VECTORS; j++) q[j] = vf_load_i8(data + j * VL);
#endif
}

#if VL == 16
/*
 * All 32 values of a 4-bit block: a permute looks its low index bits up in the 16 possible values, so nothing
 * is masked or converted.
 */
GQA_INLINE void q4_lookup(int type, const uint8_t *block, const float *scales, vf *w) {
  const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 d = _mm512_set1_ps(scales[0]);
  const __m512 values = type == GQA_Q4_1 ? _mm512_fmadd_ps(codes, d, _mm512_set1_ps(scales[1])) : _mm512_mul_ps(_mm512_sub_ps(codes, _mm512_set1_ps(8)), d);
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(block + (type == GQA_Q4_1 ? 4 : 2))));
  w[0] = (vf)_mm512_permutexvar_ps(bytes, values);
  w[1] = (vf)_mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), values);
}
#endif

/* The types that decode_group reads; those of quant_k.h are apart. */
#define GQA_GROUP_TYPES(X, ...) \
  X(GQA_F32, __VA_ARGS__) X(GQA_F16, __VA_ARGS__) X(GQA_BF16, __VA_ARGS__) X(GQA_Q8_0, __VA_ARGS__) X(GQA_Q4_0, __VA_ARGS__) X(GQA_Q4_1, __VA_ARGS__)

/* One group as f32, GQA_GROUP_VECTORS vectors; s = block_scales of a block. */
GQA_INLINE void decode_group_with(int type, const uint8_t *p, const float *s, vf *w) {
#if VL == 16
  if (type == GQA_Q4_0 || type == GQA_Q4_1) {
    q4_lookup(type, p, s, w);
    return;
  }
#endif
  if (type == GQA_Q4_0 || type == GQA_Q4_1) q4_codes(p + (type == GQA_Q4_1 ? 4 : 2), w);
  GQA_UNROLL(8)
  for (int j = 0; j < GQA_GROUP_VECTORS; j++) {
    switch (type) {
      case GQA_F32: w[j] = vf_load((const float *)p + j * VL); break;
      case GQA_F16: w[j] = vf_load_f16((const uint16_t *)p + j * VL); break;
      case GQA_BF16: w[j] = vf_load_bf16((const uint16_t *)p + j * VL); break;
      case GQA_Q8_0: w[j] = vf_load_i8((const int8_t *)p + 2 + j * VL) * s[0]; break;
      case GQA_Q4_0: w[j] = (w[j] - 8.0f) * s[0]; break;
      default: w[j] = vf_fma(w[j], vf_set(s[0]), vf_set(s[1])); break;
    }
  }
}

GQA_INLINE void decode_group(int type, const uint8_t *p, vf *w) {
  float s[4];
  if (type_is_block(type)) block_scales(type, p, s);
  decode_group_with(type, p, s, w);
}

/* A group of which only n < 32 elements exist (plain types only), the rest as zeros. */
GQA_INLINE void decode_partial(int type, const uint8_t *p, int n, vf *w) {
  uint8_t padded[GQA_GROUP * 4] = {0};
  memcpy(padded, p, stored_bytes(type, (size_t)n));
  decode_group(type, padded, w);
}

/* Groups whose scales decode_run converts at a time. */
enum { GROUPS_AHEAD = 32 };

GQA_INLINE void decode_run(int type, const uint8_t *p, float *out, size_t n) {
  vf w[GQA_GROUP_VECTORS];
  float scales[GROUPS_AHEAD][4]; /* converted ahead: a broadcast from memory is free, one from a register is not */
  size_t i = 0;
  while (i + GQA_GROUP <= n) {
    const size_t left = (n - i) / GQA_GROUP, groups = left < GROUPS_AHEAD ? left : GROUPS_AHEAD;
    for (size_t g = 0; g < groups && type_is_block(type); g++) block_scales(type, p + g * group_bytes(type), scales[g]);
    for (size_t g = 0; g < groups; g++, i += GQA_GROUP, p += group_bytes(type)) {
      decode_group_with(type, p, scales[g], w);
      GQA_UNROLL(8)
      for (int j = 0; j < GQA_GROUP_VECTORS; j++) vf_store(out + i + j * VL, w[j]);
    }
  }
  if (i < n && !type_is_block(type)) {
    float rest[GQA_GROUP];
    decode_partial(type, p, (int)(n - i), w);
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) vf_store(rest + j * VL, w[j]);
    memcpy(out + i, rest, (n - i) * sizeof(float));
  }
}

/*
 * n values (a multiple of 32) as q8_0 blocks. The scale is the largest magnitude / 127 rounded to f16, and
 * codes are x / scale rounded to nearest even, so a value is off by at most half a scale (ggml divides by the
 * scale before its rounding, which adds up to 2^-11 of the value). A block with a NaN, an infinity or a value
 * past 8.3e6 becomes NaN as a whole.
 */
GQA_NOINLINE void encode_q8_0(const float *x, uint8_t *out, size_t n) {
  for (size_t i = 0; i < n; i += GQA_GROUP, x += GQA_GROUP, out += 34) {
    vf top = vf_set(0.0f), bad = vf_set(0.0f);
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) {
      vf v = vf_load(x + j * VL);
      top = vf_max(top, vf_abs(v));
      bad = vf_fma(v, vf_set(0.0f), bad);
    }
    uint16_t scale = float_to_half(vf_hmax(top) * (1.0f / 127.0f));
    int finite = vf_sum(bad) == 0.0f;
    if (!finite) scale = 0x7e00;
    float d = half_to_float(scale), inverse = d > 0.0f && finite ? 1.0f / d : 0.0f;
    memcpy(out, &scale, 2);
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) {
      /*
       * Adding 1.5 * 2^23 leaves the rounded integer in the low bits. Below f16's normal numbers the scale
       * may be far too small: clamp.
       */
      vf v = finite ? vf_min(vf_max(vf_load(x + j * VL) * inverse, vf_set(-127.0f)), vf_set(127.0f)) : vf_set(0.0f);
      vi q = (vi)(v + vf_set(12582912.0f));
      for (int l = 0; l < VL; l++) out[2 + j * VL + l] = (uint8_t)q[l];
    }
  }
}

/* n stored elements as f32; p may have any alignment, n is whole blocks for block types. */
GQA_NOINLINE void decode_elements(int type, const uint8_t *p, float *out, size_t n) {
  if (type == GQA_F32) memcpy(out, p, n * sizeof(float));
  else if (type_is_k(type)) decode_k_elements(type, p, out, n);
  else GQA_SPECIALISE(GQA_GROUP_TYPES, type, decode_run(GQA_VALUE, p, out, n));
}

#endif
