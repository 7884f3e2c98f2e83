/*
 * attention_panel.h: attention for many query rows. Flash-style (Dao et al. 2022, 2023: running maximum and
 * sum over key tiles), transposed so that query rows lie in vector lanes.
 *
 * A unit is up to ROWS rows of one (batch, KV head): all G query heads of a group share its K and V. Rows
 * form panels of NR = NV * VL lanes. Per tile of KEYS keys, K is copied once (converted to f32, rows
 * contiguous) and V once (in blocks of MR dims; not where V is dims of K), then for each panel
 *   S^T [keys][NR]  = K Q^T        K broadcast, Q^T packed once per unit
 *   P^T             = exp(S^T - m), reference and sums per lane: no horizontal operation
 *   O^T [Hv][NR]   += V^T P^T      V broadcast, the panel's P^T still in L1
 * Both products are one micro kernel, no operand is transposed, and masks by position are lane compares that
 * whole blocks skip. Keys that no row of a panel sees are cut at blocks of MR, so a causal diagonal costs
 * little. Queries are packed before a panel's first tile and its rows written after the last; the next data
 * is prefetched meanwhile.
 */
#ifndef GQA_ATTENTION_PANEL_H
#define GQA_ATTENTION_PANEL_H
#include "attention_pack.h"

/* Initial value of the micro kernel's sums: 0, C, or C times a factor per lane. */
enum { ATTN_MICRO_SET, ATTN_MICRO_ADD, ATTN_MICRO_SCALE };
/* Dims of Q^T that a panel processes at a time: 37 kB with 48 lanes. */
#define ATTN_DEPTH 192

/*
 * c[i][NR] = start + sum over k < n of a[i * row + k * step] * b[k][NR], i < MR; only nv vectors of the
 * lanes.
 */
typedef struct {
  const float *a, *b;
  float *c;
  int64_t row, step;
  int n;
} attn_product;

GQA_INLINE void attn_micro(attn_product p, const int start, const vf *correction, const int nv) {
  vf c[ATTN_MR][ATTN_NV];
  GQA_UNROLL(8)
  for (int i = 0; i < ATTN_MR; i++)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) {
      c[i][v] = start == ATTN_MICRO_SET ? vf_set(0) : vf_load(p.c + i * ATTN_NR + v * VL);
      if (start == ATTN_MICRO_SCALE) c[i][v] *= correction[v];
    }
  GQA_UNROLL(ATTN_UNROLL)
  for (int k = 0; k < p.n; k++) {
    vf b[ATTN_NV];
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) b[v] = vf_load(p.b + v * VL);
    p.b += ATTN_NR;
    GQA_UNROLL(8)
    for (int i = 0; i < ATTN_MR; i++) {
      vf a = vf_set(p.a[i * p.row]);
      GQA_UNROLL(4)
      for (int v = 0; v < nv; v++) c[i][v] = vf_fma(a, b[v], c[i][v]);
    }
    p.a += p.step;
  }
  GQA_UNROLL(8)
  for (int i = 0; i < ATTN_MR; i++)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) vf_store(p.c + i * ATTN_NR + v * VL, c[i][v]);
}

/* Initialises the per-row fields of a panel. */
GQA_INLINE void attn_panel_start(const attn *c, const attn_row *row, attn_panel *p) {
  const int64_t r_end = p->rows.first + p->rows.count;
  p->min_low = p->min_high = INT32_MAX;
  p->max_low = p->max_high = 0;
  for (int i = 0; i < ATTN_NR; i++) {
    int64_t r = p->rows.first + i < r_end ? p->rows.first + i : r_end - 1, low, high;
    attn_limits(c, row, r / c->G, &low, &high);
    p->m[i] = ATTN_ROW_EMPTY, p->l[i] = 0;
    p->low[i] = (int32_t)low, p->high[i] = (int32_t)high;
    if (low < p->min_low && high > low) p->min_low = (int32_t)low;
    if (low > p->max_low) p->max_low = (int32_t)low;
    if (high < p->min_high) p->min_high = (int32_t)high;
    if (high > p->max_high) p->max_high = (int32_t)high;
  }
}

/*
 * A tile in which some value is NaN, infinite or very large: the product runs on a copy with zeros in their
 * place, and they are added afterwards where their weight is not zero. So a weight of zero cancels any value.
 */
GQA_NOINLINE void attn_copy_finite(const attn_panel_scratch *w, int n) {
  for (int64_t d = 0; d < w->Hv_mr; d += ATTN_MR)
    for (int64_t i = d * ATTN_STEP; i < d * ATTN_STEP + (int64_t)n * ATTN_MR; i++) w->finite[i] = w->values[i] - w->values[i] == 0 ? w->values[i] : 0;
}
GQA_NOINLINE void attn_add_not_finite(const attn_panel_scratch *w, int Hv, float *o, int j0, int j1) {
  for (int d = 0; d < Hv; d++) {
    const float *v = w->values + (int64_t)(d / ATTN_MR) * ATTN_STEP * ATTN_MR + d % ATTN_MR;
    for (int j = j0; j < j1; j++) {
      float x = v[(int64_t)j * ATTN_MR];
      if (x - x == 0) continue;
      for (int i = 0; i < ATTN_NR; i++)
        if (w->s[(int64_t)j * ATTN_NR + i] != 0) o[(int64_t)d * ATTN_NR + i] += w->s[(int64_t)j * ATTN_NR + i] * x;
    }
  }
}

#define ATTN_SLACK 11.0f
/*
 * Scores [n][NR] to weights in place, and their sums to the panel. The reference of a lane need not be its
 * maximum: e^(s - m) keeps all its bits as long as nothing overflows, so m moves only when a score exceeds it
 * by SLACK (from ATTN_ROW_EMPTY at once). Returns 1 when no lane's m moved; otherwise `correction` holds the
 * factors of earlier sums.
 */
GQA_INLINE int attn_panel_weights(attn_panel *p, float *s, int n, vf *correction, const int nv) {
  vf m[ATTN_NV], top[2][ATTN_NV], sum[ATTN_NV];
  GQA_UNROLL(4)
  for (int v = 0; v < nv; v++) {
    m[v] = top[0][v] = top[1][v] = vf_load(p->m + v * VL);
    sum[v] = vf_set(0), correction[v] = vf_set(1);
  }
  int j = 0;
  for (; j + 2 <= n; j += 2)
    GQA_UNROLL(2)
    for (int h = 0; h < 2; h++)
      GQA_UNROLL(4)
      for (int v = 0; v < nv; v++) top[h][v] = vf_max(top[h][v], vf_load(s + (int64_t)(j + h) * ATTN_NR + v * VL));
  if (j < n)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) top[0][v] = vf_max(top[0][v], vf_load(s + (int64_t)j * ATTN_NR + v * VL));
  vi within = vi_set(-1);
  GQA_UNROLL(4)
  for (int v = 0; v < nv; v++) {
    top[0][v] = vf_max(top[0][v], top[1][v]);
    within &= top[0][v] <= m[v] + ATTN_SLACK;
  }
  int moved = !vi_all(within);
  if (moved)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) {
      correction[v] = attn_exp(m[v] - top[0][v]);
      m[v] = top[0][v];
      vf_store(p->m + v * VL, m[v]);
      vf_store(p->l + v * VL, vf_load(p->l + v * VL) * correction[v]);
    }
  for (j = 0; j < n; j++)
    GQA_UNROLL(4)
    for (int v = 0; v < nv; v++) {
      float *x = s + (int64_t)j * ATTN_NR + v * VL;
      vf e = attn_exp(vf_load(x) - m[v]);
      vf_store(x, e);
      sum[v] += e;
    }
  GQA_UNROLL(4)
  for (int v = 0; v < nv; v++) vf_store(p->l + v * VL, vf_load(p->l + v * VL) + sum[v]);
  return !moved;
}

/*
 * Soft cap, bias and mask on a panel's scores of keys [j0, j1) of the tile at k0, and -infinity for keys that a
 * lane does not see.
 */
GQA_INLINE void attn_panel_mask(const attn *c, const attn_panel *p, int64_t k0, int j0, int j1, float *s) {
  if (!attn_plain(c)) attn_adjust(c, p->rows, k0 + j0, j1 - j0, s + (int64_t)j0 * ATTN_NR, 1, ATTN_NR);
  if (p->max_low > k0 + j0 || p->min_high < k0 + j1) {
    vf none = vf_set(-__builtin_inff());
    int whole0 = p->max_low - k0 < j0 ? j0 : (int)(p->max_low - k0), whole1 = (int)(p->min_high - k0);
    for (int j = j0; j < j1; j++) {
      if (j >= whole0 && j < whole1) {
        j = whole1 - 1; /* every lane sees these */
        continue;
      }
      vi key = vi_set((int32_t)(k0 + j));
      for (int h = 0; h < ATTN_NR; h += VL) {
        vi seen = (key >= vi_load(p->low + h)) & (key < vi_load(p->high + h));
        float *x = s + (int64_t)j * ATTN_NR + h;
        vf_store(x, vf_select(seen, vf_load(x), none));
      }
    }
  }
}

/* One panel against a tile, its first if `first`; only the first nv vectors of lanes hold rows. */
GQA_INLINE void attn_panel_tile(const attn *c, const attn_panel_scratch *w, const attn_tile *tile, attn_panel *p, int first, attn_ahead *ahead, const int nv) {
  const int64_t k0 = tile->k0;
  const int n = tile->n;
  const float *q = p->q;
  float *o = p->o;
  int j0 = p->min_low > k0 ? (int)(p->min_low - k0) : 0;
  int j1 = p->max_high < k0 + n ? (int)(p->max_high - k0) : n;
  if (j0 >= j1) {
    if (first) memset(o, 0, (size_t)w->Hv_mr * ATTN_NR * sizeof(float));
    return;
  }
  float *s = w->s;
  /* At least one call: without values (Hv = 0) there would be none for fewer than MR keys. */
  int calls = (j1 - j0) / ATTN_MR + w->Hv_mr / ATTN_MR + !w->Hv_mr, pieces = (ahead->count + calls - 1) / calls;
  for (int j = j0 / ATTN_MR * ATTN_MR; j < j1; j += ATTN_MR) {
    if (tile->keys != w->keys) /* in place: the values of this block and the keys of the next tile */
      for (int i = j; i < j + ATTN_MR; i++) {
        for (int x = 0; x < c->Hv; x += 16) __builtin_prefetch(tile->values + i * tile->value_step + x, 0, 2);
        for (int x = 0; x < c->H; x += 16) __builtin_prefetch(tile->keys + (i + ATTN_KEYS) * tile->key_row + x, 0, 2);
      }
    attn_ahead_fetch(ahead, pieces);
    const attn_product scores = {tile->keys + j * tile->key_row, q, s + (int64_t)j * ATTN_NR, tile->key_row, 1, c->H < ATTN_DEPTH ? c->H : ATTN_DEPTH};
    attn_micro(scores, ATTN_MICRO_SET, 0, nv);
  }
  /* Wide heads (latent attention: 576 dims) in parts, so that Q^T stays in L1. */
  for (int d = ATTN_DEPTH; d < c->H; d += ATTN_DEPTH) {
    int depth = c->H - d < ATTN_DEPTH ? c->H - d : ATTN_DEPTH;
    for (int j = j0 / ATTN_MR * ATTN_MR; j < j1; j += ATTN_MR) {
      const attn_product scores = {tile->keys + j * tile->key_row + d, q + (int64_t)d * ATTN_NR, s + (int64_t)j * ATTN_NR, tile->key_row, 1, depth};
      attn_micro(scores, ATTN_MICRO_ADD, 0, nv);
    }
  }
  attn_panel_mask(c, p, k0, j0, j1, s);
  vf correction[ATTN_NV];
  int keep = attn_panel_weights(p, s + (int64_t)j0 * ATTN_NR, j1 - j0, correction, nv);
  if (c->dropout > 0) attn_drop(c, p->rows, k0 + j0, j1 - j0, s + (int64_t)j0 * ATTN_NR, 1, ATTN_NR);
  for (int d = 0; d < w->Hv_mr; d += ATTN_MR) {
    const float *v = tile->values + d * tile->value_block + j0 * tile->value_step;
    attn_ahead_fetch(ahead, pieces);
    const attn_product sums = {v, s + (int64_t)j0 * ATTN_NR, o + (int64_t)d * ATTN_NR, 1, tile->value_step, j1 - j0};
    if (first) attn_micro(sums, ATTN_MICRO_SET, 0, nv);
    else if (keep) attn_micro(sums, ATTN_MICRO_ADD, 0, nv);
    else attn_micro(sums, ATTN_MICRO_SCALE, correction, nv);
  }
  if (!tile->finite) attn_add_not_finite(w, c->Hv, o, j0, j1);
}

/*
 * With a single panel a copy of the tile would be read only once: reads K and V in place when they are f32 in
 * one segment, in whole blocks, and visible to every row (so that no NaN must be excluded). Returns 0 when
 * the tile must be packed.
 */
GQA_INLINE int attn_in_place(const attn *c, const attn_cursor *at, int k, const attn_panel *p, attn_tile *tile) {
  const int n = tile->n;
  if (c->key_type != GQA_F32 || c->value_type != GQA_F32 || !attn_plain(c)) return 0;
  if (n % ATTN_MR || c->Hv % ATTN_MR || at->skip + n > at->segment.length || p->max_low > tile->k0 || p->min_high < tile->k0 + n) return 0;
  tile->keys = (const float *)at->segment.key + at->skip * c->key_token + k * c->key_head;
  tile->values = (const float *)at->segment.value + at->skip * c->value_token + k * c->value_head;
  tile->key_row = c->key_token, tile->value_block = 1, tile->value_step = c->value_token, tile->finite = 1;
  return 1;
}

/*
 * Writes a panel's rows, transposed to [row][Hv] through `lines`. `bounded`: no sum of values can have
 * overflowed.
 */
GQA_INLINE void attn_emit_panel(const attn *c, const attn_panel_scratch *w, const attn_panel *panel, int bounded, attn_partial partial) {
  const int Hv_mr = w->Hv_mr, rows = panel->rows.count;
  const float *o = panel->o;
  float *lines = w->lines;
  int width = (Hv_mr + VL - 1) / VL * VL;
  for (int r = 0; r < rows; r += VL) {
    int count = rows - r < VL ? rows - r : VL;
    for (int d = 0; d < Hv_mr; d += VL) {
      vf v[VL];
      for (int i = 0; i < VL; i++) v[i] = d + i < Hv_mr ? vf_load(o + (int64_t)(d + i) * ATTN_NR + r) : vf_set(0);
      vf_transpose(v);
      for (int i = 0; i < count; i++) vf_store(lines + (int64_t)i * width + d, v[i]);
    }
    for (int i = 0; i < count; i++, partial.row++) {
      const float *acc = lines + (int64_t)i * width;
      attn_emit(c, panel->rows.b, panel->rows.k, panel->rows.first + r + i, (attn_result){acc, panel->m[r + i], panel->l[r + i], bounded || attn_finite(acc, c->Hv)}, partial);
    }
  }
}

GQA_INLINE int attn_lanes(int rows, int panel) { return rows - panel * ATTN_NR < ATTN_NR ? rows - panel * ATTN_NR : ATTN_NR; }

/*
 * Initialises the panels of `rows`, whose Q^T lie `q_floats` and whose O^T `o_floats` apart. Limits the keys
 * [low, high) to those that some row sees, and returns the cursor at the first.
 */
GQA_INLINE attn_cursor attn_panels_start(const attn *c, attn_panel *panels, attn_rows rows, float *q, int64_t q_floats, float *o, int64_t o_floats, int64_t *low, int64_t *high) {
  const attn_row row = attn_row_of(c, rows.b);
  int64_t seen_low = INT64_MAX, seen_high = 0;
  for (int p = 0; p * ATTN_NR < rows.count; p++) {
    attn_panel *panel = panels + p;
    panel->rows = (attn_rows){rows.b, rows.k, attn_lanes(rows.count, p), rows.first + p * ATTN_NR};
    panel->q = q + p * q_floats, panel->o = o + p * o_floats;
    attn_panel_start(c, &row, panel);
    if (panel->min_low < seen_low) seen_low = panel->min_low;
    if (panel->max_high > seen_high) seen_high = panel->max_high;
  }
  if (*low < seen_low) *low = seen_low;
  if (*high > seen_high) *high = seen_high;
  return attn_cursor_at(c, &row, *low, *high);
}

/*
 * What to prefetch beside panel p: the next panel's queries if this is the first tile, its rows of the output if
 * they are written, and this panel's share of the next tile, which is at `next` (0 = none).
 */
GQA_INLINE void attn_panel_ahead(attn_ahead *ahead, const attn *c, const attn_panel *panels, int p, int count, int first, int written, const attn_cursor *next) {
  ahead->count = ahead->next = 0;
  if (first && p + 1 < count) attn_ahead_rows(ahead, c, c->query, c->query_strides, c->H, panels[p + 1].rows);
  if (written) attn_ahead_rows(ahead, c, c->out, c->out_strides, c->Hv, panels[p].rows);
  if (next) attn_ahead_tokens(ahead, c, panels[p].rows.k, next, p * ATTN_KEYS / count, (p + 1) * ATTN_KEYS / count);
}

/* `rows` against keys [key_low, key_high). */
GQA_NOINLINE void attn_panel_unit(const attn *c, attn_rows rows, int64_t key_low, int64_t key_high, float *scratch, attn_partial partial) {
  attn_panel_scratch w;
  int panels = (rows.count + ATTN_NR - 1) / ATTN_NR;
  w.Hv_mr = (c->Hv + ATTN_MR - 1) / ATTN_MR * ATTN_MR;
  float *q = scratch, *o = q + (int64_t)panels * ATTN_NR * c->H;
  w.s = o + (int64_t)panels * ATTN_NR * w.Hv_mr;
  w.keys = w.s + ATTN_KEYS * ATTN_NR;
  w.values = w.keys + (int64_t)ATTN_KEYS * (c->H + ATTN_LATENT_PAD);
  w.finite = w.values + (int64_t)ATTN_STEP * w.Hv_mr;
  w.lines = w.finite + (int64_t)ATTN_STEP * w.Hv_mr;
  w.panels = (attn_panel *)(w.lines + (int64_t)VL * (w.Hv_mr + VL));
  int64_t low = key_low, high = key_high;
  attn_cursor cursor = attn_panels_start(c, w.panels, rows, q, (int64_t)ATTN_NR * c->H, o, (int64_t)ATTN_NR * w.Hv_mr, &low, &high);
  if (low >= high) memset(o, 0, (size_t)panels * ATTN_NR * w.Hv_mr * sizeof(float));
  int bounded = 1;
  const int64_t partial_row = partial.row;
  for (int64_t k0 = low; k0 < high; k0 += ATTN_KEYS) {
    attn_tile tile = {.k0 = k0, .n = high - k0 < ATTN_KEYS ? (int)(high - k0) : ATTN_KEYS};
    int in_place = panels == 1 && attn_in_place(c, &cursor, rows.k, w.panels, &tile);
    if (in_place) cursor.skip += tile.n;
    else attn_pack(c, &w, rows.k, &cursor, &tile);
    bounded &= tile.finite && !in_place;
    if (!tile.finite) {
      attn_copy_finite(&w, tile.n);
      tile.values = w.finite;
    }
    int first = k0 == low, last = k0 + tile.n == high;
    for (int p = 0; p < panels; p++) {
      attn_panel *panel = w.panels + p;
      attn_ahead ahead;
      attn_panel_ahead(&ahead, c, w.panels, p, panels, first, last && !partial.at, !last && panels > 1 ? &cursor : 0);
      if (first) attn_pack_queries(c, panel->q, panel->rows);
      /* A panel that is not full costs only the vectors it fills: an MQA decode step, the last rows. */
      if (panel->rows.count <= VL) attn_panel_tile(c, &w, &tile, panel, first, &ahead, 1);
      else if (panel->rows.count <= 2 * VL) attn_panel_tile(c, &w, &tile, panel, first, &ahead, 2);
      else attn_panel_tile(c, &w, &tile, panel, first, &ahead, ATTN_NV);
      partial.row = partial_row + p * ATTN_NR;
      if (last) attn_emit_panel(c, &w, panel, bounded, partial);
    }
  }
  for (int p = 0; p < panels && low >= high; p++, partial.row += ATTN_NR) attn_emit_panel(c, &w, w.panels + p, 1, partial);
}
#endif
