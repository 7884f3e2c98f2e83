/*
 * attention.c: the attention operation. Chooses the decode or the panel form by the number of query rows per
 * KV head, splits the work into units, and merges partial results when the keys were split.
 *
 * The split depends on shapes only, so results have the same bits for any number of threads.
 */
#include "attention_decode.h"
#include "attention_level.h"
#include "attention_panel.h"

/* Target number of units when keys must be split, and the minimum number of keys per chunk. */
#define ATTN_UNITS 32
#define ATTN_CHUNK 256

typedef struct {
  attn call;
  int decode;         /* the form */
  int heads_per_unit; /* decode form: KV heads of a unit */
  int head_units;     /* units along KV heads */
  int row_units;      /* panel form: units along rows */
  int rows_per_unit;
  int chunks; /* along keys */
  int64_t chunk;
  int64_t max_keys;
  float *partials; /* NULL when chunks is 1 */
  int64_t partial_stride, partial_rows;
} attn_plan;

/* Partial records: one per (batch row, chunk) holding all N * T rows, KV head major. */
static attn_partial attn_partial_of(const attn_plan *p, int b, int chunk, int64_t row) {
  return (attn_partial){p->partials ? p->partials + (int64_t)(b * p->chunks + chunk) * p->partial_stride : 0, row, p->partial_rows};
}

static void attn_task(void *context, int task, int worker) {
  const attn_plan *p = context;
  const attn *c = &p->call;
  int chunk = task % p->chunks, rest = task / p->chunks;
  int64_t low = chunk * p->chunk, high = chunk == p->chunks - 1 ? p->max_keys : low + p->chunk;
  if (p->decode) {
    int unit = rest % p->head_units, b = rest / p->head_units;
    int k0 = unit * p->heads_per_unit, k1 = k0 + p->heads_per_unit < c->K ? k0 + p->heads_per_unit : c->K;
    float *scratch = gqa_scratch(worker, decode_scratch_floats(c, p->heads_per_unit) * sizeof(float));
    attn_decode_unit(c, b, k0, k1, low, high, scratch, attn_partial_of(p, b, chunk, 0));
    return;
  }
  /* Longest first: under a causal mask the last rows see most keys. */
  int unit = p->row_units - 1 - rest % p->row_units, k = rest / p->row_units % c->K, b = rest / p->row_units / c->K;
  int64_t r0 = (int64_t)unit * p->rows_per_unit, all = (int64_t)c->T * c->G;
  int rows = (int)(all - r0 < p->rows_per_unit ? all - r0 : p->rows_per_unit);
  float *scratch = gqa_scratch(worker, attn_panel_scratch_bytes(c));
  attn_panel_unit(c, (attn_rows){b, k, rows, r0}, low, high, scratch, attn_partial_of(p, b, chunk, k * all + r0));
}

static void attn_merge_task(void *context, int task, int worker) {
  const attn_plan *p = context;
  const attn *c = &p->call;
  int k = task % c->K, b = task / c->K;
  int64_t all = (int64_t)c->T * c->G;
  float *acc = gqa_scratch(worker, (size_t)c->Hv * sizeof(float));
  for (int64_t r = 0; r < all; r++) attn_merge(c, b, k, r, attn_partial_of(p, b, 0, k * all + r), p->partial_stride, p->chunks, acc);
}

static void op_attention(const double *a) {
  attn_plan p = {.call = attn_parse(a)};
  attn *c = &p.call;
  int64_t rows = (int64_t)c->T * c->G;
  if (c->B == 0 || rows == 0 || c->K == 0) return;
  attn_find_levels(c);
  /*
   * The backward pass recomputes the scores in the panel form's order of summation: another order would
   * change large scores.
   */
  p.decode = rows <= DECODE_ROWS && !c->lse_rest;
  for (int b = 0; b < c->B; b++) {
    int64_t keys = attn_row_of(c, b).key_length;
    if (keys > p.max_keys) p.max_keys = keys;
  }
  int share_keys = 0;
  p.heads_per_unit = 1, p.head_units = c->K, p.row_units = 1, p.rows_per_unit = ATTN_ROWS;
  int64_t window = c->left + c->right + 1 + c->T, reach = window < p.max_keys ? window : p.max_keys;
  if (p.decode) {
    /* Heads share a unit when splitting the keys alone gives enough units: memory is then read in order. */
    int64_t splits = reach / ATTN_CHUNK > 0 ? reach / ATTN_CHUNK : 1;
    while (p.heads_per_unit < c->K && (int64_t)c->B * ((c->K + 2 * p.heads_per_unit - 1) / (2 * p.heads_per_unit)) * splits >= ATTN_UNITS / 2) p.heads_per_unit *= 2;
    p.head_units = (c->K + p.heads_per_unit - 1) / p.heads_per_unit;
  } else {
    /*
     * Fewer rows per unit (whole panels) when there would be too few units. Not when the keys can be split
     * instead, since each unit reads all keys again (latent attention: a query's 128 heads are rows of one KV
     * head).
     */
    share_keys = rows <= ATTN_ROWS && c->T * (int64_t)(8 * ATTN_CHUNK) <= p.max_keys && reach == p.max_keys;
    if (!share_keys)
      while (p.rows_per_unit > 2 * ATTN_NR && c->B * c->K * ((rows + p.rows_per_unit - 1) / p.rows_per_unit) < ATTN_UNITS) p.rows_per_unit -= ATTN_NR;
    p.row_units = (int)((rows + p.rows_per_unit - 1) / p.rows_per_unit);
  }
  int units = c->B * (p.decode ? p.head_units : c->K * p.row_units);
  int64_t chunks = (ATTN_UNITS + units - 1) / units;
  if (chunks > p.max_keys / (share_keys ? 2 * ATTN_CHUNK : ATTN_CHUNK)) chunks = p.max_keys / (share_keys ? 2 * ATTN_CHUNK : ATTN_CHUNK);
  if (chunks < 1 || reach < p.max_keys) chunks = 1;
  p.chunk = ((p.max_keys + chunks - 1) / chunks + ATTN_KEYS - 1) / ATTN_KEYS * ATTN_KEYS;
  p.chunks = p.chunk ? (int)((p.max_keys + p.chunk - 1) / p.chunk) : 1;
  if (p.chunks < 1) p.chunks = 1;
  if (p.chunks > 1) {
    p.partial_rows = (int64_t)c->N * c->T;
    p.partial_stride = p.partial_rows * (c->Hv + 2);
    p.partials = gqa_scratch(GQA_SHARED, (size_t)(c->B * p.chunks * p.partial_stride) * sizeof(float));
  }
  gqa_parallel(units * p.chunks, attn_task, &p);
  if (p.chunks > 1) gqa_parallel(c->B * c->K, attn_merge_task, &p);
}
