/*
 * attention_backward.c: the gradients of attention. A unit is a run of rows of one (batch, KV head): it keeps
 * dK and dV of all its keys, so the G query heads of a group accumulate in place and K and V are never
 * expanded. With few (batch, KV head) pairs the rows are split into chunks with separate sums, added
 * afterwards in order. Splits depend on shapes only: the same bits for any number of threads.
 *
 * attention_backward: dOut, dLogSumExp, dQuery, dKey, dValue, dBias, dSinks (0 = absent), the elements
 * between batch rows of dKey and of dValue, elements of dBias, then the arguments of attention (attention.h)
 * as it was called, with log-sum-exp, its rest and one segment per row.
 *
 * Numerics: f32; sums over rows run in blocks of NR. The dropout mask is recomputed from the same bits.
 */
#include "attention_backward.h"

enum { BACK_UNITS = 16 };

/* dQ^T += K^T dS^T when some key is not finite: terms with dS = 0 are skipped. */
GQA_NOINLINE void back_query_safely(const back *c, const back_scratch *w, int p, int slot, int j0, int j1) {
  for (int d = 0; d < c->f.H; d++)
    for (int j = j0; j < j1; j++)
      for (int i = 0; i < BACK_NR; i++) {
        const float ds = w->ds[(slot * BACK_KEYS + j) * BACK_NR + i];
        if (ds != 0) w->dqt[((int64_t)p * c->H_mr + d) * BACK_NR + i] += ds * w->keys[j * c->key_row + d];
      }
}

/* Panels p … of one pair against the tile at k0 of n keys. */
GQA_NOINLINE void back_pair(const back *c, const back_scratch *w, attn_rows rows, int p, int pair, int64_t k0, int n, int finite) {
  int j0 = n, j1 = 0, from[BACK_PAIR], to[BACK_PAIR];
  for (int s = 0; s < pair; s++) {
    const back_panel *panel = w->panels + p + s;
    from[s] = panel->min_low > k0 ? (int)(panel->min_low - k0 < n ? panel->min_low - k0 : n) : 0;
    to[s] = panel->max_high < k0 + n ? (int)(panel->max_high > k0 ? panel->max_high - k0 : 0) : n;
    if (from[s] >= to[s]) from[s] = to[s] = 0;
    else if (from[s] < j0) j0 = from[s];
    if (to[s] > j1) j1 = to[s];
  }
  if (j0 >= j1) return;
  const int first = j0 / BACK_DR * BACK_DR, end = (j1 + BACK_DR - 1) / BACK_DR * BACK_DR;
  for (int s = 0; s < pair; s++) {
    float *weights = w->p + s * BACK_KEYS * BACK_NR, *ds = w->ds + s * BACK_KEYS * BACK_NR;
    if (to[s] > from[s]) {
      back_weights(c, w, rows, p + s, s, k0, from[s], to[s]);
      back_through_cap(c, w, s, from[s], to[s]);
    } else from[s] = to[s] = first;
    for (int j = first; j < end; j++)
      if (j < from[s] || j >= to[s]) memset(weights + j * BACK_NR, 0, BACK_NR * sizeof(float)), memset(ds + j * BACK_NR, 0, BACK_NR * sizeof(float));
    if (!c->d_query || from[s] == to[s]) continue;
    if (!finite) {
      back_query_safely(c, w, p + s, s, from[s], to[s]);
      continue;
    }
    float *dqt = w->dqt + (int64_t)(p + s) * c->H_mr * BACK_NR;
    const back_product keys = {.a = w->keys + from[s] * c->key_row, .b = ds + from[s] * BACK_NR, .c = dqt, .row = 1, .step = c->key_row, .depth = to[s] - from[s]};
    back_rows(back_lanes(rows.count, p + s), keys, BACK_MR, 0, c->H_mr, 1);
  }
  const int lanes = back_lanes(rows.count, p + pair - 1), at = p * BACK_NR * BACK_DN;
  if (c->d_key) back_dims(w->ds, w->qn + at, w->sums + k0 * c->H_dn, c->f.H, first, end, pair, lanes);
  if (c->d_value) back_dims(w->p, w->on + at, w->sums + c->tiles * BACK_KEYS * c->H_dn + k0 * c->Hv_dn, c->f.Hv, first, end, pair, lanes);
}

/* Writes dQ^T of the block's rows to dQuery, scaled. */
static void back_write_queries(const back *c, const back_scratch *w, attn_rows rows) {
  const attn *f = &c->f;
  for (int r = 0; r < rows.count; r += VL) {
    const float *from = w->dqt + (int64_t)(r / BACK_NR) * BACK_NR * c->H_mr + r % BACK_NR;
    for (int d = 0; d < f->H; d += VL) {
      const int count = f->H - d < VL ? f->H - d : VL;
      vf v[VL];
      for (int i = 0; i < VL; i++) v[i] = i < count ? vf_load(from + (int64_t)(d + i) * BACK_NR) * f->scale : vf_set(0);
      vf_transpose(v);
      for (int i = 0; i < VL && r + i < rows.count; i++) vf_store_n(c->d_query + attn_row_at(f, f->query_strides, rows, r + i) + d, v[i], count);
    }
  }
}

/* Writes dK or dV to the tensor: the sums of all chunks, added in order. */
static void back_write_keys(const float *sums, int64_t next, int chunks, int dims, int padded, float *out, int64_t token, int64_t length) {
  for (int64_t j = 0; j < length; j++)
    for (int d = 0; d < dims; d += VL) {
      const float *at = sums + j / BACK_KEYS * BACK_KEYS * padded + (int64_t)(d / BACK_DN) * BACK_KEYS * BACK_DN + j % BACK_KEYS * BACK_DN + d % BACK_DN;
      vf v = vf_load(at);
      for (int i = 1; i < chunks; i++) v += vf_load(at + i * next);
      vf_store_upto(out + j * token + d, v, dims - d);
    }
}

static void back_write(const back *c, int b, int k, const float *sums, int chunks) {
  const attn *f = &c->f;
  const int64_t length = attn_segment_of(f, attn_row_of(f, b).first_segment).length;
  if (c->d_key) back_write_keys(sums, c->sum_floats, chunks, f->H, c->H_dn, c->d_key + b * c->d_key_batch + k * f->key_head, f->key_token, length);
  if (c->d_value) back_write_keys(sums + c->tiles * BACK_KEYS * c->H_dn, c->sum_floats, chunks, f->Hv, c->Hv_dn, c->d_value + b * c->d_value_batch + k * f->value_head, f->value_token, length);
}

static void back_task(void *context, int task, int worker) {
  const back *c = context;
  const attn *f = &c->f;
  const int chunk = task % c->row_chunks, k = task / c->row_chunks % f->K, b = task / c->row_chunks / f->K;
  const int64_t all = (int64_t)f->T * f->G, begin = chunk * c->rows_per_chunk, end = begin + c->rows_per_chunk < all ? begin + c->rows_per_chunk : all;
  const size_t own = c->row_chunks > 1 ? 0 : (size_t)c->sum_floats;
  back_scratch w = back_split(c, gqa_scratch(worker, (back_scratch_floats(c) + own) * sizeof(float)));
  if (c->row_chunks > 1) w.sums = c->sums + task * c->sum_floats;
  memset(w.sums, 0, (size_t)c->sum_floats * sizeof(float));
  for (int64_t r0 = begin; r0 < end; r0 += BACK_ROWS) {
    const attn_rows rows = {b, k, end - r0 < BACK_ROWS ? (int)(end - r0) : BACK_ROWS, r0};
    const int panels = (rows.count + BACK_NR - 1) / BACK_NR;
    back_pack_block(c, &w, rows);
    int64_t low = INT64_MAX, high = 0;
    for (int p = 0; p < panels; p++) {
      if (w.panels[p].min_low < low) low = w.panels[p].min_low;
      if (w.panels[p].max_high > high) high = w.panels[p].max_high;
    }
    for (int64_t k0 = low / BACK_KEYS * BACK_KEYS; k0 < high; k0 += BACK_KEYS) {
      const int n = high - k0 < BACK_KEYS ? (int)(high - k0) : BACK_KEYS, finite = back_pack_tile(c, &w, b, k, k0, n);
      for (int p = 0; p < panels; p += BACK_PAIR) back_pair(c, &w, rows, p, panels - p < BACK_PAIR ? panels - p : BACK_PAIR, k0, n, finite);
    }
    if (c->d_query) back_write_queries(c, &w, rows);
  }
  if (c->row_chunks == 1) back_write(c, b, k, w.sums, 1);
}

static void back_merge_task(void *context, int task, int worker) {
  const back *c = context;
  back_write(c, task / c->f.K, task % c->f.K, c->sums + (int64_t)task * c->row_chunks * c->sum_floats, c->row_chunks);
}

/*
 * dBias of one tile of keys (of all keys when the bias is broadcast along them): each query contributes once,
 * in a fixed order.
 */
static void back_bias_task(void *context, int task, int worker) {
  const back *c = context;
  const attn *f = &c->f;
  back_scratch w = back_split(c, gqa_scratch(worker, back_scratch_floats(c) * sizeof(float)));
  const int64_t all = (int64_t)f->T * f->G, *strides = f->bias.strides;
  const int64_t begin = strides[3] ? task * BACK_KEYS : 0, end = strides[3] ? begin + BACK_KEYS : c->keys;
  for (int b = 0; b < f->B; b++)
    for (int k = 0; k < f->K; k++)
      for (int64_t r0 = 0; r0 < all; r0 += BACK_ROWS) {
        const attn_rows rows = {b, k, all - r0 < BACK_ROWS ? (int)(all - r0) : BACK_ROWS, r0};
        back_pack_block(c, &w, rows);
        for (int64_t k0 = begin; k0 < end; k0 += BACK_KEYS) {
          const int64_t left = attn_row_of(f, b).key_length - k0;
          const int n = left < BACK_KEYS ? (int)left : BACK_KEYS;
          if (n <= 0) break;
          back_pack_tile(c, &w, b, k, k0, n);
          for (int p = 0; p * BACK_NR < rows.count; p++) {
            const back_panel *panel = w.panels + p;
            const int j0 = panel->min_low > k0 ? (int)(panel->min_low - k0 < n ? panel->min_low - k0 : n) : 0, j1 = panel->max_high < k0 + n ? (int)(panel->max_high - k0) : n;
            if (j0 >= j1) continue;
            back_weights(c, &w, rows, p, 0, k0, j0, j1);
            for (int i = 0; i < back_lanes(rows.count, p); i++) {
              const int64_t r = r0 + p * BACK_NR + i, t = r / f->G, h = k * f->G + r % f->G;
              float *to = c->d_bias + attn_at(strides, b, h, t) + k0 * strides[3];
              for (int j = j0; j < j1; j++) to[j * strides[3]] += w.ds[j * BACK_NR + i];
            }
          }
        }
      }
}

static void back_sinks_task(void *context, int n, int worker) {
  const back *c = context;
  const attn *f = &c->f;
  double sum = 0;
  for (int b = 0; b < f->B; b++) {
    const int64_t queries = attn_row_of(f, b).query_length;
    for (int64_t t = 0; t < f->T && t < queries; t++) {
      const int64_t at = attn_at(f->out_strides, b, t, n), l = attn_at(f->lse_strides, b, t, n);
      if (f->lse[l] == -__builtin_inff()) continue;
      float delta = c->d_lse ? -c->d_lse[l] : 0;
      for (int d = 0; d < f->Hv; d++) delta += c->d_out[at + d] * f->out[at + d];
      sum -= attn_exp_scalar((float)((double)f->sinks[n] - f->lse[l] - f->lse_rest[l])) * delta;
    }
  }
  c->d_sinks[n] = (float)sum;
}

static void op_attention_backward(const double *a) {
  back c = {.f = attn_parse(a + 10), .d_out = gqa_pointer(a[0]), .d_lse = gqa_pointer(a[1]), .d_query = gqa_pointer(a[2]), .d_key = gqa_pointer(a[3]), .d_value = gqa_pointer(a[4]),
            .d_bias = gqa_pointer(a[5]), .d_sinks = gqa_pointer(a[6]), .d_key_batch = (int64_t)a[7], .d_value_batch = (int64_t)a[8], .bias_size = (int64_t)a[9]};
  const attn *f = &c.f;
  const int64_t rows = (int64_t)f->T * f->G;
  if (c.d_bias) memset(c.d_bias, 0, (size_t)c.bias_size * sizeof(float));
  if (f->B == 0 || f->K == 0) return;
  attn_find_levels(&c.f);
  c.H_mr = (f->H + BACK_MR - 1) / BACK_MR * BACK_MR;
  /* Padded: with H alone (a power of two) as row length, all keys would map to few sets of L1. */
  c.key_row = (f->H + VL - 1) / VL * VL + 16;
  c.H_dn = (f->H + BACK_DN - 1) / BACK_DN * BACK_DN, c.Hv_dn = (f->Hv + BACK_DN - 1) / BACK_DN * BACK_DN;
  for (int b = 0; b < f->B; b++) {
    const int64_t length = attn_segment_of(f, attn_row_of(f, b).first_segment).length;
    if (length > c.keys) c.keys = length;
  }
  c.tiles = (c.keys + BACK_KEYS - 1) / BACK_KEYS;
  c.sum_floats = c.tiles * BACK_KEYS * (c.H_dn + c.Hv_dn);
  const int units = f->B * f->K;
  const int64_t blocks = (rows + BACK_ROWS - 1) / BACK_ROWS;
  int64_t chunks = (BACK_UNITS + units - 1) / units;
  if (chunks > blocks) chunks = blocks;
  if (chunks < 1) chunks = 1;
  c.rows_per_chunk = (blocks + chunks - 1) / chunks * BACK_ROWS;
  if (c.rows_per_chunk < BACK_ROWS) c.rows_per_chunk = BACK_ROWS;
  c.row_chunks = (int)((rows + c.rows_per_chunk - 1) / c.rows_per_chunk);
  if (c.row_chunks < 1) c.row_chunks = 1;
  if (c.row_chunks > 1) c.sums = gqa_scratch(GQA_SHARED, (size_t)(units * c.row_chunks * c.sum_floats) * sizeof(float));
  if (c.d_query || c.d_key || c.d_value) {
    gqa_parallel(units * c.row_chunks, back_task, &c);
    if (c.row_chunks > 1) gqa_parallel(units, back_merge_task, &c);
  }
  if (c.d_bias) gqa_parallel(f->bias.strides[3] ? (int)c.tiles : 1, back_bias_task, &c);
  if (c.d_sinks) gqa_parallel(f->N, back_sinks_task, &c);
}
