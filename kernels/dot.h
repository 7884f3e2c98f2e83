/*
 * dot.h: rows of weights times few rows of x, as dot products: most of a decode step.
 *
 * dot_stored reads the stored form directly (one row of x; the weights pass through once, from memory).
 * dot_tile works on f32 (2 or more rows of x, on weights decoded just before).
 *
 * Numerics: f32, two vectors of lanes per dot product; a 4-bit block with minimum m adds m * (sum of x) in
 * the same lanes (VL < 16).
 */
#ifndef GQA_DOT_H
#define GQA_DOT_H
#include "quant.h"
#include "tasks.h"

/* Weight rows at a time; rows of x at a time in dot_tile (16 registers hold 8 accumulators). */
enum { DOT_W = 4, DOT_X = VL == 16 ? 4 : 2 };
/* Prefetch distance in a row, in bytes. */
enum { DOT_AHEAD = 4096 };

/*
 * acc[0] + acc[1] += the lanes of one group's products with x; s = the group's scale and minimum; sums =
 * lanes of the sum of x.
 */
GQA_INLINE void dot_group(int type, const uint8_t *p, const float *s, const float *x, const float *sums, vf *acc) {
  vf w[GQA_GROUP_VECTORS];
  (void)sums;
#if VL == 16
  const int decodes = type != GQA_Q8_0;
#else
  const int decodes = !type_is_block(type);
#endif
  if (decodes) {
#if VL == 16
    if (type_is_block(type)) q4_lookup(type, p, s, w);
    else
#endif
      decode_group(type, p, w);
    GQA_UNROLL(8)
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) acc[j & 1] = vf_fma(w[j], vf_load(x + j * VL), acc[j & 1]);
    return;
  }
  if (type == GQA_Q8_0) {
    GQA_UNROLL(8)
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) w[j] = vf_load_i8((const int8_t *)p + 2 + j * VL);
  } else {
    q4_codes(p + (type == GQA_Q4_1 ? 4 : 2), w);
    acc[1] = vf_fma(vf_set(type == GQA_Q4_1 ? s[1] : -8.0f * s[0]), vf_load(sums), acc[1]);
  }
  vf products = w[0] * vf_load(x);
  GQA_UNROLL(8)
  for (int j = 1; j < GQA_GROUP_VECTORS; j++) products = vf_fma(w[j], vf_load(x + j * VL), products);
  acc[0] = vf_fma(vf_set(s[0]), products, acc[0]);
}

/* The lane sums of x per group, VL floats each: the factor of a block's minimum. */
GQA_INLINE void group_sums(const float *x, size_t k, float *sums) {
  for (size_t g = 0; g < k / GQA_GROUP; g++) {
    vf v = vf_load(x + g * GQA_GROUP);
    for (int j = 1; j < GQA_GROUP_VECTORS; j++) v += vf_load(x + g * GQA_GROUP + j * VL);
    vf_store(sums + g * VL, v);
  }
}

/* The lanes of one stored row times x; x is padded with zeros to whole groups. */
GQA_INLINE vf dot_stored(int type, const uint8_t *w, const float *x, const float *sums, size_t k) {
  enum { DOT_CHUNK = 64 };
  const size_t bytes = group_bytes(type), groups = k / GQA_GROUP;
  vf acc[4];
  for (int i = 0; i < 4; i++) acc[i] = vf_set(0.0f);
  float scales[DOT_CHUNK][4]; /* converted ahead: a broadcast from memory is free, one from a register is not; and the data is fetched */
  for (size_t g0 = 0; g0 < groups; g0 += DOT_CHUNK) {
    const size_t n = gqa_min(DOT_CHUNK, groups - g0);
    const uint8_t *p = w + g0 * bytes;
    const float *xg = x + g0 * GQA_GROUP, *sg = sums + g0 * VL;
    for (size_t g = 0; g < n && type_is_block(type); g++) block_scales(type, p + g * bytes, scales[g]);
    size_t g = 0;
    for (; g + 2 <= n; g += 2, p += 2 * bytes, xg += 2 * GQA_GROUP, sg += 2 * VL) {
      __builtin_prefetch(p + DOT_AHEAD, 0);
      if (bytes > 32) __builtin_prefetch(p + DOT_AHEAD + 64, 0);
      if (bytes > 64) {
        __builtin_prefetch(p + DOT_AHEAD + 128, 0);
        __builtin_prefetch(p + DOT_AHEAD + 192, 0);
      }
      dot_group(type, p, scales[g], xg, sg, acc);
      dot_group(type, p + bytes, scales[g + 1], xg + GQA_GROUP, sg + VL, acc + 2);
    }
    if (g < n) dot_group(type, p, scales[g], xg, sg, acc);
  }
  if (k % GQA_GROUP && !type_is_block(type)) {
    vf v[GQA_GROUP_VECTORS];
    decode_partial(type, w + groups * bytes, (int)(k % GQA_GROUP), v);
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) acc[j & 3] = vf_fma(v[j], vf_load(x + groups * GQA_GROUP + j * VL), acc[j & 3]);
  }
  return (acc[0] + acc[1]) + (acc[2] + acc[3]);
}

/*
 * out[r] = weight row r . x for `rows` rows stored row_bytes apart. One row after the other: memory is read
 * in one stream.
 */
GQA_INLINE void dot_stored_rows(int type, const uint8_t *w, size_t row_bytes, const float *x, const float *sums, size_t k, size_t rows, float *out) {
  for (size_t r = 0; r < rows; r += DOT_W) {
    const size_t n = gqa_min(DOT_W, rows - r);
    vf v[DOT_W];
    float lanes[VL];
    for (size_t i = 0; i < DOT_W; i++) v[i] = i < n ? dot_stored(type, w + (r + i) * row_bytes, x, sums, k) : vf_set(0.0f);
    vf_store(lanes, vf_sum4(v[0], v[1], v[2], v[3]));
    memcpy(out + r, lanes, n * sizeof(float));
  }
}

/*
 * out[i][j] += w[j] . x[i] over k elements; w and x are DOT_W and n <= DOT_X rows (n a constant where this is
 * inlined).
 */
GQA_INLINE void dot_tile_n(const int n, const float *const *w, const float *x, size_t ldx, size_t k, float (*out)[DOT_W]) {
  vf acc[DOT_X][DOT_W];
  for (int i = 0; i < n; i++)
    for (int j = 0; j < DOT_W; j++) acc[i][j] = vf_set(0.0f);
  const size_t whole = k / VL * VL;
  for (size_t p = 0; p < whole; p += VL) {
    vf v[DOT_W];
    GQA_UNROLL(4)
    for (int j = 0; j < DOT_W; j++) v[j] = vf_load(w[j] + p);
    GQA_UNROLL(4)
    for (int i = 0; i < n; i++) {
      vf xi = vf_load(x + (size_t)i * ldx + p);
      GQA_UNROLL(4)
      for (int j = 0; j < DOT_W; j++) acc[i][j] = vf_fma(v[j], xi, acc[i][j]);
    }
  }
  if (whole < k) {
    const int rest = (int)(k - whole);
    for (int i = 0; i < n; i++) {
      vf xi = vf_load_n(x + (size_t)i * ldx + whole, rest);
      for (int j = 0; j < DOT_W; j++) acc[i][j] = vf_fma(vf_load_n(w[j] + whole, rest), xi, acc[i][j]);
    }
  }
  for (int i = 0; i < n; i++) {
    float lanes[VL];
    vf_store(lanes, vf_sum4(acc[i][0], acc[i][1], acc[i][2], acc[i][3]));
    for (int j = 0; j < DOT_W; j++) out[i][j] += lanes[j];
  }
}

GQA_NOINLINE void dot_tile(int n, const float *const *w, const float *x, size_t ldx, size_t k, float (*out)[DOT_W]) {
  switch (n) {
#if VL == 16
    case 4: dot_tile_n(4, w, x, ldx, k, out); break;
    case 3: dot_tile_n(3, w, x, ldx, k, out); break;
#endif
    case 2: dot_tile_n(2, w, x, ldx, k, out); break;
    default: dot_tile_n(1, w, x, ldx, k, out); break;
  }
}

#endif
