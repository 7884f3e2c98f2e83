/*
 * attention.c: the attention operation. Splits the work into units, and merges partial results when the keys
 * were split.
 *
 * Few queries (FEW_QUERIES) are units of their own, in the decode or the panel form by the size of a group,
 * and their keys are split by their number alone. So a query's result has the same bits whatever other
 * queries and batch rows a call has, and however its keys are divided into segments. More queries run in the
 * panel form, in bf16 where the call asks for it and the processor has units for it (attention_bf16.h).
 *
 * The split depends on shapes only, so results have the same bits for any number of threads.
 */
#include "attention_bf16.h"
#include "attention_decode.h"
#include "attention_level.h"

enum {
  ATTN_FEW_QUERIES = 9,
  ATTN_FEW_CHUNK = 256, /* of few queries: keys of a query that one unit reads, in whole tiles; twice that in the panel form */
  ATTN_UNITS = 32,      /* target number of units when keys must be split */
  ATTN_CHUNK = 256,     /* minimum number of keys per chunk, of many queries */
  ATTN_BF16_LEAST = 32, /* head dims, and rows of a KV head: with fewer of either, bf16 is slower than f32 */
};

typedef struct {
  attn call;
  int few;            /* few queries */
  int narrow;         /* many queries: products in bf16 */
  int heads_per_unit; /* decode form: KV heads of a unit */
  int head_units;     /* units along KV heads */
  int row_units;      /* panel form: units along rows, of one query or of all */
  int rows_per_unit;
  int chunks; /* along keys; of few queries the most of a query */
  int64_t chunk;
  int64_t max_keys;
  float *partials; /* NULL when chunks is 1 */
  int64_t partial_stride, partial_rows;
} attn_plan;

/* Partial records: one per (batch row, chunk) holding all N * T rows, KV head major. */
static attn_partial attn_partial_of(const attn_plan *p, int b, int chunk, int64_t row) {
  return (attn_partial){p->partials ? p->partials + (int64_t)(b * p->chunks + chunk) * p->partial_stride : 0, row, p->partial_rows};
}

static int attn_decodes(const attn *c) { return c->G <= DECODE_ROWS; }
static int attn_few_chunk(const attn *c) { return attn_decodes(c) ? ATTN_FEW_CHUNK : 2 * ATTN_FEW_CHUNK; }

/*
 * The chunks of query t's keys, of which the last is the longest, and at least 1. `low` and `high` become its
 * keys.
 */
static int attn_query_chunks(const attn *c, int b, int64_t t, int64_t *low, int64_t *high) {
  const attn_row row = attn_row_of(c, b);
  attn_limits(c, &row, t, low, high);
  const int chunks = (int)((*high - *low) / attn_few_chunk(c));
  return chunks > 1 ? chunks : 1;
}

/*
 * One query's group, or its groups of some KV heads, against a chunk of its keys. Queries come one after the
 * other: they share keys.
 */
static void attn_few_task(void *context, int task, int worker) {
  const attn_plan *p = context;
  const attn *c = &p->call;
  const int t = task % c->T, chunk = task / c->T % p->chunks, rest = task / c->T / p->chunks;
  const int unit = rest % (p->head_units * p->row_units), b = rest / (p->head_units * p->row_units);
  int64_t low, high;
  const int chunks = attn_query_chunks(c, b, t, &low, &high);
  if (chunk >= chunks) return;
  low += (int64_t)chunk * attn_few_chunk(c);
  if (chunk + 1 < chunks) high = low + attn_few_chunk(c);
  attn_partial partial = {0};
  if (attn_decodes(c)) {
    const int k0 = unit * p->heads_per_unit, k1 = k0 + p->heads_per_unit < c->K ? k0 + p->heads_per_unit : c->K;
    if (chunks > 1) partial = attn_partial_of(p, b, chunk, 0);
    float *scratch = gqa_scratch(worker, decode_scratch_floats(c, p->heads_per_unit) * sizeof(float));
    attn_decode_unit(c, b, t, k0, k1, low, high, scratch, partial);
    return;
  }
  const int k = unit / p->row_units, g = unit % p->row_units * p->rows_per_unit;
  const attn_rows rows = {b, k, c->G - g < p->rows_per_unit ? c->G - g : p->rows_per_unit, (int64_t)t * c->G + g};
  if (chunks > 1) partial = attn_partial_of(p, b, chunk, (int64_t)k * c->T * c->G + rows.first);
  attn_panel_unit(c, rows, low, high, gqa_scratch(worker, attn_panel_scratch_bytes(c)), partial);
}

static void attn_many_task(void *context, int task, int worker) {
  const attn_plan *p = context;
  const attn *c = &p->call;
  int chunk = task % p->chunks, rest = task / p->chunks;
  int64_t low = chunk * p->chunk, high = chunk == p->chunks - 1 ? p->max_keys : low + p->chunk;
  /* Longest first: under a causal mask the last rows see most keys. */
  int unit = p->row_units - 1 - rest % p->row_units, k = rest / p->row_units % c->K, b = rest / p->row_units / c->K;
  int64_t r0 = (int64_t)unit * p->rows_per_unit, all = (int64_t)c->T * c->G;
  int rows = (int)(all - r0 < p->rows_per_unit ? all - r0 : p->rows_per_unit);
  const attn_rows unit_rows = {b, k, rows, r0};
  const attn_partial partial = attn_partial_of(p, b, chunk, k * all + r0);
  if (p->narrow && attn_bf16_unit(c, unit_rows, low, high, gqa_scratch(worker, attn_bf16_scratch_bytes(c)), partial)) return;
  attn_panel_unit(c, unit_rows, low, high, gqa_scratch(worker, attn_panel_scratch_bytes(c)), partial);
}

static void attn_merge_task(void *context, int task, int worker) {
  const attn_plan *p = context;
  const attn *c = &p->call;
  int k = task % c->K, b = task / c->K;
  int64_t all = (int64_t)c->T * c->G;
  float *acc = gqa_scratch(worker, (size_t)c->Hv * sizeof(float));
  for (int64_t r = 0; r < all; r++) {
    int64_t low, high;
    const int chunks = p->few ? attn_query_chunks(c, b, r / c->G, &low, &high) : p->chunks;
    if (chunks > 1) attn_merge(c, b, k, r, attn_partial_of(p, b, 0, k * all + r), p->partial_stride, chunks, acc);
  }
}

static void attn_plan_few(attn_plan *p) {
  const attn *c = &p->call;
  for (int b = 0; b < c->B; b++)
    for (int t = 0; t < c->T; t++) {
      int64_t low, high;
      const int chunks = attn_query_chunks(c, b, t, &low, &high);
      if (chunks > p->chunks) p->chunks = chunks;
    }
  const int64_t units = (int64_t)c->B * c->T * p->chunks;
  if (attn_decodes(c)) {
    /*
     * Heads that are neighbours in memory share a unit when there are enough units without: memory is then read
     * in order.
     */
    while (c->key_head < c->key_token && p->heads_per_unit < c->K && units * ((c->K + 2 * p->heads_per_unit - 1) / (2 * p->heads_per_unit)) >= ATTN_UNITS / 2) p->heads_per_unit *= 2;
    p->head_units = (c->K + p->heads_per_unit - 1) / p->heads_per_unit;
    return;
  }
  /*
   * Fewer rows per unit where keys are not split. Whole panels, so that a panel holds the same rows in every
   * call.
   */
  p->rows_per_unit = ATTN_ROWS;
  while (p->chunks == 1 && p->rows_per_unit > 2 * ATTN_NR && units * c->K * ((c->G + p->rows_per_unit - 1) / p->rows_per_unit) < ATTN_UNITS / 2) p->rows_per_unit -= ATTN_NR;
  p->row_units = (c->G + p->rows_per_unit - 1) / p->rows_per_unit;
}

static void attn_plan_many(attn_plan *p) {
  const attn *c = &p->call;
  const int64_t rows = (int64_t)c->T * c->G, window = c->left + c->right + 1 + c->T, reach = window < p->max_keys ? window : p->max_keys;
  /*
   * Fewer rows per unit (whole panels) when there would be too few units. Not when the keys can be split
   * instead, since each unit reads all keys again.
   */
  const int share_keys = rows <= ATTN_ROWS && c->T * (int64_t)(8 * ATTN_CHUNK) <= p->max_keys && reach == p->max_keys;
  if (!share_keys)
    while (p->rows_per_unit > 2 * ATTN_NR && c->B * c->K * ((rows + p->rows_per_unit - 1) / p->rows_per_unit) < ATTN_UNITS) p->rows_per_unit -= ATTN_NR;
  p->row_units = (int)((rows + p->rows_per_unit - 1) / p->rows_per_unit);
  const int units = c->B * c->K * p->row_units;
  int64_t chunks = (ATTN_UNITS + units - 1) / units;
  if (chunks > p->max_keys / (share_keys ? 2 * ATTN_CHUNK : ATTN_CHUNK)) chunks = p->max_keys / (share_keys ? 2 * ATTN_CHUNK : ATTN_CHUNK);
  if (chunks < 1 || reach < p->max_keys) chunks = 1;
  p->chunk = ((p->max_keys + chunks - 1) / chunks + ATTN_KEYS - 1) / ATTN_KEYS * ATTN_KEYS;
  p->chunks = p->chunk ? (int)((p->max_keys + p->chunk - 1) / p->chunk) : 1;
  if (p->chunks < 1) p->chunks = 1;
}

/* Whether products are in bf16. The backward pass is in f32, and so is its forward pass. */
static int attn_is_narrow(const attn *c, int few) {
  const int lanes_fit = ATTN_NR % BF16_COLUMNS == 0;
  return lanes_fit && c->precision == GQA_BFLOAT16 && gqa_units.bf16 && !few && !c->lse_rest && c->H >= ATTN_BF16_LEAST && (int64_t)c->T * c->G >= ATTN_BF16_LEAST;
}

static void op_attention(const double *a) {
  attn_plan p = {.call = attn_parse(a), .heads_per_unit = 1, .row_units = 1, .rows_per_unit = ATTN_ROWS, .chunks = 1};
  attn *c = &p.call;
  if (c->B == 0 || c->T == 0 || c->N == 0 || c->K == 0) return;
  p.head_units = c->K;
  attn_find_levels(c);
  for (int b = 0; b < c->B; b++) {
    int64_t keys = attn_row_of(c, b).key_length;
    if (keys > p.max_keys) p.max_keys = keys;
  }
  /*
   * The backward pass recomputes the scores in the order of summation of many queries: another order would
   * change large scores.
   */
  p.few = c->T <= ATTN_FEW_QUERIES && !c->lse_rest;
  p.narrow = attn_is_narrow(c, p.few);
  if (p.few) attn_plan_few(&p);
  else attn_plan_many(&p);
  if (p.chunks > 1) {
    p.partial_rows = (int64_t)c->N * c->T;
    p.partial_stride = p.partial_rows * (c->Hv + 2);
    p.partials = gqa_scratch(GQA_SHARED, (size_t)(c->B * p.chunks * p.partial_stride) * sizeof(float));
  }
  if (p.few) gqa_parallel(c->B * c->T * p.head_units * p.row_units * p.chunks, attn_few_task, &p);
  else gqa_parallel(c->B * c->K * p.row_units * p.chunks, attn_many_task, &p);
  if (p.chunks > 1) gqa_parallel(c->B * c->K, attn_merge_task, &p);
}
