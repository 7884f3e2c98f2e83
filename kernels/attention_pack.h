/* attention_pack.h: copies of the panel form: tiles of K and V, panels of queries, and finished rows. */
#ifndef GQA_ATTENTION_PACK_H
#define GQA_ATTENTION_PACK_H
#include "attention.h"

/*
 * The micro kernel's block: MR values of the broadcast operand by up to NV vectors of the lane operand.
 * Measured: three vectors are 3 to 8 % faster than two on AVX-512, AVX2 and SSE2, and slower in V8's WASM;
 * steps unrolled by two gain up to 3 %, and cost V8 25 %.
 */
#define ATTN_MR (VL == 16 ? 8 : 4)
#if defined(__wasm__)
#define ATTN_NV 2
#define ATTN_UNROLL 1
#else
#define ATTN_NV (VF_SUMS / ATTN_MR)
#define ATTN_UNROLL 2
#endif
#define ATTN_NR (ATTN_NV * VL)
/*
 * Rows of a unit and keys of a tile: more rows read K and V less often, as long as Q^T and O^T stay in L2
 * (590 kB at H = 128).
 */
#define ATTN_ROWS 576
#define ATTN_KEYS 128
/* Keys from one block of values to the next: 128 would put all blocks of a key into one set of L1. */
#define ATTN_STEP (ATTN_KEYS + 4)
/*
 * Padding after each copied key that is also its value (latent attention): with a row length of 576 a block's
 * keys would use a quarter of the sets of L1.
 */
#define ATTN_LATENT_PAD 16

/*
 * The factor that makes a value of 2^80 infinite: below that no weighted sum of 2^31 values overflows. Values
 * from 2^80 on, infinities and NaN are not ordinary.
 */
#define ATTN_LARGE 0x1p48f

/*
 * One panel: its rows, Q^T [H][NR] and O^T [Hv_mr][NR]; per lane the maximum, the sum and the keys [low,
 * high) that it sees.
 */
typedef struct {
  attn_rows rows;
  float *q, *o;
  float m[ATTN_NR], l[ATTN_NR];
  int32_t low[ATTN_NR], high[ATTN_NR];
  int32_t min_low, max_low, min_high, max_high;
} attn_panel;

typedef struct {
  float *s, *keys, *values, *finite, *lines;
  attn_panel *panels;
  int Hv_mr; /* Hv rounded up to MR */
} attn_panel_scratch;

/*
 * Keys [k0, k0 + n), and where the micro kernel reads them: key j dim d at keys[j * key_row + d], value j
 * dims [d, d + MR) from values[d * value_block + j * value_step].
 */
typedef struct {
  int64_t k0;
  int n, finite; /* finite: whether all values are ordinary, or need not be */
  const float *keys, *values;
  int64_t key_row, value_block, value_step;
} attn_tile;

GQA_INLINE size_t attn_panel_scratch_bytes(const attn *c) {
  size_t Hv_mr = (size_t)(c->Hv + ATTN_MR - 1) / ATTN_MR * ATTN_MR;
  size_t panels = ATTN_ROWS / ATTN_NR;
  size_t floats = panels * ATTN_NR * ((size_t)c->H + Hv_mr) + ATTN_KEYS * (ATTN_NR + (size_t)c->H + ATTN_LATENT_PAD) + 2 * ATTN_STEP * Hv_mr + VL * (Hv_mr + VL);
  return floats * sizeof(float) + panels * sizeof(attn_panel);
}

/*
 * Copies n keys of KV head k from the cursor on, as f32 rows [n][row], with zero rows up to a multiple of MR.
 * Returns 0 when one of the first `value_dims` dims (whole vectors) is not an ordinary value.
 */
GQA_INLINE int attn_pack_keys(const attn *c, float *keys, int64_t row, int value_dims, int k, attn_cursor at, int n, const int type) {
  int H = c->H;
  vf bad = vf_set(0);
  for (int j = 0; j < n; j++, at.skip++) {
    attn_settle(c, &at);
    int64_t x = at.skip * c->key_token + k * c->key_head;
    float *key = keys + j * row;
    int d = 0;
    for (; d < value_dims; d += VL) {
      vf v = attn_load(at.segment.key, type, x + d);
      bad = vf_fma(v * ATTN_LARGE, vf_set(0), bad);
      vf_store(key + d, v);
    }
    for (; d + VL <= H; d += VL) vf_store(key + d, attn_load(at.segment.key, type, x + d));
    if (d < H) vf_store_n(key + d, attn_load_n(at.segment.key, type, x + d, H - d), H - d);
  }
  for (int j = n; j % ATTN_MR; j++) memset(keys + j * row, 0, (size_t)H * sizeof(float));
  return vf_sum(bad) == 0;
}

/* VL dims of one value into the blocks [VL / MR][STEP][MR]. */
GQA_INLINE void attn_store_blocks(float *to, vf v) {
#if VL == 16
  _mm256_storeu_ps(to, _mm512_castps512_ps256((__m512)v));
  _mm256_storeu_ps(to + ATTN_MR * ATTN_STEP, _mm512_extractf32x8_ps((__m512)v, 1));
#elif VL == 8
  _mm_storeu_ps(to, _mm256_castps256_ps128((__m256)v));
  _mm_storeu_ps(to + ATTN_MR * ATTN_STEP, _mm256_extractf128_ps((__m256)v, 1));
#else
  vf_store(to, v);
#endif
}

/*
 * Copies n values from the cursor on as [Hv_mr / MR][STEP][MR]. Returns 0 when one of them is not an ordinary
 * value.
 */
GQA_INLINE int attn_pack_values(const attn *c, const attn_panel_scratch *w, int k, attn_cursor *at, int n, const int type) {
  int Hv = c->Hv;
  vf bad = vf_set(0);
  for (int j = 0; j < n; j++, at->skip++) {
    attn_settle(c, at);
    int64_t x = at->skip * c->value_token + k * c->value_head;
    float *value = w->values + (int64_t)j * ATTN_MR;
    int d = 0;
    for (; d + VL <= Hv; d += VL) {
      vf v = attn_load(at->segment.value, type, x + d);
      bad = vf_fma(v * ATTN_LARGE, vf_set(0), bad);
      attn_store_blocks(value + (int64_t)d * ATTN_STEP, v);
    }
    if (d < Hv) {
      float tail[VL];
      vf v = attn_load_n(at->segment.value, type, x + d, Hv - d);
      bad = vf_fma(v * ATTN_LARGE, vf_set(0), bad);
      vf_store(tail, v);
      for (int i = 0; d < w->Hv_mr; d += ATTN_MR, i += ATTN_MR) memcpy(value + (int64_t)d * ATTN_STEP, tail + i, ATTN_MR * sizeof(float));
    }
  }
  return vf_sum(bad) == 0;
}

/*
 * Whether the n values at the cursor are the first dims of their keys (latent attention), in whole vectors.
 */
GQA_INLINE int attn_is_latent(const attn *c, const attn_cursor *at, int n) {
  return at->segment.key == at->segment.value && c->key_type == c->value_type && c->key_token == c->value_token && c->key_head == c->value_head && c->Hv <= c->H && c->Hv % VL == 0 && at->skip + n <= at->segment.length;
}

/*
 * Copies keys and values of the tile at the cursor, which moves on. Values that are dims of the keys are
 * copied once.
 */
GQA_INLINE void attn_pack(const attn *c, const attn_panel_scratch *w, int k, attn_cursor *at, attn_tile *tile) {
  int n = tile->n, latent = attn_is_latent(c, at, n), value_dims = latent ? c->Hv : 0, finite = 0;
  int64_t row = latent ? c->H + ATTN_LATENT_PAD : c->H;
  GQA_SPECIALISE(ATTN_TYPES, c->key_type, finite = attn_pack_keys(c, w->keys, row, value_dims, k, *at, n, GQA_VALUE));
  tile->keys = w->keys, tile->key_row = row;
  if (latent && finite) {
    tile->values = w->keys, tile->value_block = 1, tile->value_step = row;
    tile->finite = 1;
    at->skip += n;
    return;
  }
  tile->values = w->values, tile->value_block = ATTN_STEP, tile->value_step = ATTN_MR;
  GQA_SPECIALISE(ATTN_TYPES, c->value_type, tile->finite = attn_pack_values(c, w, k, at, n, GQA_VALUE));
}

/* The offset of row i of `rows` among queries or outputs with these strides. */
GQA_INLINE int64_t attn_row_at(const attn *c, const int64_t *strides, attn_rows rows, int i) {
  int64_t r = rows.first + i, t = r / c->G;
  return attn_at(strides, rows.b, t, rows.k * c->G + r - t * c->G);
}

/* Gathers rows of the queries, at most NR, into a panel Q^T [H][NR], scaled; lanes past the rows are zero. */
GQA_INLINE void attn_pack_queries(const attn *c, float *q, attn_rows rows) {
  float scale = c->scale;
  for (int r = 0; r < ATTN_NR; r += VL) {
    const float *from[VL];
    for (int i = 0; i < VL; i++) from[i] = r + i < rows.count ? c->query + attn_row_at(c, c->query_strides, rows, r + i) : 0;
    for (int d = 0; d < c->H; d += VL) {
      int left = c->H - d, dims = left < VL ? left : VL;
      vf v[VL];
      for (int i = 0; i < VL; i++) v[i] = from[i] ? vf_load_upto(from[i] + d, left) : vf_set(0);
      vf_transpose(v);
      for (int i = 0; i < dims; i++) vf_store(q + (int64_t)(d + i) * ATTN_NR + r, v[i] * scale);
    }
  }
}

/*
 * Prefetches the memory of the next copies (rows of queries, outputs, keys and values), a few lines at a time
 * between micro kernels, so that the copies do not wait for the last-level cache.
 */
enum { ATTN_AHEAD = 2 * ATTN_KEYS + 2 * ATTN_NR };
typedef struct {
  int count, next;
  struct {
    const char *at;
    int64_t bytes;
  } pieces[ATTN_AHEAD];
} attn_ahead;

GQA_INLINE void attn_ahead_add(attn_ahead *a, const void *at, int64_t bytes) {
#if defined(__wasm__)
  (void)a, (void)at, (void)bytes; /* no prefetch there */
#else
  a->pieces[a->count].at = at;
  a->pieces[a->count++].bytes = bytes;
#endif
}
GQA_INLINE void attn_ahead_fetch(attn_ahead *a, int pieces) {
  int end = a->next + pieces < a->count ? a->next + pieces : a->count;
  for (; a->next < end; a->next++)
    for (int64_t x = 0; x < a->pieces[a->next].bytes; x += 64) __builtin_prefetch(a->pieces[a->next].at + x, 0, 2);
}
/* Rows of queries or outputs; a read suffices for outputs too, since no other core holds them. */
GQA_INLINE void attn_ahead_rows(attn_ahead *a, const attn *c, const float *base, const int64_t *strides, int dims, attn_rows rows) {
  for (int i = 0; i < rows.count; i++) attn_ahead_add(a, base + attn_row_at(c, strides, rows, i), (int64_t)dims * 4);
}
/* Tokens [from, to) past the cursor, as far as its segment goes. */
GQA_INLINE void attn_ahead_tokens(attn_ahead *a, const attn *c, int k, const attn_cursor *at, int from, int to) {
  for (int64_t j = at->skip + from; j < at->skip + to && j < at->segment.length; j++) {
    attn_ahead_add(a, at->segment.key + attn_bytes(c->key_type, j * c->key_token + k * c->key_head), attn_bytes(c->key_type, c->H));
    if (at->segment.value != at->segment.key) attn_ahead_add(a, at->segment.value + attn_bytes(c->value_type, j * c->value_token + k * c->value_head), attn_bytes(c->value_type, c->Hv));
  }
}
#endif
