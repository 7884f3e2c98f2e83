/*
 * linear.c: y = x W^T + bias for one or more stored weights that share x; the heart of every model.
 *
 * linear: [x, rows, In, parts, then per part: weight, dtype, Out, bias (0 = none), y]
 * x [rows, In] f32; weight [Out, In] of any storage type (quant.h), read in place; bias [Out] f32; y [rows, Out] f32.
 *
 * Four ways, by the number of rows:
 * - 1: dot products on the stored form, bound by memory (dot.h);
 * - 2 to FEW - 1: four weight rows at a time are decoded into L1 and multiplied with every row of x;
 * - to MANY - 1: x is packed once into panels whose lanes are rows; a task decodes a block of weight rows by KC, whose elements are the
 *   broadcast operand of gemm.h, and runs it over all panels. The block's result is y^T; it is transposed when it is complete.
 * - more: the weights are packed into panels whose lanes are outputs, some columns at once, and rows of x are the broadcast operand: y is
 *   written as it is computed, and packing a weight costs little beside its products with so many rows.
 * All parts share one parallel region.
 *
 * Numerics: f32 accumulation on exactly decoded weights; within 1e-5 of f64.
 */
#include "dot.h"
#include "gemm.h"

enum { FEW = VL == 16 ? 13 : 6, DOT_CHUNK = 1024, ROW_BYTES_PER_TASK = 1 << 16, MANY = 512, WEIGHT_ROWS = 48, MOST_UNIT = 512, LEAST_UNIT = 128, UNIT_FLOATS = 3 << 17 };

typedef struct {
  const uint8_t *weight;
  int type;
  size_t outFeatures, rowBytes;
  const float *bias;
  float *y;
} linear_part;

typedef struct {
  const float *x;
  size_t rows, K;
  int parts;
  const double *part; /* 5 doubles each */
  const float *sums;  /* one row: group_sums of x */
  float *panels;      /* some rows: all of x; many: the weights of some units */
  size_t unit, firstUnit; /* outputs in a unit */
} linear_call;

static linear_part part_at(const linear_call *c, int i) {
  const double *a = c->part + 5 * i;
  linear_part p = {.weight = gqa_pointer(a[0]), .type = (int)a[1], .outFeatures = (size_t)a[2], .bias = gqa_pointer(a[3]), .y = gqa_pointer(a[4])};
  p.rowBytes = stored_bytes(p.type, c->K);
  return p;
}

/* Weight rows per task when they are read once: about 64 KiB of them, a multiple of DOT_W. */
static size_t rows_per_task(const linear_part *p) {
  return gqa_max(DOT_W, gqa_min(1024, ROW_BYTES_PER_TASK / gqa_max(1, p->rowBytes) / DOT_W * DOT_W));
}

/* Finds the part that `task` falls into, and the task's number within it. */
static linear_part find_part(const linear_call *c, size_t *task, size_t fixedRows) {
  for (int i = 0;; i++) {
    linear_part p = part_at(c, i);
    size_t tasks = gqa_ceil(p.outFeatures, fixedRows ? fixedRows : rows_per_task(&p));
    if (*task < tasks || i == c->parts - 1) return p;
    *task -= tasks;
  }
}

static size_t count_tasks(const linear_call *c, size_t fixedRows) {
  size_t tasks = 0;
  for (int i = 0; i < c->parts; i++) {
    linear_part p = part_at(c, i);
    tasks += gqa_ceil(p.outFeatures, fixedRows ? fixedRows : rows_per_task(&p));
  }
  return tasks;
}

static double count_weights(const linear_call *c) {
  double weights = 0;
  for (int i = 0; i < c->parts; i++) weights += c->part[5 * i + 2] * (double)c->K;
  return weights;
}

/* --- one row --- */

static void linear_row_task(void *context, int number, int worker) {
  const linear_call *c = context;
  (void)worker;
  size_t task = (size_t)number;
  const linear_part p = find_part(c, &task, 0);
  const size_t at = task * rows_per_task(&p), rows = gqa_min(rows_per_task(&p), p.outFeatures - at);
  const uint8_t *w = p.weight + at * p.rowBytes;
  float *y = p.y + at;
  switch (p.type) {
#define CASE(type) case type: dot_stored_rows(type, w, p.rowBytes, c->x, c->sums, c->K, rows, y); break;
    CASE(GQA_F32) CASE(GQA_F16) CASE(GQA_BF16) CASE(GQA_Q8_0) CASE(GQA_Q4_0) CASE(GQA_Q4_1)
#undef CASE
    default: dot_k_rows(p.type, w, p.rowBytes, c->x, c->K, rows, y); break;
  }
  if (p.bias)
    for (size_t i = 0; i < rows; i++) y[i] += p.bias[at + i];
}

static void linear_row(linear_call *c) {
  const size_t padded = gqa_ceil(c->K, GROUP) * GROUP;
  float *scratch = gqa_scratch(GQA_SHARED, (padded + padded / GROUP * VL) * sizeof(float));
  if (padded != c->K) {
    memcpy(scratch, c->x, c->K * sizeof(float));
    memset(scratch + c->K, 0, (padded - c->K) * sizeof(float));
    c->x = scratch;
  }
  c->sums = scratch + padded;
  if (VL < 16) group_sums(c->x, c->K, scratch + padded);
  gqa_run(count_tasks(c, 0), linear_row_task, c, count_weights(c) / 8);
}

/* --- a few rows --- */

static void linear_few_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t task = (size_t)number;
  const linear_part p = find_part(c, &task, 0);
  const size_t at = task * rows_per_task(&p), end = gqa_min(at + rows_per_task(&p), p.outFeatures);
  float *decoded = gqa_scratch(worker, DOT_W * DOT_CHUNK * sizeof(float));
  for (size_t o = at; o < end; o += DOT_W) {
    const size_t n = gqa_min(DOT_W, end - o);
    float sums[FEW + DOT_X][DOT_W];
    for (size_t r = 0; r < c->rows; r++)
      for (size_t j = 0; j < DOT_W; j++) sums[r][j] = p.bias ? p.bias[o + gqa_min(j, n - 1)] : 0.0f;
    for (size_t k0 = 0; k0 < c->K; k0 += DOT_CHUNK) {
      const size_t k = gqa_min(DOT_CHUNK, c->K - k0);
      const float *w[DOT_W];
      for (size_t j = 0; j < DOT_W; j++) {
        const uint8_t *row = p.weight + (o + gqa_min(j, n - 1)) * p.rowBytes + stored_bytes(p.type, k0);
        w[j] = p.type == GQA_F32 ? (const float *)row : decoded + gqa_min(j, n - 1) * DOT_CHUNK;
        if (p.type != GQA_F32 && j < n) decode_elements(p.type, row, decoded + j * DOT_CHUNK, k);
      }
      for (size_t r = 0; r < c->rows; r += DOT_X) dot_tile((int)gqa_min(DOT_X, c->rows - r), w, c->x + r * c->K + k0, c->K, k, sums + r);
    }
    for (size_t r = 0; r < c->rows; r++) memcpy(p.y + r * p.outFeatures + o, sums[r], n * sizeof(float));
  }
}

/* --- some rows --- */

static void linear_pack_task(void *context, int task, int worker) {
  const linear_call *c = context;
  (void)worker;
  pack_panel_transposed(c->panels + (size_t)task * NR * c->K, c->x, c->K, c->rows, (size_t)task * NR, c->K);
}

static void linear_block_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t task = (size_t)number;
  const linear_part p = find_part(c, &task, WEIGHT_ROWS);
  const size_t at = task * WEIGHT_ROWS, m = gqa_min(WEIGHT_ROWS, p.outFeatures - at), ldc = gqa_ceil(c->rows, VL) * VL + VL, depth = gemm_depth(c->K);
  float *w = gqa_scratch(worker, WEIGHT_ROWS * (KC + ldc) * sizeof(float)), *result = w + WEIGHT_ROWS * KC;
  for (size_t i = 0; i < m && (p.bias || c->K == 0); i++)
    for (size_t r = 0; r < c->rows; r++) result[i * ldc + r] = p.bias ? p.bias[at + i] : 0.0f;
  for (size_t k0 = 0; k0 < c->K; k0 += depth) {
    const size_t k = gqa_min(depth, c->K - k0);
    for (size_t i = 0; i < m; i++) decode_elements(p.type, p.weight + (at + i) * p.rowBytes + stored_bytes(p.type, k0), w + i * KC, k);
    /* While this piece is multiplied, the one after it comes: to the right, or below. */
    const int last = k0 + k == c->K;
    const float *next = (const float *)(p.weight + (at + (last ? m : 0)) * p.rowBytes + (last ? 0 : stored_bytes(p.type, k0 + k)));
    gemm_ahead ahead = {.second = gemm_walk_rows(next, stored_bytes(p.type, k) / sizeof(float), p.rowBytes / sizeof(float))};
    for (size_t r = 0; r < c->rows; r += NR) {
      const int nv = panel_vectors(c->rows, r);
      const size_t width = (size_t)nv * VL;
      const float *panel = c->panels + r * c->K + k0 * width;
      ahead.first = gemm_walk_line(panel + NR * c->K);
      ahead.target = gemm_walk_none(result);
      gemm_panel(nv, m, w, panel, width, result + r, ldc, k, k0 > 0 || p.bias, &ahead);
    }
  }
  transpose_into(p.y + at, p.outFeatures, result, ldc, m, c->rows);
}

static void linear_some(linear_call *c) {
  c->panels = gqa_scratch(GQA_SHARED, gqa_ceil(c->rows, VL) * VL * c->K * sizeof(float));
  gqa_run(gqa_ceil(c->rows, NR), linear_pack_task, c, (double)c->rows * (double)c->K);
  gqa_run(count_tasks(c, WEIGHT_ROWS), linear_block_task, c, count_weights(c) * (double)c->rows / 16);
}

/* --- many rows: units of some outputs of a part, whose packed weights stay in L2; several are packed at once, from firstUnit on --- */

static void linear_pack_unit_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t unit = c->firstUnit + (size_t)number / (c->unit / NR);
  float *panel = c->panels + (unit - c->firstUnit) * c->unit * c->K;
  const linear_part p = find_part(c, &unit, c->unit);
  const size_t inside = (size_t)number % (c->unit / NR) * NR, at = unit * c->unit + inside;
  if (at >= p.outFeatures) return;
  const size_t width = (size_t)panel_vectors(p.outFeatures, at) * VL, have = gqa_min(width, p.outFeatures - at);
  float *rows = gqa_scratch(worker, NR * KC * sizeof(float));
  panel += inside * c->K;
  if (have < width) memset(panel, 0, c->K * width * sizeof(float));
  for (size_t k0 = 0; k0 < c->K; k0 += KC) {
    const size_t k = gqa_min(KC, c->K - k0);
    const uint8_t *from = p.weight + at * p.rowBytes + stored_bytes(p.type, k0);
    if (p.type == GQA_F32) {
      transpose_into(panel + k0 * width, width, (const float *)from, c->K, have, k);
      continue;
    }
    for (size_t i = 0; i < have; i++) decode_elements(p.type, from + i * p.rowBytes, rows + i * KC, k);
    transpose_into(panel + k0 * width, width, rows, KC, have, k);
  }
}

static void linear_unit_task(void *context, int number, int worker) {
  const linear_call *c = context;
  const size_t blocks = gqa_ceil(c->rows, MC), row = (size_t)number % blocks * MC, m = gqa_min(MC, c->rows - row), depth = gemm_depth(c->K);
  size_t unit = c->firstUnit + (size_t)number / blocks;
  const float *panels = c->panels + (unit - c->firstUnit) * c->unit * c->K;
  const linear_part p = find_part(c, &unit, c->unit);
  const size_t at = unit * c->unit, n = gqa_min(c->unit, p.outFeatures - at);
  float *y = p.y + row * p.outFeatures + at, *block = gqa_scratch(worker, MC * (KC + NR) * sizeof(float)), *tile = block + MC * KC;
  for (size_t i = 0; i < m && (p.bias || c->K == 0); i++)
    for (size_t j = 0; j < n; j++) y[i * p.outFeatures + j] = p.bias ? p.bias[at + j] : 0.0f;
  for (size_t k0 = 0; k0 < c->K; k0 += depth) {
    const size_t k = gqa_min(depth, c->K - k0);
    const float *x = c->x + row * c->K + k0;
    const int in_place = gemm_in_place(c->K);
    if (!in_place) gemm_pack(block, x, c->K, m, k);
    gemm_ahead ahead = {.second = gemm_walk_rows(k0 + k < c->K ? x + k : x + m * c->K - k0, k, c->K)};
    for (size_t j = 0; j < n; j += NR) {
      const int nv = panel_vectors(p.outFeatures, at + j);
      const size_t width = (size_t)nv * VL;
      const float *panel = panels + j * c->K + k0 * width;
      ahead.first = gemm_walk_line(panel + NR * c->K);
      ahead.target = k0 ? gemm_walk_none(block) : gemm_walk_rows(y + j + (j + NR < n ? NR : m * p.outFeatures - j), NR, p.outFeatures);
      gemm_panel_part(nv, m, in_place ? x : block, in_place ? c->K : KC, panel, width, y + j, p.outFeatures, gqa_min(width, n - j), k, k0 > 0 || p.bias, tile, &ahead);
    }
  }
}

static void linear_many(linear_call *c) {
  c->unit = gqa_max(LEAST_UNIT, gqa_min(MOST_UNIT, UNIT_FLOATS / gqa_max(1, c->K) / LEAST_UNIT * LEAST_UNIT));
  const size_t units = count_tasks(c, c->unit), atOnce = gqa_max(1, PACKED_FLOATS / gqa_max(1, c->unit * c->K));
  for (c->firstUnit = 0; c->firstUnit < units; c->firstUnit += atOnce) {
    const size_t count = gqa_min(atOnce, units - c->firstUnit), weights = count * c->unit * c->K;
    c->panels = gqa_scratch(GQA_SHARED, weights * sizeof(float) + 64);
    gqa_run(count * (c->unit / NR), linear_pack_unit_task, c, (double)weights);
    gqa_run(count * gqa_ceil(c->rows, MC), linear_unit_task, c, (double)weights * (double)c->rows / 16);
  }
}

static void op_linear(const double *a) {
  linear_call c = {.x = gqa_pointer(a[0]), .rows = (size_t)a[1], .K = (size_t)a[2], .parts = (int)a[3], .part = a + 4};
  if (c.rows == 0 || c.parts == 0) return;
  if (c.rows == 1) {
    linear_row(&c);
    return;
  }
  if (c.rows < FEW) {
    gqa_run(count_tasks(&c, 0), linear_few_task, &c, count_weights(&c) / 8);
    return;
  }
  if (c.rows < MANY) linear_some(&c);
  else linear_many(&c);
}
