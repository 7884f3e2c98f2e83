/*
 * quant_k.h: ggml's 5-bit blocks and its super-blocks of 256 values, decoded 32 values (a group) at a time.
 *
 * q5_0 = f16 d, 32 high bits, 16 bytes: d * (q - 16); q5_1 = f16 d, f16 m, 32 high bits, 16 bytes: d * q + m.
 * q4_k = f16 d, f16 dmin, 12 bytes of eight 6-bit scales and minimums, 128 bytes: (d * scale) * q - (dmin *
 * min) per group. q5_k = the same with 32 bytes of high bits (bit g of byte i is that of value i in group g)
 * before its 128 bytes. q6_k = 128 bytes of low nibbles, 64 of high bits, 16 int8 scales of 16 values each,
 * f16 d: (d * scale) * (q - 32).
 *
 * q2_k = 16 bytes of a 4-bit scale and a 4-bit minimum of 16 values each, 64 bytes of 2-bit codes, f16 d, f16
 * dmin: (d * scale) * q - dmin * min. q3_k = 32 bytes of high bits, 64 of low ones, 12 bytes of sixteen 6-bit
 * scales, f16 d: d * (scale - 32) * (q - 4). iq4_nl = f16 d, 16 bytes of codes of a table: d * table[q].
 * iq4_xs = f16 d, 16 bits and 4 bytes of eight 6-bit scales, 128 bytes: d * (scale - 32) * table[q]. mxfp4 =
 * an exponent e, 16 bytes of 4-bit floats: 2^(e - 128) * table[q], where the table has twice each float.
 *
 * Nothing is read past a block. Every product of scales and codes is exact in f32, so decoded values are
 * those of ggml, rounded once.
 *
 * Source: ggml-common.h and gguf-py quants.py (layouts). Included by quant.h, after the group sizes.
 */
#ifndef GQA_QUANT_K_H
#define GQA_QUANT_K_H

enum { GQA_SUPER = 256, GQA_SUPER_GROUPS = GQA_SUPER / GQA_GROUP };

/* The types that 8-bit products read (int8.h), and all types of this file. */
#define GQA_INT8_K_TYPES(X, ...) \
  X(GQA_Q5_0, __VA_ARGS__) X(GQA_Q5_1, __VA_ARGS__) X(GQA_Q4_K, __VA_ARGS__) X(GQA_Q5_K, __VA_ARGS__) X(GQA_Q6_K, __VA_ARGS__)
#define GQA_K_TYPES(X, ...) \
  GQA_INT8_K_TYPES(X, __VA_ARGS__) X(GQA_Q2_K, __VA_ARGS__) X(GQA_Q3_K, __VA_ARGS__) X(GQA_IQ4_XS, __VA_ARGS__) X(GQA_IQ4_NL, __VA_ARGS__) X(GQA_MXFP4, __VA_ARGS__)

GQA_INLINE int type_is_k(int type) { return type >= GQA_Q5_0; }
GQA_INLINE int type_is_super(int type) { return type >= GQA_Q4_K && type <= GQA_IQ4_XS; }
/* Whether codes are places in a table of values. */
GQA_INLINE int type_is_table(int type) { return type >= GQA_IQ4_XS; }
/* Bytes of one block, and of n elements in whole blocks. */
GQA_INLINE size_t k_block_bytes(int type) {
  switch (type) {
    case GQA_Q5_0: return 22;
    case GQA_Q5_1: return 24;
    case GQA_Q4_K: return 144;
    case GQA_Q5_K: return 176;
    case GQA_Q6_K: return 210;
    case GQA_Q2_K: return 84;
    case GQA_Q3_K: return 110;
    case GQA_IQ4_XS: return 136;
    case GQA_IQ4_NL: return 18;
    default: return 17; /* mxfp4 */
  }
}
GQA_INLINE size_t k_bytes(int type, size_t n) { return n / (type_is_super(type) ? GQA_SUPER : GQA_GROUP) * k_block_bytes(type); }

GQA_INLINE float half_at(const uint8_t *p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return half_to_float(h);
}

/* 2^(e - 128), also where that is subnormal. */
GQA_INLINE float mxfp4_scale(uint8_t e) {
  const uint32_t bits = e < 2 ? (uint32_t)0x00200000 << e : (uint32_t)(e - 1) << 23;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

/*
 * The scales of a block, one per 16 values (q6_k, q3_k, q2_k), else one per group; from K_MINIMUMS on the
 * minimums to add, of q2_k from K_MINIMUMS16 on.
 */
enum { K_MINIMUMS = 8, K_MINIMUMS16 = 16 };
typedef struct {
  float v[32];
} k_scales;

/* The scales of the types from q2_k on. */
GQA_INLINE void load_small_k_scales(int type, const uint8_t *p, k_scales *s) {
  if (type == GQA_Q2_K) {
    const float d = half_at(p + 80), dmin = -half_at(p + 82);
    for (int i = 0; i < 16; i++) s->v[i] = d * (float)(p[i] & 15), s->v[K_MINIMUMS16 + i] = dmin * (float)(p[i] >> 4);
    return;
  }
  if (type == GQA_Q3_K) {
    const uint8_t *q = p + 96;
    const float d = half_at(p + 108);
    for (int i = 0; i < 16; i++) s->v[i] = d * (float)(((i < 8 ? q[i] & 15 : q[i - 8] >> 4) | (q[8 + i % 4] >> 2 * (i / 4) & 3) << 4) - 32);
    return;
  }
  if (type == GQA_IQ4_XS) {
    const float d = half_at(p);
    for (int g = 0; g < 8; g++) s->v[g] = d * (float)(((p[4 + g / 2] >> 4 * (g & 1) & 15) | (p[2 + g / 4] >> 2 * (g & 3) & 3) << 4) - 32);
    return;
  }
  s->v[0] = type == GQA_MXFP4 ? mxfp4_scale(p[0]) : half_at(p);
}

GQA_INLINE void load_k_scales(int type, const uint8_t *p, k_scales *s) {
  if (type >= GQA_Q2_K) {
    load_small_k_scales(type, p, s);
    return;
  }
  if (type == GQA_Q5_0 || type == GQA_Q5_1) {
    s->v[0] = half_at(p);
    s->v[K_MINIMUMS] = type == GQA_Q5_1 ? half_at(p + 2) : -16.0f * s->v[0];
    return;
  }
  if (type == GQA_Q6_K) {
    const float d = half_at(p + 208);
    for (int i = 0; i < 16; i += VL) vf_store(s->v + i, vf_load_i8((const int8_t *)p + 192 + i) * d);
    return;
  }
  /* Four 6-bit numbers at a time: scales 0 to 3 and 4 to 7, then minimums. */
  uint32_t q[3], six[4];
  memcpy(q, p + 4, 12);
  six[0] = q[0] & 0x3f3f3f3f;
  six[1] = (q[2] & 0x0f0f0f0f) | ((q[0] >> 6 & 0x03030303) << 4);
  six[2] = q[1] & 0x3f3f3f3f;
  six[3] = (q[2] >> 4 & 0x0f0f0f0f) | ((q[1] >> 6 & 0x03030303) << 4);
  const float d = half_at(p), dmin = -half_at(p + 2);
  for (int i = 0; i < 16; i += VL) {
    vf factor = vf_set(i < K_MINIMUMS ? d : dmin);
    for (int j = K_MINIMUMS; j < VL; j++) factor[j] = dmin;
    vf_store(s->v + i, vf_load_u8((const uint8_t *)six + i) * factor);
  }
}

/* Lane i of the result: bit first + i of `bits`, as 16 or 0. */
GQA_INLINE vi fifth_bits(uint32_t bits, int first) {
  vi lanes, all = vi_set((int32_t)(bits >> first));
  for (int i = 0; i < VL; i++) lanes[i] = 1 << i;
  return ((all & lanes) != 0) & 16;
}

/* The values of the codes of iq4_nl and iq4_xs, and of mxfp4. */
static const float k_table_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const float k_table_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

GQA_INLINE vf k_lookup(int type, vi codes) {
  const float *table = type == GQA_MXFP4 ? k_table_mxfp4 : k_table_iq4;
#if VL == 16
  return (vf)_mm512_permutexvar_ps((__m512i)codes, _mm512_loadu_ps(table));
#else
  vf values;
  for (int i = 0; i < VL; i++) values[i] = table[codes[i]];
  return values;
#endif
}

/* The VL codes from value j * VL of group g on, before the 16, 32 or 4 that q5_0, q6_k and q3_k subtract. */
GQA_INLINE vi k_codes(int type, const uint8_t *p, int g, int j) {
  if (type_is_table(type)) {
    const int at = j * VL;
    const vi bytes = vi_load_u8(p + (type == GQA_IQ4_XS ? 8 + 16 * g : type == GQA_IQ4_NL ? 2 : 1) + (at & 15));
    return (at < 16 ? bytes : bytes >> 4) & 15;
  }
  if (type == GQA_Q2_K || type == GQA_Q3_K) {
    const vi low = (vi_load_u8(p + (type == GQA_Q2_K ? 16 : 32) + 32 * (g >> 2) + j * VL) >> (2 * (g & 3))) & 3;
    return type == GQA_Q2_K ? low : low | (((vi_load_u8(p + j * VL) >> g) & 1) << 2);
  }
  if (type == GQA_Q5_0 || type == GQA_Q5_1) {
    uint32_t high;
    memcpy(&high, p + (type == GQA_Q5_1 ? 4 : 2), 4);
    const int at = j * VL;
    const vi bytes = vi_load_u8(p + (type == GQA_Q5_1 ? 8 : 6) + (at & 15));
    return ((at < 16 ? bytes : bytes >> 4) & 15) | fifth_bits(high, at);
  }
  if (type == GQA_Q6_K) {
    const int half = g >> 2, t = g & 3;
    const vi low = vi_load_u8(p + 64 * half + 32 * (t & 1) + j * VL) >> (t & 2 ? 4 : 0);
    const vi high = vi_load_u8(p + 128 + 32 * half + j * VL) >> (2 * t);
    return (low & 15) | ((high & 3) << 4);
  }
  const uint8_t *data = p + (type == GQA_Q5_K ? 48 : 16) + 32 * (g >> 1);
  const vi low = (vi_load_u8(data + j * VL) >> (g & 1 ? 4 : 0)) & 15;
  if (type == GQA_Q4_K) return low;
  return low | (((vi_load_u8(p + 16 + j * VL) >> g) & 1) << 4);
}

/* Group g of a block as f32, GQA_GROUP_VECTORS vectors; g is 0 where a block is one group. */
GQA_INLINE void decode_k_group(int type, const uint8_t *p, const k_scales *s, int g, vf *w) {
#if VL == 16
  if (type < GQA_Q6_K) { /* a permute looks the codes up among the 16 or 32 possible values, so none is converted */
    const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 scale = _mm512_set1_ps(s->v[g]), min = _mm512_set1_ps(s->v[K_MINIMUMS + g]);
    const __m512 low = _mm512_fmadd_ps(numbers, scale, min);
    const __m512 high = _mm512_fmadd_ps(_mm512_add_ps(numbers, _mm512_set1_ps(16)), scale, min);
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) {
      const __m512i codes = (__m512i)k_codes(type, p, g, j);
      w[j] = (vf)(type == GQA_Q4_K ? _mm512_permutexvar_ps(codes, low) : _mm512_permutex2var_ps(low, codes, high));
    }
    return;
  }
#endif
  GQA_UNROLL(8)
  for (int j = 0; j < GQA_GROUP_VECTORS; j++) {
    const vi codes = k_codes(type, p, g, j);
    const int sixteen = 2 * g + (j * VL >= 16);
    if (type_is_table(type)) w[j] = k_lookup(type, codes) * s->v[g];
    else if (type == GQA_Q6_K) w[j] = __builtin_convertvector(codes - 32, vf) * s->v[sixteen];
    else if (type == GQA_Q3_K) w[j] = __builtin_convertvector(codes - 4, vf) * s->v[sixteen];
    else if (type == GQA_Q2_K) w[j] = vf_fma(__builtin_convertvector(codes, vf), vf_set(s->v[sixteen]), vf_set(s->v[K_MINIMUMS16 + sixteen]));
    else w[j] = vf_fma(__builtin_convertvector(codes, vf), vf_set(s->v[g]), vf_set(s->v[K_MINIMUMS + g]));
  }
}

/* n elements in whole blocks as f32. */
GQA_INLINE void decode_k_run(int type, const uint8_t *p, float *out, size_t n) {
  const int groups = type_is_super(type) ? GQA_SUPER_GROUPS : 1;
  for (size_t i = 0; i < n; p += k_block_bytes(type)) {
    k_scales s;
    load_k_scales(type, p, &s);
    for (int g = 0; g < groups; g++, i += GQA_GROUP) {
      vf w[GQA_GROUP_VECTORS];
      decode_k_group(type, p, &s, g, w);
      GQA_UNROLL(8)
      for (int j = 0; j < GQA_GROUP_VECTORS; j++) vf_store(out + i + j * VL, w[j]);
    }
  }
}

GQA_NOINLINE void decode_k_elements(int type, const uint8_t *p, float *out, size_t n) {
  GQA_SPECIALISE(GQA_K_TYPES, type, decode_k_run(GQA_VALUE, p, out, n));
}

#endif
