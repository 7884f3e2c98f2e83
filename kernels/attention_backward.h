/*
 * attention_backward.h: one block of attention's backward pass: the weights P and their gradients dS of up to
 * PAIR panels of query rows against a tile of keys, and the three products they enter. Flash-style (Dao et
 * al. 2022): P is recomputed from the saved log-sum-exp, kept in two f32 numbers: when all keys share a large
 * score, one f32 cannot also hold the logarithm of their number.
 *
 * As in attention_panel.h rows are r = t * G + g of one (batch, KV head), in panels of NR lanes, and
 * everything is one micro kernel:
 *   S^T [keys][NR]  = K Q^T          P^T  = exp(S^T - logSumExp)
 *   dP^T [keys][NR] = V dO^T         dS^T = P^T * (dP^T - delta),  delta = dO . O - dLogSumExp
 *   dQ^T [H][NR]   += K^T dS^T       dV [keys][Hv] += P^T dO       dK [keys][H] += dS^T Q
 * For the last two the lanes are dims: Q and dO are also packed as [dims / DN][rows][DN]. Register tiles are
 * wide instead of high there, since head dims are multiples of four vectors more often than of three.
 */
#ifndef GQA_ATTENTION_BACKWARD_H
#define GQA_ATTENTION_BACKWARD_H
#include "attention_level.h"
#include "attention_pack.h"
#include "tasks.h"

/*
 * Register tiles: MR keys or dims by NV vectors of rows; DR keys by DV vectors of dims. KEYS is a multiple of
 * MR and of DR.
 */
#define BACK_MR ATTN_MR
#define BACK_NV ATTN_NV
#define BACK_NR (BACK_NV * VL)
#define BACK_DR (VL == 16 ? 6 : 4)
#define BACK_DV (VL == 16 ? 4 : BACK_NV)
#define BACK_DN (BACK_DV * VL)
#define BACK_KEYS 120
/*
 * Panels of a block of rows, whose packed operands stay in L2, and panels whose P and dS are computed
 * together.
 */
#define BACK_PANELS 10
#define BACK_PAIR 2
#define BACK_ROWS (BACK_PANELS * BACK_NR)

/*
 * Beside a panel's matrices: per lane the keys [low, high) it sees, its log-sum-exp (from the row's level,
 * natural; its rest in base 2) and its delta.
 */
typedef struct {
  float lse[BACK_NR], rest[BACK_NR], delta[BACK_NR];
  int32_t low[BACK_NR], high[BACK_NR];
  int32_t min_low, max_low, min_high, max_high;
} back_panel;

typedef struct {
  attn f;
  const float *d_out, *d_lse;
  float *d_query, *d_key, *d_value, *d_bias, *d_sinks;
  int64_t d_key_batch, d_value_batch, bias_size;
  int H_mr, H_dn, Hv_dn; /* H up to MR; H and Hv up to DN */
  int64_t key_row; /* floats from one copied key to the next */
  int64_t keys, tiles; /* the longest row's */
  int row_chunks;
  int64_t rows_per_chunk;
  float *sums; /* with several chunks: their dK and dV, merged afterwards */
  int64_t sum_floats;
} back;

/* The scratch memory of one worker for a block. */
typedef struct {
  float *qt, *qn, *ot, *on, *dqt;       /* Q^T, Q, dO^T, dO, dQ^T of the block's rows */
  float *keys, *values;                 /* the tile: [KEYS][key_row], [KEYS][Hv] */
  float *p, *ds, *slope, *kept;         /* [PAIR][KEYS][NR] twice, [KEYS][NR] twice */
  float *sums;                          /* dK [tiles][H_dn / DN][KEYS][DN], then dV */
  back_panel *panels;
} back_scratch;

GQA_INLINE size_t back_scratch_floats(const back *c) {
  const attn *f = &c->f;
  size_t block = (size_t)BACK_ROWS * (size_t)(f->H + c->H_dn + f->Hv + c->Hv_dn + c->H_mr), tile = (size_t)BACK_KEYS * (size_t)(c->key_row + f->Hv);
  return block + tile + (size_t)(2 * BACK_PAIR + 2) * BACK_KEYS * BACK_NR + BACK_PANELS * sizeof(back_panel) / sizeof(float);
}

GQA_INLINE back_scratch back_split(const back *c, float *at) {
  const attn *f = &c->f;
  back_scratch w;
  w.qt = at, at += BACK_ROWS * f->H;
  w.qn = at, at += BACK_ROWS * c->H_dn;
  w.ot = at, at += BACK_ROWS * f->Hv;
  w.on = at, at += BACK_ROWS * c->Hv_dn;
  w.dqt = at, at += BACK_ROWS * c->H_mr;
  w.keys = at, at += BACK_KEYS * c->key_row;
  w.values = at, at += BACK_KEYS * f->Hv;
  w.p = at, at += BACK_PAIR * BACK_KEYS * BACK_NR;
  w.ds = at, at += BACK_PAIR * BACK_KEYS * BACK_NR;
  w.slope = at, at += BACK_KEYS * BACK_NR;
  w.kept = at, at += BACK_KEYS * BACK_NR;
  w.panels = (back_panel *)at, at += BACK_PANELS * sizeof(back_panel) / sizeof(float);
  w.sums = at;
  return w;
}

/*
 * c[i][width] (+)= sum over s < segments, k < n of a[s * jump + i * row + k * step] * b[s * depth +
 * k][width]; n = depth but for the last segment, which has `last`.
 */
typedef struct {
  const float *a, *b;
  float *c;
  int64_t row, step, jump;
  int depth, segments, last;
} back_product;

/*
 * i < mr. mr, nv and width are constants where this is inlined; of rows of b and c only nv vectors are
 * touched.
 */
GQA_INLINE void back_micro(const int mr, const int nv, const int width, back_product p, int accumulate) {
  vf c[8][4];
  GQA_UNROLL(8)
  for (int i = 0; i < mr; i++)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) c[i][v] = accumulate ? vf_load(p.c + i * width + v * VL) : vf_set(0);
  for (int s = 0; s < p.segments; s++) {
    const float *a = p.a + s * p.jump;
    const int n = s + 1 < p.segments ? p.depth : p.last;
    for (int k = 0; k < n; k++) {
      vf b[4];
      GQA_UNROLL(4)
      for (int v = 0; v < nv; v++) b[v] = vf_load(p.b + v * VL);
      p.b += width;
      GQA_UNROLL(8)
      for (int i = 0; i < mr; i++) {
        vf x = vf_set(a[i * p.row]);
        GQA_UNROLL(4)
        for (int v = 0; v < nv; v++) c[i][v] = vf_fma(x, b[v], c[i][v]);
      }
      a += p.step;
    }
  }
  GQA_UNROLL(8)
  for (int i = 0; i < mr; i++)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) vf_store(p.c + i * width + v * VL, c[i][v]);
}

/*
 * Lanes are rows: c[begin … end][NR] (+)= a b, of one segment, a in blocks of MR that lie `block` apart; of
 * the lanes the first nv vectors.
 */
GQA_INLINE void back_rows_of(const int nv, back_product p, int64_t block, int begin, int end, const int accumulate) {
  for (int i = begin; i < end; i += BACK_MR) {
    back_product at = p;
    at.a += i / BACK_MR * block, at.c += i * BACK_NR, at.jump = 0, at.segments = 1, at.last = p.depth;
    back_micro(BACK_MR, nv, BACK_NR, at, accumulate);
  }
}
GQA_INLINE void back_rows(int lanes, back_product p, int64_t block, int begin, int end, const int accumulate) {
  if (lanes <= VL) back_rows_of(1, p, block, begin, end, accumulate);
  else if (lanes <= 2 * VL) back_rows_of(2, p, block, begin, end, accumulate);
  else back_rows_of(BACK_NV, p, block, begin, end, accumulate);
}

/*
 * Lanes are dims: c[keys begin … end][nv vectors] += weights^T rows, of `pair` panels, the last with `lanes`
 * rows.
 */
GQA_INLINE void back_dims_of(const int nv, const float *weights, const float *rows, float *c, int begin, int end, int pair, int lanes) {
  for (int j = begin; j < end; j += BACK_DR) {
    const back_product p = {weights + j * BACK_NR, rows, c + j * BACK_DN, BACK_NR, 1, BACK_KEYS * BACK_NR, BACK_NR, pair, lanes};
    back_micro(BACK_DR, nv, BACK_DN, p, 1);
  }
}

/* The same for all dims; `rows` are those of the first panel. */
GQA_NOINLINE void back_dims(const float *weights, const float *rows, float *sums, int dims, int begin, int end, int pair, int lanes) {
  for (int d = 0; d < dims; d += BACK_DN) {
    const float *from = rows + (int64_t)d * BACK_ROWS;
    float *to = sums + (int64_t)d * BACK_KEYS;
    const int vectors = (dims - d + VL - 1) / VL;
    if (vectors >= BACK_DV) back_dims_of(BACK_DV, weights, from, to, begin, end, pair, lanes);
    else if (vectors == 3) back_dims_of(3, weights, from, to, begin, end, pair, lanes);
    else if (vectors == 2) back_dims_of(2, weights, from, to, begin, end, pair, lanes);
    else back_dims_of(1, weights, from, to, begin, end, pair, lanes);
  }
}

/* Rows of panel p of a block, and how many they are. */
GQA_INLINE int back_lanes(int rows, int p) { return rows - p * BACK_NR < BACK_NR ? rows - p * BACK_NR : BACK_NR; }
GQA_INLINE attn_rows back_panel_rows(attn_rows block, int p) { return (attn_rows){block.b, block.k, back_lanes(block.count, p), block.first + p * BACK_NR}; }

/*
 * NR rows of `dims` floats, NULL = zeros, as [dims][NR] times `scale` and as [dims / DN][…][DN] times
 * `plain`, the latter `next_dims` floats on.
 */
GQA_INLINE void back_pack_rows(const float *const *from, int dims, float scale, float *turned, float plain, float *rows, int64_t next_dims) {
  for (int r = 0; r < BACK_NR; r += VL)
    for (int d = 0; d < dims; d += VL) {
      const int left = dims - d, count = left < VL ? left : VL;
      float *to = rows + d / BACK_DN * next_dims + r * BACK_DN + d % BACK_DN;
      vf v[VL];
      for (int i = 0; i < VL; i++) v[i] = from[r + i] ? vf_load_upto(from[r + i] + d, left) : vf_set(0);
      for (int i = 0; i < VL; i++) vf_store(to + i * BACK_DN, v[i] * plain);
      vf_transpose(v);
      for (int i = 0; i < count; i++) vf_store(turned + (int64_t)(d + i) * BACK_NR + r, v[i] * scale);
    }
}

/* The sum of the products of n floats. */
GQA_INLINE float back_dot(const float *x, const float *y, int n) {
  vf sum = vf_set(0);
  int d = 0;
  for (; d + VL <= n; d += VL) sum = vf_fma(vf_load(x + d), vf_load(y + d), sum);
  if (d < n) sum = vf_fma(vf_load_n(x + d, n - d), vf_load_n(y + d, n - d), sum);
  return vf_sum(sum);
}

/* Packs the rows of a block: both forms of Q and dO, and the values per lane. dQ^T starts at 0. */
GQA_NOINLINE void back_pack_block(const back *c, const back_scratch *w, attn_rows rows) {
  const attn *f = &c->f;
  const int b = rows.b;
  const attn_row row = attn_row_of(f, b);
  for (int p = 0; p * BACK_NR < rows.count; p++) {
    back_panel *panel = w->panels + p;
    const float *q[BACK_NR], *o[BACK_NR];
    panel->min_low = panel->min_high = INT32_MAX;
    panel->max_low = panel->max_high = 0;
    for (int i = 0; i < BACK_NR; i++) {
      int64_t r = rows.first + p * BACK_NR + i, t = r / f->G, n = rows.k * f->G + r % f->G, low = 0, high = 0;
      if (p * BACK_NR + i < rows.count) attn_limits(f, &row, t, &low, &high);
      q[i] = o[i] = 0;
      panel->lse[i] = -ATTN_ROW_EMPTY, panel->rest[i] = panel->delta[i] = 0;
      if (high > low) {
        const int64_t x = attn_at(f->lse_strides, b, t, n), at = attn_at(f->out_strides, b, t, n);
        const double lse = f->lse[x] - attn_level(f, b, t, n);
        q[i] = f->query + attn_at(f->query_strides, b, t, n);
        o[i] = c->d_out + at;
        float delta = back_dot(o[i], f->out + at, f->Hv);
        if (c->d_lse) delta -= c->d_lse[x];
        if (f->lse[x] != -__builtin_inff()) {
          panel->lse[i] = (float)lse, panel->delta[i] = delta;
          panel->rest[i] = (float)(lse - panel->lse[i] + f->lse_rest[x]) * ATTN_LOG2E;
        } else high = low;
      }
      if (high <= low) low = high = 0;
      panel->low[i] = (int32_t)low, panel->high[i] = (int32_t)high;
      if (low < panel->min_low && high > low) panel->min_low = (int32_t)low;
      if (low > panel->max_low) panel->max_low = (int32_t)low;
      if (high < panel->min_high) panel->min_high = (int32_t)high;
      if (high > panel->max_high) panel->max_high = (int32_t)high;
    }
    const int64_t next = (int64_t)BACK_ROWS * BACK_DN;
    back_pack_rows(q, f->H, f->scale, w->qt + (int64_t)p * BACK_NR * f->H, f->scale, w->qn + p * BACK_NR * BACK_DN, next);
    back_pack_rows(o, f->Hv, 1.0f, w->ot + (int64_t)p * BACK_NR * f->Hv, 1.0f, w->on + p * BACK_NR * BACK_DN, next);
    memset(w->dqt + (int64_t)p * BACK_NR * c->H_mr, 0, (size_t)BACK_NR * (size_t)c->H_mr * sizeof(float));
  }
}

/*
 * Copies keys and values [j0, j0 + n) of (b, k), zero rows up to a multiple of MR. Returns 0 when a key is
 * not finite.
 */
GQA_NOINLINE int back_pack_tile(const back *c, const back_scratch *w, int b, int k, int64_t j0, int n) {
  const attn *f = &c->f;
  const attn_segment s = attn_segment_of(f, attn_row_of(f, b).first_segment);
  vf bad = vf_set(0);
  for (int j = 0; j < n; j++) {
    const int64_t x = (j0 + j) * f->key_token + k * f->key_head, y = (j0 + j) * f->value_token + k * f->value_head;
    float *key = w->keys + j * c->key_row, *value = w->values + (int64_t)j * f->Hv;
    for (int d = 0; d < f->H; d += VL) {
      const int count = f->H - d < VL ? f->H - d : VL;
      vf v = count == VL ? attn_load(s.key, f->key_type, x + d) : attn_load_n(s.key, f->key_type, x + d, count);
      bad = vf_fma(v, vf_set(0), bad);
      vf_store(key + d, v); /* past H zeros, into the gap before the next key */
    }
    for (int d = 0; d < f->Hv; d += VL) {
      const int count = f->Hv - d < VL ? f->Hv - d : VL;
      if (count == VL) vf_store(value + d, attn_load(s.value, f->value_type, y + d));
      else vf_store_n(value + d, attn_load_n(s.value, f->value_type, y + d, count), count);
    }
  }
  for (int j = n; j % BACK_MR; j++) {
    memset(w->keys + j * c->key_row, 0, (size_t)c->H_mr * sizeof(float));
    memset(w->values + (int64_t)j * f->Hv, 0, (size_t)f->Hv * sizeof(float));
  }
  return vf_sum(bad) == 0;
}

/*
 * P^T (dropped) and dS^T of one panel for keys [j0, j1) of the tile at k0; panel p of the block of rows,
 * `slot` of the pair.
 */
GQA_INLINE void back_weights(const back *c, const back_scratch *w, attn_rows block, int p, int slot, int64_t k0, int j0, int j1) {
  const attn *f = &c->f;
  const attn_rows rows = back_panel_rows(block, p);
  const back_panel *panel = w->panels + p;
  const float *q = w->qt + (int64_t)p * BACK_NR * f->H, *o = w->ot + (int64_t)p * BACK_NR * f->Hv;
  float *s = w->p + slot * BACK_KEYS * BACK_NR, *ds = w->ds + slot * BACK_KEYS * BACK_NR;
  const int lanes = rows.count;
  back_rows(lanes, (back_product){.a = w->keys, .b = q, .c = s, .row = c->key_row, .step = 1, .depth = f->H}, BACK_MR * c->key_row, j0 / BACK_MR * BACK_MR, j1, 0);
  back_rows(lanes, (back_product){.a = w->values, .b = o, .c = ds, .row = f->Hv, .step = 1, .depth = f->Hv}, BACK_MR * f->Hv, j0 / BACK_MR * BACK_MR, j1, 0);
  if (f->soft_cap != 0)
    for (int x = j0 * BACK_NR; x < j1 * BACK_NR; x += VL) {
      vf t = vf_tanh(vf_load(s + x) * (1.0f / f->soft_cap));
      vf_store(w->slope + x, 1.0f - t * t);
    }
  if (!attn_plain(f)) attn_adjust(f, rows, k0 + j0, j1 - j0, s + j0 * BACK_NR, 1, BACK_NR);
  if (f->dropout > 0) {
    for (int x = j0 * BACK_NR; x < j1 * BACK_NR; x += VL) vf_store(w->kept + x, vf_set(1.0f));
    attn_drop(f, rows, k0 + j0, j1 - j0, w->kept + j0 * BACK_NR, 1, BACK_NR);
  }
  for (int h = 0; h < lanes; h += VL) {
    const vf lse = vf_load(panel->lse + h), rest = vf_load(panel->rest + h), delta = vf_load(panel->delta + h), zero = vf_set(0);
    const vi low = vi_load(panel->low + h), high = vi_load(panel->high + h);
    for (int j = j0; j < j1; j++) {
      const int x = j * BACK_NR + h;
      const vi key = vi_set((int32_t)(k0 + j));
      vf weight = vf_select((key >= low) & (key < high), vf_exp2((vf_load(s + x) - lse) * ATTN_LOG2E - rest), zero), change = vf_load(ds + x), kept = weight;
      if (f->dropout > 0) {
        const vf factor = vf_load(w->kept + x);
        kept = weight * factor, change = vf_select(factor == zero, zero, change * factor);
      }
      change = weight * (change - delta);
      vf_store(ds + x, vf_select(weight == zero, zero, change));
      vf_store(s + x, kept);
    }
  }
}

/* dS of the scores before the soft cap. (dBias uses dS after it.) */
GQA_INLINE void back_through_cap(const back *c, const back_scratch *w, int slot, int j0, int j1) {
  if (c->f.soft_cap == 0) return;
  float *ds = w->ds + slot * BACK_KEYS * BACK_NR;
  for (int x = j0 * BACK_NR; x < j1 * BACK_NR; x += VL) {
    const vf change = vf_load(ds + x);
    vf_store(ds + x, vf_select(change == vf_set(0), change, change * vf_load(w->slope + x)));
  }
}
#endif
