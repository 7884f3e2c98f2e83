/*
 * linear.c: y = x W^T + bias for one or more weights that share x: the projections of a model.
 *
 * linear: [x, rows, In, precision, parts, then per part: weight, dtype, Out, bias (0 = none), y]
 * x [rows, In] f32; weight [Out, In] of any storage type (quant.h), read in place; bias [Out] f32; y [rows,
 * Out] f32.
 *
 * Four methods, by the number of rows:
 * - 1: dot products on the stored form, bound by memory (dot.h);
 * - 2 to FEW: four weight rows at a time are decoded into L1 and multiplied with every row of x; a row has
 *   the bits of method 1;
 * - to MANY - 1: x is packed once into panels whose lanes are rows; a task decodes a block of weight rows by
 *   KC, whose elements are the broadcast operand of gemm.h, and runs it over all panels. The block's result
 *   is y^T; it is transposed when it is complete.
 * - more: the weights are packed into panels whose lanes are outputs, some columns at once, and rows of x
 *   are the broadcast operand: y is written as it is computed, and packing a weight costs little beside its
 *   products with so many rows.
 * All parts share one parallel region. linear_bf16.h has the form with bf16 operands for more than FEW rows,
 * linear_int8.h the one with 8-bit activations.
 *
 * Numerics: f32 accumulation on exactly decoded weights; within 1e-5 of f64.
 */
#include "bf16.h"
#include "dot.h"
#include "gemm.h"
#include "linear_parts.h"
#include "units.h"

enum { LINEAR_MANY = 512, LINEAR_BLOCK_ROWS = 48, LINEAR_MOST_UNIT = 512, LINEAR_LEAST_UNIT = 128, LINEAR_UNIT_FLOATS = 3 << 17 };

/* --- one row --- */

static void linear_row_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t task = (size_t)number;
  const linear_part p = linear_find_part(c, &task, 0);
  const size_t at = task * linear_task_rows(&p), rows = gqa_min(linear_task_rows(&p), p.out_features - at);
  const uint8_t *w = p.weight + at * p.row_bytes;
  float *y = p.y + at;
  if (type_is_k(p.type)) GQA_SPECIALISE(GQA_K_TYPES, p.type, dot_stored_rows(GQA_VALUE, w, p.row_bytes, c->x, c->sums, c->K, rows, y))
  else GQA_SPECIALISE(GQA_GROUP_TYPES, p.type, dot_stored_rows(GQA_VALUE, w, p.row_bytes, c->x, c->sums, c->K, rows, y))
  if (p.bias)
    for (size_t i = 0; i < rows; i++) y[i] += p.bias[at + i];
}

/* --- a few rows: DOT_W weight rows by DOT_CHUNK are decoded and multiplied with every row --- */

GQA_INLINE void linear_few_chunk(const linear_call *c, const linear_part *p, size_t o, size_t n, size_t k0, float *decoded, float (*totals)[DOT_W][VL]) {
  const size_t k = gqa_min(DOT_CHUNK, c->K - k0);
  const float *w[DOT_W];
  for (size_t j = 0; j < DOT_W; j++) {
    const uint8_t *row = p->weight + (o + gqa_min(j, n - 1)) * p->row_bytes + stored_bytes(p->type, k0);
    w[j] = p->type == GQA_F32 ? (const float *)row : decoded + gqa_min(j, n - 1) * DOT_CHUNK;
    if (p->type != GQA_F32 && j < n) decode_elements(p->type, row, decoded + j * DOT_CHUNK, k);
  }
  const size_t bytes = DOT_W * stored_bytes(p->type, k), tiles = gqa_ceil(c->rows, DOT_X);
  dot_ahead ahead = {p->weight + o * p->row_bytes + DOT_W * stored_bytes(p->type, k0) + DOT_AHEAD, gqa_ceil(bytes, tiles * gqa_max(1, k / VL))};
  for (size_t r = 0; r < c->rows; r += DOT_X) dot_tile((int)gqa_min(DOT_X, c->rows - r), w, c->x + r * c->K + k0, c->K, k, k0 == 0, &ahead, totals + r);
}

#if VL == 4
GQA_INLINE void linear_few_codes(const linear_call *c, const linear_part *p, size_t o, size_t n, size_t k0, float (*totals)[DOT_W][VL]) {
  const size_t groups = gqa_min(DOT_CHUNK, c->K - k0) / GQA_GROUP, ld_sums = c->K / GQA_GROUP * VL;
  for (size_t j = 0; j < n; j++) {
    dot_codes_row row;
    const uint8_t *stored = p->weight + (o + j) * p->row_bytes + stored_bytes(p->type, k0);
    GQA_SPECIALISE(GQA_GROUP_TYPES, p->type, dot_decode_codes(GQA_VALUE, stored, groups, &row))
    for (size_t r = 0; r < c->rows; r += DOT_CODES_X)
      dot_codes(p->type, (int)gqa_min(DOT_CODES_X, c->rows - r), &row, c->x + r * c->K + k0, c->K, c->sums + r * ld_sums + k0 / GQA_GROUP * VL, ld_sums, groups, k0 == 0, (float(*)[DOT_W][VL])totals[r][j]);
  }
}
#endif

static void linear_few_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t task = (size_t)number;
  const linear_part p = linear_find_part(c, &task, 0);
  const size_t at = task * linear_task_rows(&p), end = gqa_min(at + linear_task_rows(&p), p.out_features);
  float *decoded = gqa_scratch(worker, DOT_W * DOT_CHUNK * sizeof(float)), totals[LINEAR_FEW][DOT_W][VL];
  for (size_t o = at; o < end; o += DOT_W) {
    const size_t n = gqa_min(DOT_W, end - o);
    for (size_t k0 = 0; k0 == 0 || k0 < c->K; k0 += DOT_CHUNK) {
#if VL == 4
      if (dot_is_scaled(p.type)) {
        linear_few_codes(c, &p, o, n, k0, totals);
        continue;
      }
#endif
      linear_few_chunk(c, &p, o, n, k0, decoded, totals);
    }
    for (size_t r = 0; r < c->rows; r++) dot_store_sums(totals[r], p.bias ? p.bias + o : 0, n, p.y + r * p.out_features + o);
  }
}

static void linear_few(linear_call *c) {
  if (DOT_SCALED) {
    const size_t ld_sums = c->K / GQA_GROUP * VL;
    float *sums = gqa_scratch(GQA_SHARED, gqa_max(1, c->rows * ld_sums) * sizeof(float));
    for (size_t r = 0; r < c->rows; r++) group_sums(c->x + r * c->K, c->K, sums + r * ld_sums);
    c->sums = sums;
  }
  gqa_run(linear_count_tasks(c, 0), c->rows == 1 ? linear_row_task : linear_few_task, c, linear_count_weights(c) / 8);
}

/* --- some rows --- */

static void linear_pack_task(void *context, int task, int worker) {
  const linear_call *c = context;
  pack_panel_transposed(c->panels + (size_t)task * GEMM_NR * c->K, c->x, c->K, c->rows, (size_t)task * GEMM_NR, c->K);
}

static void linear_block_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t task = (size_t)number;
  const linear_part p = linear_find_part(c, &task, LINEAR_BLOCK_ROWS);
  const size_t at = task * LINEAR_BLOCK_ROWS, m = gqa_min(LINEAR_BLOCK_ROWS, p.out_features - at), ldc = gqa_ceil(c->rows, VL) * VL + VL, depth = gemm_depth(c->K);
  float *w = gqa_scratch(worker, LINEAR_BLOCK_ROWS * (GEMM_KC + ldc) * sizeof(float)), *result = w + LINEAR_BLOCK_ROWS * GEMM_KC;
  for (size_t i = 0; i < m && (p.bias || c->K == 0); i++)
    for (size_t r = 0; r < c->rows; r++) result[i * ldc + r] = p.bias ? p.bias[at + i] : 0.0f;
  for (size_t k0 = 0; k0 < c->K; k0 += depth) {
    const size_t k = gqa_min(depth, c->K - k0);
    for (size_t i = 0; i < m; i++) decode_elements(p.type, p.weight + (at + i) * p.row_bytes + stored_bytes(p.type, k0), w + i * GEMM_KC, k);
    /* Prefetch the next piece, to the right or below, while this one is multiplied. */
    const int last = k0 + k == c->K;
    const float *next = (const float *)(p.weight + (at + (last ? m : 0)) * p.row_bytes + (last ? 0 : stored_bytes(p.type, k0 + k)));
    gemm_ahead ahead = {.second = gemm_walk_rows(next, stored_bytes(p.type, k) / sizeof(float), p.row_bytes / sizeof(float))};
    for (size_t r = 0; r < c->rows; r += GEMM_NR) {
      const int nv = panel_vectors(c->rows, r);
      const size_t width = (size_t)nv * VL;
      const float *panel = c->panels + r * c->K + k0 * width;
      ahead.first = gemm_walk_line(panel + GEMM_NR * c->K);
      ahead.target = gemm_walk_none(result);
      gemm_panel(&(gemm_product){.a = w, .lda = GEMM_KC, .b = panel, .ldb = width, .c = result + r, .ldc = ldc, .m = m, .k = k, .nv = nv, .accumulate = k0 > 0 || p.bias}, &ahead);
    }
  }
  transpose_into(p.y + at, p.out_features, result, ldc, m, c->rows);
}

static void linear_some(linear_call *c) {
  c->panels = gqa_scratch(GQA_SHARED, gqa_ceil(c->rows, VL) * VL * c->K * sizeof(float));
  gqa_run(gqa_ceil(c->rows, GEMM_NR), linear_pack_task, c, (double)c->rows * (double)c->K);
  gqa_run(linear_count_tasks(c, LINEAR_BLOCK_ROWS), linear_block_task, c, linear_count_weights(c) * (double)c->rows / 16);
}

/* --- many rows --- */

/*
 * A unit is some outputs of a part, whose packed weights stay in L2. Several are packed at once, from
 * first_unit on.
 */

static void linear_pack_unit_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t unit = c->first_unit + (size_t)number / (c->unit / GEMM_NR);
  float *panel = c->panels + (unit - c->first_unit) * c->unit * c->K;
  const linear_part p = linear_find_part(c, &unit, c->unit);
  const size_t inside = (size_t)number % (c->unit / GEMM_NR) * GEMM_NR, at = unit * c->unit + inside;
  if (at >= p.out_features) return;
  const size_t width = (size_t)panel_vectors(p.out_features, at) * VL, have = gqa_min(width, p.out_features - at);
  float *rows = gqa_scratch(worker, GEMM_NR * GEMM_KC * sizeof(float));
  panel += inside * c->K;
  if (have < width) memset(panel, 0, c->K * width * sizeof(float));
  for (size_t k0 = 0; k0 < c->K; k0 += GEMM_KC) {
    const size_t k = gqa_min(GEMM_KC, c->K - k0);
    const uint8_t *from = p.weight + at * p.row_bytes + stored_bytes(p.type, k0);
    if (p.type == GQA_F32) {
      transpose_into(panel + k0 * width, width, (const float *)from, c->K, have, k);
      continue;
    }
    for (size_t i = 0; i < have; i++) decode_elements(p.type, from + i * p.row_bytes, rows + i * GEMM_KC, k);
    transpose_into(panel + k0 * width, width, rows, GEMM_KC, have, k);
  }
}

static void linear_unit_task(void *context, int number, int worker) {
  const linear_call *c = context;
  const size_t blocks = gqa_ceil(c->rows, GEMM_MC), row = (size_t)number % blocks * GEMM_MC, m = gqa_min(GEMM_MC, c->rows - row), depth = gemm_depth(c->K);
  size_t unit = c->first_unit + (size_t)number / blocks;
  const float *panels = c->panels + (unit - c->first_unit) * c->unit * c->K;
  const linear_part p = linear_find_part(c, &unit, c->unit);
  const size_t at = unit * c->unit, n = gqa_min(c->unit, p.out_features - at);
  float *y = p.y + row * p.out_features + at, *block = gqa_scratch(worker, GEMM_MC * (GEMM_KC + GEMM_NR) * sizeof(float)), *tile = block + GEMM_MC * GEMM_KC;
  for (size_t i = 0; i < m && (p.bias || c->K == 0); i++)
    for (size_t j = 0; j < n; j++) y[i * p.out_features + j] = p.bias ? p.bias[at + j] : 0.0f;
  for (size_t k0 = 0; k0 < c->K; k0 += depth) {
    const size_t k = gqa_min(depth, c->K - k0);
    const float *x = c->x + row * c->K + k0;
    const int in_place = gemm_in_place(c->K);
    if (!in_place) gemm_pack(block, x, c->K, m, k);
    gemm_ahead ahead = {.second = gemm_walk_rows(k0 + k < c->K ? x + k : x + m * c->K - k0, k, c->K)};
    for (size_t j = 0; j < n; j += GEMM_NR) {
      const int nv = panel_vectors(p.out_features, at + j);
      const size_t width = (size_t)nv * VL;
      const float *panel = panels + j * c->K + k0 * width;
      ahead.first = gemm_walk_line(panel + GEMM_NR * c->K);
      ahead.target = k0 ? gemm_walk_none(block) : gemm_walk_rows(y + j + (j + GEMM_NR < n ? GEMM_NR : m * p.out_features - j), GEMM_NR, p.out_features);
      const gemm_product g = {.a = in_place ? x : block, .lda = in_place ? c->K : GEMM_KC, .b = panel, .ldb = width, .c = y + j, .ldc = p.out_features, .m = m, .k = k, .nv = nv, .accumulate = k0 > 0 || p.bias};
      gemm_panel_part(&g, gqa_min(width, n - j), tile, &ahead);
    }
  }
}

static void linear_many(linear_call *c) {
  c->unit = gqa_max(LINEAR_LEAST_UNIT, gqa_min(LINEAR_MOST_UNIT, LINEAR_UNIT_FLOATS / gqa_max(1, c->K) / LINEAR_LEAST_UNIT * LINEAR_LEAST_UNIT));
  const size_t units = linear_count_tasks(c, c->unit), at_once = gqa_max(1, GEMM_PACKED_FLOATS / gqa_max(1, c->unit * c->K));
  for (c->first_unit = 0; c->first_unit < units; c->first_unit += at_once) {
    const size_t count = gqa_min(at_once, units - c->first_unit), weights = count * c->unit * c->K;
    c->panels = gqa_scratch(GQA_SHARED, weights * sizeof(float) + 64);
    gqa_run(count * (c->unit / GEMM_NR), linear_pack_unit_task, c, (double)weights);
    gqa_run(count * gqa_ceil(c->rows, GEMM_MC), linear_unit_task, c, (double)weights * (double)c->rows / 16);
  }
}

/* Whether every part is of a block type that the unit reads, and it may round x to 8 bits. */
static int linear_is_int8(const linear_call *c) {
  int all = c->precision == GQA_INT8 && gqa_units.int8;
  for (int i = 0; i < c->parts && all; i++) {
    const int type = linear_part_at(c, i).type;
    all = type_is_block(type) && type <= GQA_Q6_K;
  }
  return all;
}

#include "linear_bf16.h"

static void op_linear(const double *a) {
  linear_call c = linear_call_of(a);
  if (c.rows == 0 || c.parts == 0) return;
  if (linear_is_int8(&c)) gqa_units.int8->linear(a);
  else if (c.rows <= LINEAR_FEW) linear_few(&c);
  else if (bf16_wanted(c.precision) && c.K > 0) linear_bf16(&c);
  else if (c.rows < LINEAR_MANY) linear_some(&c);
  else linear_many(&c);
}
