/*
 * dot.h: rows of weights times few rows of x, as dot products: most of a decode step.
 *
 * dot_stored reads the stored form directly (one row of x; the weights pass through once, from memory).
 * dot_tile and dot_codes work on weights that were decoded just before, for several rows of x.
 *
 * Numerics: f32, the same bits for any number of rows: a row of x and a row of weights are summed in one
 * order. DOT_CHUNK elements at a time, vector v of them is added to lane sums v % 2, whose sum is added to
 * the total. With 4 lanes (DOT_SCALED) the codes of a block are multiplied first and scaled then, in lane
 * sums of even and odd groups; a minimum times the sum of x has its own two.
 */
#ifndef GQA_DOT_H
#define GQA_DOT_H
#include "quant.h"
#include "tasks.h"

/* Weight rows at a time; rows of x at a time in dot_tile. */
enum { DOT_W = 4, DOT_X = VF_SUMS == 12 ? 2 : VF_SUMS / DOT_W };
/* Elements between additions to the total; whole blocks of every type. */
enum { DOT_CHUNK = 1024, DOT_CHUNK_GROUPS = DOT_CHUNK / GQA_GROUP };
/* Prefetch distance in a row, in bytes. */
enum { DOT_AHEAD = 4096 };
/*
 * Whether blocks are scaled after the products: with 4 lanes that takes 16 % less time, with 8 lanes 2 %,
 * with 16 none.
 */
enum { DOT_SCALED = VL == 4 };

GQA_INLINE int dot_is_scaled(int type) { return DOT_SCALED && type_is_block(type) && !type_is_k(type); }
GQA_INLINE int dot_has_minimum(int type) { return type != GQA_Q8_0; }

/*
 * acc[0] += a group's codes times x, scaled; acc[1] += the minimum times the lane sums of x. s = scale and
 * minimum.
 */
GQA_INLINE void dot_scaled_group(int type, const vf *codes, const float *s, const float *x, const float *sums, vf *acc) {
  vf products = codes[0] * vf_load(x);
  GQA_UNROLL(8)
  for (int j = 1; j < GQA_GROUP_VECTORS; j++) products = vf_fma(codes[j], vf_load(x + j * VL), products);
  acc[0] = vf_fma(vf_set(s[0]), products, acc[0]);
  if (dot_has_minimum(type)) acc[1] = vf_fma(vf_set(s[1]), vf_load(sums), acc[1]);
}

/* The scale and minimum of a block. */
GQA_INLINE void dot_block_scales(int type, const uint8_t *p, float *s) {
  block_scales(type, p, s);
  if (dot_is_scaled(type) && type == GQA_Q4_0) s[1] = -8.0f * s[0];
}
/* The codes of a block that is scaled after the products, as f32. */
GQA_INLINE void dot_block_codes(int type, const uint8_t *p, vf *codes) {
  if (type == GQA_Q8_0) q8_codes((const int8_t *)p + 2, codes);
  else q4_codes(p + (type == GQA_Q4_1 ? 4 : 2), codes);
}

/* The sum of a chunk's lane sums. */
GQA_INLINE vf dot_chains(int type, const vf *acc) { return dot_is_scaled(type) ? (acc[0] + acc[1]) + (acc[2] + acc[3]) : acc[0] + acc[1]; }

/* acc += the products of x and the group at p, which has the scales s and is the odd one of two or not. */
GQA_INLINE void dot_group(int type, const uint8_t *p, const int odd, const float *s, const float *x, const float *sums, vf *acc) {
  vf w[GQA_GROUP_VECTORS];
  if (dot_is_scaled(type)) {
    dot_block_codes(type, p, w);
    dot_scaled_group(type, w, s, x, sums, acc + 2 * odd);
    return;
  }
  decode_group_with(type, p, s, w);
  GQA_UNROLL(8)
  for (int j = 0; j < GQA_GROUP_VECTORS; j++) {
    acc[j & 1] = vf_fma(w[j], vf_load(x + j * VL), acc[j & 1]);
  }
}

/* The lane sums of x per group, VL floats each: the factor of a block's minimum. */
GQA_INLINE void group_sums(const float *x, size_t k, float *sums) {
  for (size_t g = 0; g < k / GQA_GROUP; g++) {
    vf v = vf_load(x + g * GQA_GROUP);
    for (int j = 1; j < GQA_GROUP_VECTORS; j++) v += vf_load(x + g * GQA_GROUP + j * VL);
    vf_store(sums + g * VL, v);
  }
}

/* The lanes of one stored row times x; of a type of quant.h. */
GQA_INLINE vf dot_stored(int type, const uint8_t *w, const float *x, const float *sums, size_t k) {
  const size_t bytes = group_bytes(type);
  vf total = vf_set(0.0f);
  float scales[DOT_CHUNK_GROUPS][4]; /* converted ahead: a broadcast from memory is free, one from a register is not; and the data is fetched */
  for (size_t k0 = 0; k0 < k; k0 += DOT_CHUNK) {
    const size_t length = gqa_min(DOT_CHUNK, k - k0), n = length / GQA_GROUP, rest = length % GQA_GROUP;
    const uint8_t *p = w + k0 / GQA_GROUP * bytes;
    const float *xg = x + k0, *sg = sums + k0 / GQA_GROUP * VL;
    vf acc[4];
    for (int i = 0; i < 4; i++) acc[i] = vf_set(0.0f);
    for (size_t g = 0; g < n && type_is_block(type); g++) dot_block_scales(type, p + g * bytes, scales[g]);
    size_t g = 0;
    for (; g + 2 <= n; g += 2, p += 2 * bytes, xg += 2 * GQA_GROUP, sg += 2 * VL) {
      __builtin_prefetch(p + DOT_AHEAD, 0);
      if (bytes > 32) __builtin_prefetch(p + DOT_AHEAD + 64, 0);
      if (bytes > 64) {
        __builtin_prefetch(p + DOT_AHEAD + 128, 0);
        __builtin_prefetch(p + DOT_AHEAD + 192, 0);
      }
      dot_group(type, p, 0, scales[g], xg, sg, acc);
      dot_group(type, p + bytes, 1, scales[g + 1], xg + GQA_GROUP, sg + VL, acc);
    }
    if (g < n) dot_group(type, p, 0, scales[g], xg, sg, acc);
    if (rest && !type_is_block(type)) {
      vf v[GQA_GROUP_VECTORS];
      xg = x + k0 + n * GQA_GROUP;
      decode_partial(type, w + (k0 + n * GQA_GROUP) * (bytes / GQA_GROUP), (int)rest, v);
      for (size_t j = 0; j * VL < rest; j++) acc[j & 1] = vf_fma(v[j], vf_load_upto(xg + j * VL, rest - j * VL), acc[j & 1]);
    }
    total += dot_chains(type, acc);
  }
  return total;
}

/* The same for a type of quant_k.h. */
GQA_INLINE vf dot_k_stored(int type, const uint8_t *p, const float *x, size_t k) {
  const int groups = type_is_super(type) ? GQA_SUPER_GROUPS : 1;
  vf total = vf_set(0.0f);
  for (size_t i = 0; i < k;) {
    const size_t end = gqa_min(i + DOT_CHUNK, k);
    vf acc[2] = {vf_set(0.0f), vf_set(0.0f)};
    for (; i < end; p += k_block_bytes(type)) {
      k_scales s;
      load_k_scales(type, p, &s);
      for (size_t b = 0; b < k_block_bytes(type); b += 64) __builtin_prefetch(p + DOT_AHEAD / 2 + b);
      GQA_UNROLL(8)
      for (int g = 0; g < groups; g++, i += GQA_GROUP) {
        vf v[GQA_GROUP_VECTORS];
        decode_k_group(type, p, &s, g, v);
        GQA_UNROLL(8)
        for (int j = 0; j < GQA_GROUP_VECTORS; j++) acc[j & 1] = vf_fma(v[j], vf_load(x + i + j * VL), acc[j & 1]);
      }
    }
    total += acc[0] + acc[1];
  }
  return total;
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
    for (size_t i = 0; i < DOT_W; i++) {
      const uint8_t *row = w + (r + i) * row_bytes;
      v[i] = i >= n ? vf_set(0.0f) : type_is_k(type) ? dot_k_stored(type, row, x, k) : dot_stored(type, row, x, sums, k);
    }
    vf_store(lanes, vf_sum4(v[0], v[1], v[2], v[3]));
    memcpy(out + r, lanes, n * sizeof(float));
  }
}

/* Memory to prefetch into L2 while a tile runs: from `at` on, `step` bytes at each vector of k. */
typedef struct {
  const uint8_t *at;
  size_t step;
} dot_ahead;

/*
 * acc[i][j] = the products of w[j] and x[i] at vectors first, first + 2, …; n (a constant where this is
 * inlined) rows of x.
 */
GQA_INLINE void dot_tile_half(const int n, const float *const *w, const float *x, size_t ldx, size_t k, size_t first, dot_ahead *ahead, vf (*acc)[DOT_W]) {
  GQA_UNROLL(8)
  for (int i = 0; i < n; i++)
    GQA_UNROLL(4)
    for (int j = 0; j < DOT_W; j++) acc[i][j] = vf_set(0.0f);
  size_t p = first * VL;
  const uint8_t *at = ahead->at;
  for (; p + VL <= k; p += 2 * VL) {
    vf v[DOT_W];
    __builtin_prefetch(at, 0, 2);
    at += ahead->step;
    GQA_UNROLL(4)
    for (int j = 0; j < DOT_W; j++) v[j] = vf_load(w[j] + p);
    GQA_UNROLL(8)
    for (int i = 0; i < n; i++) {
      const vf xi = vf_load(x + (size_t)i * ldx + p);
      GQA_UNROLL(4)
      for (int j = 0; j < DOT_W; j++) acc[i][j] = vf_fma(v[j], xi, acc[i][j]);
    }
  }
  ahead->at = at;
  if (p >= k) return;
  GQA_UNROLL(8)
  for (int i = 0; i < n; i++) {
    const vf xi = vf_load_n(x + (size_t)i * ldx + p, (int)(k - p));
    GQA_UNROLL(4)
    for (int j = 0; j < DOT_W; j++) acc[i][j] = vf_fma(vf_load_n(w[j] + p, (int)(k - p)), xi, acc[i][j]);
  }
}

/* A total of a chunk: the first is stored, the others are added. */
GQA_INLINE void dot_add(float *total, vf chunk, int first) { vf_store(total, first ? chunk : vf_load(total) + chunk); }

/* totals[i][j] = (first) or += the lanes of w[j] . x[i] over k elements. */
GQA_INLINE void dot_tile_n(const int n, const float *const *w, const float *x, size_t ldx, size_t k, int first, dot_ahead *ahead, float (*totals)[DOT_W][VL]) {
  vf even[DOT_X][DOT_W], odd[DOT_X][DOT_W];
  dot_tile_half(n, w, x, ldx, k, 0, ahead, even);
  dot_tile_half(n, w, x, ldx, k, 1, ahead, odd);
  GQA_UNROLL(8)
  for (int i = 0; i < n; i++)
    GQA_UNROLL(4)
    for (int j = 0; j < DOT_W; j++) dot_add(totals[i][j], even[i][j] + odd[i][j], first);
}

GQA_NOINLINE void dot_tile(int n, const float *const *w, const float *x, size_t ldx, size_t k, int first, dot_ahead *ahead, float (*totals)[DOT_W][VL]) {
  switch (n) {
#if VF_SUMS == 24
    case 6: dot_tile_n(6, w, x, ldx, k, first, ahead, totals); break;
    case 5: dot_tile_n(5, w, x, ldx, k, first, ahead, totals); break;
#endif
#if VF_SUMS >= 16
    case 4: dot_tile_n(4, w, x, ldx, k, first, ahead, totals); break;
    case 3: dot_tile_n(3, w, x, ldx, k, first, ahead, totals); break;
#endif
    case 2: dot_tile_n(2, w, x, ldx, k, first, ahead, totals); break;
    default: dot_tile_n(1, w, x, ldx, k, first, ahead, totals); break;
  }
}

#if VL == 4
enum { DOT_CODES_X = 2 }; /* rows of x that share registers */

/* One weight row's codes and scales of some groups. */
typedef struct {
  float codes[DOT_CHUNK], scales[DOT_CHUNK_GROUPS][4];
} dot_codes_row;

GQA_INLINE void dot_decode_codes(int type, const uint8_t *p, size_t groups, dot_codes_row *to) {
  for (size_t g = 0; g < groups; g++, p += group_bytes(type)) {
    vf codes[GQA_GROUP_VECTORS];
    dot_block_scales(type, p, to->scales[g]);
    dot_block_codes(type, p, codes);
    for (int j = 0; j < GQA_GROUP_VECTORS; j++) vf_store(to->codes + g * GQA_GROUP + (size_t)j * VL, codes[j]);
  }
}

/* totals[i][0] = (first) or += the lanes of w . x[i] over some groups, for n <= DOT_CODES_X rows of x. */
GQA_INLINE void dot_codes_n(const int n, int type, const dot_codes_row *w, const float *x, size_t ldx, const float *sums, size_t ld_sums, size_t groups, int first, float (*totals)[DOT_W][VL]) {
  vf acc[DOT_CODES_X][4];
  for (int i = 0; i < n; i++)
    for (int j = 0; j < 4; j++) acc[i][j] = vf_set(0.0f);
  for (size_t g = 0; g < groups; g += 2) {
    GQA_UNROLL(2)
    for (size_t odd = 0; odd < 2; odd++) {
      if (g + odd == groups) break;
      vf codes[GQA_GROUP_VECTORS];
      for (int j = 0; j < GQA_GROUP_VECTORS; j++) codes[j] = vf_load(w->codes + (g + odd) * GQA_GROUP + (size_t)j * VL);
      GQA_UNROLL(2)
      for (int i = 0; i < n; i++) dot_scaled_group(type, codes, w->scales[g + odd], x + (size_t)i * ldx + (g + odd) * GQA_GROUP, sums + (size_t)i * ld_sums + (g + odd) * VL, acc[i] + 2 * odd);
    }
  }
  for (int i = 0; i < n; i++) dot_add(totals[i][0], (acc[i][0] + acc[i][1]) + (acc[i][2] + acc[i][3]), first);
}

GQA_NOINLINE void dot_codes(int type, int n, const dot_codes_row *w, const float *x, size_t ldx, const float *sums, size_t ld_sums, size_t groups, int first, float (*totals)[DOT_W][VL]) {
  if (dot_has_minimum(type)) {
    if (n == 2) dot_codes_n(2, GQA_Q4_1, w, x, ldx, sums, ld_sums, groups, first, totals);
    else dot_codes_n(1, GQA_Q4_1, w, x, ldx, sums, ld_sums, groups, first, totals);
  } else {
    if (n == 2) dot_codes_n(2, GQA_Q8_0, w, x, ldx, sums, ld_sums, groups, first, totals);
    else dot_codes_n(1, GQA_Q8_0, w, x, ldx, sums, ld_sums, groups, first, totals);
  }
}
#endif

/* out[j] = the sum of the lanes of totals[j], plus bias[j] where there is one, for j < n <= DOT_W. */
GQA_INLINE void dot_store_sums(const float (*totals)[VL], const float *bias, size_t n, float *out) {
  vf sums = vf_sum4(vf_load(totals[0]), vf_load(totals[1]), vf_load(totals[2]), vf_load(totals[3]));
  if (bias) sums += vf_load_n(bias, (int)n);
  if (n == DOT_W) vf_store_n(out, sums, DOT_W); /* a constant, so no call */
  else vf_store_n(out, sums, (int)n);
}

#endif
