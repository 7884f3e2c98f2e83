/*
 * linear_backward.c: the gradients of linear (linear.c) with f32 weights, all parts in one call.
 *
 * linear_backward: [dX, x, rows, In, parts, then per part: weight, Out, dOut, dWeight]   dX, dWeight: 0 = not wanted
 * dX [rows, In] = the sum over parts of dOut [rows, Out] @ weight [Out, In]; dWeight [Out, In] = dOut^T @ x [rows, In].
 *
 * dX is one product whose inner dimension runs through all parts: their weights are packed into panels, some columns of In at once, and a
 * task is a block of rows. For dWeight the inner dimension is the rows, many: a task holds a block of dWeight in L2 while it reads dOut and x
 * once from top to bottom, and packs pieces of both as it goes.
 *
 * Numerics: gemm.h; in dX the parts are added up in order.
 */
#include "gemm.h"

enum { WEIGHT_BLOCK_ROWS = 192, WEIGHT_BLOCK_COLUMNS = 512, LEAST_BLOCK_ROWS = 64 };

typedef struct {
  const float *weight, *dOut;
  size_t outFeatures;
  float *dWeight;
} linear_back_part;

typedef struct {
  float *dX;
  const float *x;
  size_t rows, In;
  int parts;
  const double *part; /* 4 doubles each */
  size_t outs;        /* of all parts together */
  float *panels;      /* dX: `columns` columns of all weights from firstColumn on */
  size_t firstColumn, columns;
  size_t blockRows, blockColumns; /* dWeight: of a task */
} linear_back;

static linear_back_part linear_back_at(const linear_back *c, int i) {
  const double *a = c->part + 4 * i;
  return (linear_back_part){.weight = gqa_pointer(a[0]), .outFeatures = (size_t)a[1], .dOut = gqa_pointer(a[2]), .dWeight = gqa_pointer(a[3])};
}

/* --- dX --- */

static void linear_back_pack_task(void *context, int task, int worker) {
  const linear_back *c = context;
  (void)worker;
  const size_t at = (size_t)task * NR, width = (size_t)panel_vectors(c->columns, at) * VL;
  float *panel = c->panels + at * c->outs;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    pack_panel(panel, p.weight + c->firstColumn, c->In, c->columns, at, p.outFeatures);
    panel += p.outFeatures * width;
  }
}

static void linear_back_rows_task(void *context, int task, int worker) {
  const linear_back *c = context;
  const size_t row = (size_t)task * MC, m = gqa_min(MC, c->rows - row);
  float *out = c->dX + row * c->In + c->firstColumn;
  float *block = gqa_scratch(worker, MC * (KC + NR) * sizeof(float)), *tile = block + MC * KC;
  size_t before = 0; /* outputs of the parts before */
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    for (size_t k0 = 0, depth = gemm_depth(p.outFeatures); k0 < p.outFeatures; k0 += depth) {
      const size_t k = gqa_min(depth, p.outFeatures - k0), first = before + k0;
      const float *from = p.dOut + row * p.outFeatures + k0;
      const int in_place = gemm_in_place(p.outFeatures);
      if (!in_place) gemm_pack(block, from, p.outFeatures, m, k);
      gemm_ahead ahead = {.second = gemm_walk_rows(k0 + k < p.outFeatures ? from + k : from + m * p.outFeatures - k0, k, p.outFeatures)};
      for (size_t j = 0; j < c->columns; j += NR) {
        const int nv = panel_vectors(c->columns, j);
        const size_t width = (size_t)nv * VL, have = gqa_min(width, c->columns - j);
        const float *panel = c->panels + j * c->outs + first * width;
        ahead.first = gemm_walk_line(panel + NR * c->outs);
        ahead.target = first ? gemm_walk_none(block) : gemm_walk_rows(out + j + (j + NR < c->columns ? NR : m * c->In - j), NR, c->In);
        gemm_panel_part(nv, m, in_place ? from : block, in_place ? p.outFeatures : KC, panel, width, out + j, c->In, have, k, first > 0, tile, &ahead);
      }
    }
    before += p.outFeatures;
  }
}

static void linear_back_rows(linear_back *c) {
  for (int i = 0; i < c->parts; i++) c->outs += linear_back_at(c, i).outFeatures;
  if (c->outs == 0) memset(c->dX, 0, c->rows * c->In * sizeof(float));
  if (c->outs == 0) return;
  const size_t atOnce = gqa_max(WEIGHT_BLOCK_COLUMNS, PACKED_FLOATS / c->outs / NR * NR);
  for (c->firstColumn = 0; c->firstColumn < c->In; c->firstColumn += c->columns) {
    c->columns = gqa_min(atOnce, c->In - c->firstColumn);
    const size_t floats = gqa_ceil(c->columns, VL) * VL * c->outs;
    c->panels = gqa_scratch(GQA_SHARED, floats * sizeof(float) + 64);
    gqa_run(gqa_ceil(c->columns, NR), linear_back_pack_task, c, (double)floats);
    gqa_run(gqa_ceil(c->rows, MC), linear_back_rows_task, c, (double)floats * (double)c->rows / 16);
  }
}

/* --- dWeight --- */

/* The size of blocks: where they are few (smaller than the largest) they cut n into equal ones, but for rounding up to `unit`. */
static size_t linear_back_block(size_t n, size_t block, size_t largest, size_t unit) {
  return block == largest ? block : gqa_ceil(gqa_max(1, gqa_ceil(n, gqa_max(1, gqa_ceil(n, block)))), unit) * unit;
}
static size_t linear_back_block_rows(const linear_back *c, const linear_back_part *p) { return linear_back_block(p->outFeatures, c->blockRows, WEIGHT_BLOCK_ROWS, 4); }
static size_t linear_back_block_columns(const linear_back *c) { return linear_back_block(c->In, c->blockColumns, WEIGHT_BLOCK_COLUMNS, NR); }

static size_t linear_back_part_tasks(const linear_back *c, const linear_back_part *p) {
  return p->dWeight ? gqa_ceil(p->outFeatures, linear_back_block_rows(c, p)) * gqa_ceil(c->In, linear_back_block_columns(c)) : 0;
}

static size_t linear_back_tasks(const linear_back *c) {
  size_t tasks = 0;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    tasks += linear_back_part_tasks(c, &p);
  }
  return tasks;
}

static void linear_back_weight_task(void *context, int number, int worker) {
  const linear_back *c = context;
  const size_t blockColumns = linear_back_block_columns(c), across = gqa_ceil(c->In, blockColumns);
  size_t task = (size_t)number;
  linear_back_part p;
  for (int i = 0;; i++) {
    p = linear_back_at(c, i);
    const size_t tasks = linear_back_part_tasks(c, &p);
    if (task < tasks) break;
    task -= tasks;
  }
  const size_t blockRows = linear_back_block_rows(c, &p), row = task / across * blockRows, column = task % across * blockColumns;
  const size_t m = gqa_min(blockRows, p.outFeatures - row), n = gqa_min(blockColumns, c->In - column), depth = gemm_depth(c->rows);
  float *out = p.dWeight + row * c->In + column;
  float *block = gqa_scratch(worker, (WEIGHT_BLOCK_ROWS * (KC + NR) + KC * NR) * sizeof(float)), *panel = block + WEIGHT_BLOCK_ROWS * KC, *tile = panel + KC * NR;
  for (size_t r = 0; r < m && c->rows == 0; r++) memset(out + r * c->In, 0, n * sizeof(float));
  for (size_t k0 = 0; k0 < c->rows; k0 += depth) {
    const size_t k = gqa_min(depth, c->rows - k0);
    const float *from = p.dOut + k0 * p.outFeatures + row, *x = c->x + k0 * c->In + column;
    transpose_into(block, KC, from, p.outFeatures, k, m);
    gemm_ahead ahead = {.second = gemm_walk_rows(from + k * p.outFeatures, m, p.outFeatures), .target = gemm_walk_none(block)};
    for (size_t j = 0; j < n; j += NR) {
      const int nv = panel_vectors(n, j);
      const size_t width = (size_t)nv * VL;
      pack_panel(panel, x, c->In, n, j, k);
      ahead.first = gemm_walk_rows(j + NR < n ? x + j + NR : x + k * c->In, NR, c->In);
      gemm_panel_part(nv, m, block, KC, panel, width, out + j, c->In, gqa_min(width, n - j), k, k0 > 0, tile, &ahead);
    }
  }
}

static void linear_back_weights(linear_back *c) {
  /* Smaller blocks where there are few: every tiling gives the same bits. */
  const size_t wanted = gqa_threads() > 1 ? 2 * (size_t)gqa_threads() : 1;
  for (c->blockRows = WEIGHT_BLOCK_ROWS, c->blockColumns = WEIGHT_BLOCK_COLUMNS; linear_back_tasks(c) < wanted && c->blockColumns > 2 * NR;)
    if (c->blockRows > LEAST_BLOCK_ROWS) c->blockRows -= LEAST_BLOCK_ROWS / 2;
    else c->blockColumns /= 2;
  double outs = 0;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    if (p.dWeight) outs += (double)p.outFeatures;
  }
  gqa_run(linear_back_tasks(c), linear_back_weight_task, c, outs * (double)c->In * (double)c->rows / 16);
}

static void op_linear_backward(const double *a) {
  linear_back c = {.dX = gqa_pointer(a[0]), .x = gqa_pointer(a[1]), .rows = (size_t)a[2], .In = (size_t)a[3], .parts = (int)a[4], .part = a + 5};
  if (c.In == 0 || c.parts == 0) return;
  if (c.dX && c.rows > 0) linear_back_rows(&c);
  linear_back_weights(&c);
}
