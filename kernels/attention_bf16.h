/*
 * attention_bf16.h: attention for many query rows with products in bfloat16. As attention_panel.h: units,
 * panels, tiles, masks and sums in f32 are the same, but Q, K, V and P are rounded to bf16, and both products
 * run on the processor's units for it (units.h):
 *   S^T [keys][NR]  = K Q^T        K as rows [keys][H], Q^T as pairs of dims [H / 2][NR][2]
 *   O^T [Hv][NR]   += V^T P^T      V^T as rows [Hv][keys], P^T as pairs of keys [keys / 2][NR][2]
 *
 * Numerics: a score is off by at most 2^-7 of sum |q k|, a weight and a value by 2^-8 of each. The sum of
 * weights is that of the weights before they are rounded. A tile of values that are not all ordinary makes
 * the unit run in f32.
 */
#ifndef GQA_ATTENTION_BF16_H
#define GQA_ATTENTION_BF16_H
#include "attention_panel.h"
#include "bf16.h"

/* The depth of a product: dims of Q and K, keys of P and V; padded with zeros. */
GQA_INLINE int attn_depth(int n) { return (n + BF16_K - 1) / BF16_K * BF16_K; }

typedef struct {
  attn_panel_scratch f; /* s (scores, then weights), lines, panels, Hv_mr; no keys and values in f32 */
  uint16_t *keys;       /* [KEYS][H padded] */
  uint16_t *values;     /* [Hv_mr][KEYS] */
} attn_bf16_scratch;

GQA_INLINE size_t attn_bf16_scratch_bytes(const attn *c) {
  const size_t Hv_mr = (size_t)(c->Hv + ATTN_MR - 1) / ATTN_MR * ATTN_MR, H = (size_t)attn_depth(c->H), panels = ATTN_ROWS / ATTN_NR;
  const size_t floats = panels * ATTN_NR * (H / 2 + Hv_mr) + ATTN_KEYS * ATTN_NR + VL * (Hv_mr + VL);
  return floats * sizeof(float) + ATTN_KEYS * (H + Hv_mr) * sizeof(uint16_t) + panels * sizeof(attn_panel);
}

/* 2 VL consecutive values as bf16. */
GQA_INLINE vf attn_line(vf a, vf b) { return bf16_pair(VF_SHUFFLE(a, b, GQA_EVEN), VF_SHUFFLE(a, b, GQA_ODD)); }

/* VL stored values from dim d on, of `dims`; zeros past them. */
GQA_INLINE vf attn_load_dims(const char *base, const int type, int64_t x, int d, int dims) {
  if (d + VL <= dims) return attn_load(base, type, x + d);
  return d < dims ? attn_load_n(base, type, x + d, dims - d) : vf_set(0);
}

/* Rows of the queries, at most NR, as Q^T in pairs of dims, scaled; zero in lanes past the rows. */
GQA_INLINE void attn_bf16_pack_queries(const attn *c, float *q, attn_rows rows) {
  const float scale = c->scale;
  for (int r = 0; r < ATTN_NR; r += VL) {
    const char *from[VL];
    for (int i = 0; i < VL; i++) from[i] = r + i < rows.count ? (const char *)(c->query + attn_row_at(c, c->query_strides, rows, r + i)) : 0;
    for (int d = 0; d < attn_depth(c->H); d += 2 * VL) {
      vf v[VL];
      for (int i = 0; i < VL; i++) v[i] = from[i] ? attn_line(attn_load_dims(from[i], GQA_F32, 0, d, c->H) * scale, attn_load_dims(from[i], GQA_F32, 0, d + VL, c->H) * scale) : vf_set(0);
      vf_transpose(v);
      for (int i = 0; i < VL; i++) vf_store(q + (int64_t)(d / 2 + i) * ATTN_NR + r, v[i]);
    }
  }
}

/* Copies n keys of KV head k from the cursor on. */
GQA_INLINE void attn_bf16_pack_keys(const attn *c, uint16_t *keys, int k, attn_cursor at, int n, const int type) {
  const int row = attn_depth(c->H);
  for (int j = 0; j < n; j++, at.skip++) {
    attn_settle(c, &at);
    const int64_t x = at.skip * c->key_token + k * c->key_head;
    uint16_t *key = keys + j * row;
    if (type == GQA_BF16) {
      memcpy(key, (const uint16_t *)at.segment.key + x, (size_t)c->H * sizeof(uint16_t));
      memset(key + c->H, 0, (size_t)(row - c->H) * sizeof(uint16_t));
    } else
      for (int d = 0; d < row; d += 2 * VL) vf_store((float *)(key + d), attn_line(attn_load_dims(at.segment.key, type, x, d, c->H), attn_load_dims(at.segment.key, type, x, d + VL, c->H)));
  }
}

/*
 * Copies n values from the cursor on, transposed; zero past n. Returns 0 when one of them is not an ordinary
 * value.
 */
GQA_INLINE int attn_bf16_pack_values(const attn *c, const attn_bf16_scratch *w, int k, attn_cursor *at, int n, const int type) {
  vf bad = vf_set(0);
  for (int j = 0; j < attn_depth(n); j += 2 * VL) {
    const char *from[2 * VL];
    int64_t x[2 * VL];
    for (int i = 0; i < 2 * VL; i++) {
      from[i] = 0, x[i] = 0;
      if (j + i >= n) continue;
      attn_settle(c, at);
      from[i] = at->segment.value, x[i] = at->skip++ * c->value_token + k * c->value_head;
    }
    for (int d = 0; d < w->f.Hv_mr; d += VL) {
      vf v[VL];
      for (int i = 0; i < VL; i++) {
        const vf low = from[2 * i] ? attn_load_dims(from[2 * i], type, x[2 * i], d, c->Hv) : vf_set(0);
        const vf high = from[2 * i + 1] ? attn_load_dims(from[2 * i + 1], type, x[2 * i + 1], d, c->Hv) : vf_set(0);
        bad = vf_fma(low * ATTN_LARGE, vf_set(0), vf_fma(high * ATTN_LARGE, vf_set(0), bad));
        v[i] = bf16_pair(low, high);
      }
      vf_transpose(v);
      for (int i = 0; i < VL && d + i < w->f.Hv_mr; i++) vf_store((float *)(w->values + (int64_t)(d + i) * ATTN_KEYS + j), v[i]);
    }
  }
  return vf_sum(bad) == 0;
}

/* One panel against a tile, its first if `first`; only the first nv vectors of lanes hold rows. */
GQA_INLINE void attn_bf16_tile(const attn *c, const attn_bf16_scratch *w, int64_t k0, int n, attn_panel *p, int first, attn_ahead *ahead, const int nv) {
  float *s = w->f.s, *o = p->o;
  const int j0 = p->min_low > k0 ? (int)(p->min_low - k0) : 0, j1 = p->max_high < k0 + n ? (int)(p->max_high - k0) : n;
  const int H = attn_depth(c->H), begin = j0 / BF16_K * BF16_K, end = attn_depth(j1), lanes = nv * VL;
  if (j0 >= j1) {
    if (first) memset(o, 0, (size_t)w->f.Hv_mr * ATTN_NR * sizeof(float));
    return;
  }
  const int pieces = (ahead->count + 2) / 3;
  attn_ahead_fetch(ahead, pieces);
  const bf16_product scores = {.a = w->keys + j0 * H, .b = (const uint16_t *)p->q, .c = s + j0 * ATTN_NR, .lda = (size_t)H, .ldb = ATTN_NR, .ldc = ATTN_NR, .m = (size_t)(j1 - j0), .n = lanes, .k = (size_t)H};
  gqa_units.bf16->product(&scores);
  attn_ahead_fetch(ahead, pieces);
  attn_panel_mask(c, p, k0, j0, j1, s);
  vf correction[ATTN_NV];
  if (!attn_panel_weights(p, s + j0 * ATTN_NR, j1 - j0, correction, nv) && !first)
    for (int d = 0; d < w->f.Hv_mr; d++)
      GQA_UNROLL(4)
      for (int v = 0; v < nv; v++) vf_store(o + d * ATTN_NR + v * VL, vf_load(o + d * ATTN_NR + v * VL) * correction[v]);
  if (c->dropout > 0) attn_drop(c, p->rows, k0 + j0, j1 - j0, s + j0 * ATTN_NR, 1, ATTN_NR);
  /* Pairs of weights take the place of the first of both rows' halves: row j / 2 of s. */
  memset(s + begin * ATTN_NR, 0, (size_t)(j0 - begin) * ATTN_NR * sizeof(float));
  memset(s + j1 * ATTN_NR, 0, (size_t)(end - j1) * ATTN_NR * sizeof(float));
  for (int j = begin; j < end; j += 2)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) vf_store(s + j / 2 * ATTN_NR + v * VL, bf16_pair(vf_load(s + j * ATTN_NR + v * VL), vf_load(s + (j + 1) * ATTN_NR + v * VL)));
  attn_ahead_fetch(ahead, pieces);
  const bf16_product sums = {.a = w->values + begin, .b = (const uint16_t *)(s + begin / 2 * ATTN_NR), .c = o, .lda = ATTN_KEYS, .ldb = ATTN_NR, .ldc = ATTN_NR, .m = (size_t)w->f.Hv_mr, .n = lanes, .k = (size_t)(end - begin), .accumulate = !first};
  gqa_units.bf16->product(&sums);
}

/*
 * `rows` against keys [key_low, key_high). Returns 0 when values are not ordinary; the unit must then run in
 * f32.
 */
GQA_NOINLINE int attn_bf16_unit(const attn *c, attn_rows rows, int64_t key_low, int64_t key_high, float *scratch, attn_partial partial) {
  attn_bf16_scratch w;
  const int panels = (rows.count + ATTN_NR - 1) / ATTN_NR, H = attn_depth(c->H);
  w.f.Hv_mr = (c->Hv + ATTN_MR - 1) / ATTN_MR * ATTN_MR;
  float *q = scratch, *o = q + (int64_t)panels * ATTN_NR * H / 2;
  w.f.s = o + (int64_t)panels * ATTN_NR * w.f.Hv_mr;
  w.f.lines = w.f.s + ATTN_KEYS * ATTN_NR;
  w.keys = (uint16_t *)(w.f.lines + (int64_t)VL * (w.f.Hv_mr + VL));
  w.values = w.keys + (int64_t)ATTN_KEYS * H;
  w.f.panels = (attn_panel *)(w.values + (int64_t)ATTN_KEYS * w.f.Hv_mr);
  attn_cursor cursor = attn_panels_start(c, w.f.panels, rows, q, (int64_t)ATTN_NR * H / 2, o, (int64_t)ATTN_NR * w.f.Hv_mr, &key_low, &key_high);
  if (key_low >= key_high) return 0;
  const int64_t partial_row = partial.row;
  for (int64_t k0 = key_low; k0 < key_high; k0 += ATTN_KEYS) {
    const int n = key_high - k0 < ATTN_KEYS ? (int)(key_high - k0) : ATTN_KEYS, first = k0 == key_low, last = k0 + n == key_high;
    int ordinary = 0;
    GQA_SPECIALISE(ATTN_TYPES, c->key_type, attn_bf16_pack_keys(c, w.keys, rows.k, cursor, n, GQA_VALUE));
    GQA_SPECIALISE(ATTN_TYPES, c->value_type, ordinary = attn_bf16_pack_values(c, &w, rows.k, &cursor, n, GQA_VALUE));
    if (!ordinary) return 0;
    for (int p = 0; p < panels; p++) {
      attn_panel *panel = w.f.panels + p;
      attn_ahead ahead;
      attn_panel_ahead(&ahead, c, w.f.panels, p, panels, first, last && !partial.at, last ? 0 : &cursor);
      if (first) attn_bf16_pack_queries(c, panel->q, panel->rows);
      /* The product takes lanes in multiples of 16. */
      if (VL == 16 && panel->rows.count <= VL) attn_bf16_tile(c, &w, k0, n, panel, first, &ahead, 1);
      else if (VL == 16 && panel->rows.count <= 2 * VL) attn_bf16_tile(c, &w, k0, n, panel, first, &ahead, 2);
      else attn_bf16_tile(c, &w, k0, n, panel, first, &ahead, ATTN_NV);
      partial.row = partial_row + p * ATTN_NR;
      if (last) attn_emit_panel(c, &w.f, panel, 1, partial);
    }
  }
  return 1;
}
#endif
