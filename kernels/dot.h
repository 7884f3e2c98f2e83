/*
 * dot.h: rows of weights times few rows of x, as dot products: what one decode step is made of.
 *
 * dot_stored reads the stored form directly (one row of x; the weights pass through once, from memory). dot_tile works on f32
 * (2 or more rows of x, on weights decoded just before).
 *
 * Numerics: f32, two vectors of lanes per dot product; a 4-bit block with minimum m adds m * (sum of x) in the same lanes (VL < 16).
 */
#ifndef GQA_DOT_H
#define GQA_DOT_H
#include "quant.h"
#include "tasks.h"

/* Weight rows at a time; rows of x at a time in dot_tile (16 registers hold 8 accumulators). */
enum { DOT_W = 4, DOT_X = VL == 16 ? 4 : 2 };

/* acc[0] + acc[1] += the lanes of one group's products with x; s = the group's scale and minimum; sums = lanes of the sum of x. */
GQA_INLINE void dot_group(int type, const uint8_t *p, const float *s, const vf *x, const float *sums, vf *acc) {
  vf w[GROUP_VECTORS];
  if (!type_is_block(type)) {
    decode_group(type, p, w);
    GQA_UNROLL(8)
    for (int j = 0; j < GROUP_VECTORS; j++) acc[j & 1] = vf_fma(w[j], x[j], acc[j & 1]);
    return;
  }
  const uint8_t *data = p + (type == GQA_Q4_1 ? 4 : 2);
#if VL == 16
  if (type != GQA_Q8_0) {
    (void)sums;
    q4_lookup(data, s[0], s[1], w);
    acc[0] = vf_fma(w[0], x[0], acc[0]);
    acc[1] = vf_fma(w[1], x[1], acc[1]);
    return;
  }
#endif
  if (type == GQA_Q8_0) {
    GQA_UNROLL(8)
    for (int j = 0; j < GROUP_VECTORS; j++) w[j] = vf_load_i8((const int8_t *)data + j * VL);
  } else {
    q4_codes(data, w);
    acc[1] = vf_fma(vf_set(s[1]), vf_load(sums), acc[1]);
  }
  vf products = w[0] * x[0];
  GQA_UNROLL(8)
  for (int j = 1; j < GROUP_VECTORS; j++) products = vf_fma(w[j], x[j], products);
  acc[0] = vf_fma(vf_set(s[0]), products, acc[0]);
}

/* x's lanes added up per group, VL floats for each: what a block's minimum is multiplied by. */
GQA_INLINE void group_sums(const float *x, size_t k, float *sums) {
  for (size_t g = 0; g < k / GROUP; g++) {
    vf v = vf_load(x + g * GROUP);
    for (int j = 1; j < GROUP_VECTORS; j++) v += vf_load(x + g * GROUP + j * VL);
    vf_store(sums + g * VL, v);
  }
}

/* out[r] = weight row r . x for `rows` rows (a constant, 1 or DOT_W) stored rowBytes apart; x is padded with zeros to whole groups. */
GQA_INLINE void dot_stored(int type, const int rows, const uint8_t *w, size_t rowBytes, const float *x, const float *sums, size_t k, float *out) {
  enum { CHUNK = 32 };
  const size_t bytes = group_bytes(type), groups = k / GROUP;
  vf acc[DOT_W][2];
  for (int r = 0; r < DOT_W; r++) acc[r][0] = acc[r][1] = vf_set(0.0f);
  float scales[DOT_W][CHUNK][4]; /* converted ahead: a broadcast from memory is free, one from a register is not */
  for (size_t g0 = 0; g0 < groups; g0 += CHUNK) {
    const size_t n = gqa_min(CHUNK, groups - g0);
    if (type_is_block(type)) {
      for (int r = 0; r < rows; r++)
        for (size_t g = 0; g < n; g++) block_scales(type, w + (size_t)r * rowBytes + (g0 + g) * bytes, scales[r][g]);
    }
    for (size_t g = 0; g < n; g++) {
      vf xs[GROUP_VECTORS];
      GQA_UNROLL(8)
      for (int j = 0; j < GROUP_VECTORS; j++) xs[j] = vf_load(x + (g0 + g) * GROUP + j * VL);
      GQA_UNROLL(4)
      for (int r = 0; r < rows; r++) {
        const uint8_t *p = w + (size_t)r * rowBytes + (g0 + g) * bytes;
        __builtin_prefetch(p + 1024);
        dot_group(type, p, scales[r][g], xs, sums + (g0 + g) * VL, acc[r]);
      }
    }
  }
  if (k % GROUP) {
    for (int r = 0; r < rows; r++) {
      vf v[GROUP_VECTORS];
      decode_partial(type, w + (size_t)r * rowBytes + groups * bytes, (int)(k % GROUP), v);
      for (int j = 0; j < GROUP_VECTORS; j++) acc[r][j & 1] = vf_fma(v[j], vf_load(x + groups * GROUP + j * VL), acc[r][j & 1]);
    }
  }
  if (rows == 1) {
    out[0] = vf_sum(acc[0][0] + acc[0][1]);
    return;
  }
  float lanes[VL];
  vf_store(lanes, vf_sum4(acc[0][0] + acc[0][1], acc[1][0] + acc[1][1], acc[2][0] + acc[2][1], acc[3][0] + acc[3][1]));
  memcpy(out, lanes, DOT_W * sizeof(float));
}

/* Rows first … end of a weight matrix times one x. */
GQA_INLINE void dot_stored_rows(int type, const uint8_t *w, size_t rowBytes, const float *x, const float *sums, size_t k, size_t rows, float *out) {
  size_t r = 0;
  for (; r + DOT_W <= rows; r += DOT_W) dot_stored(type, DOT_W, w + r * rowBytes, rowBytes, x, sums, k, out + r);
  for (; r < rows; r++) dot_stored(type, 1, w + r * rowBytes, rowBytes, x, sums, k, out + r);
}

/* out[i][j] += w[j] . x[i] over k elements; w and x are DOT_W and n <= DOT_X rows (n a constant where this is inlined). */
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
