/*
 * linear_backward.c: the gradients of linear (linear.c) with f32 weights, all parts in one call.
 *
 * linear_backward: [dX, x, rows, In, precision, parts, then per part: weight, Out, dOut, dWeight]
 *   dX, dWeight: 0 = not wanted
 * dX [rows, In] = the sum over parts of dOut [rows, Out] @ weight [Out, In]; dWeight [Out, In] = dOut^T @ x
 * [rows, In].
 *
 * dX is one product whose inner dimension runs through all parts: their weights are packed into panels, some
 * columns of In at once, and a task is a block of rows. For dWeight the inner dimension is the rows, many: a
 * task holds a block of dWeight in L2 while it reads dOut and x once from top to bottom, and packs pieces of
 * both as it goes.
 *
 * Numerics: gemm.h; in dX the parts are added up in order.
 */
#include "bf16.h"
#include "gemm.h"

/* LINEAR_BACK_FEW: rows up to which bf16 is not used, as LINEAR_FEW of linear.c. */
enum { LINEAR_BACK_ROWS = 192, LINEAR_BACK_COLUMNS = 512, LINEAR_BACK_LEAST_ROWS = 64, LINEAR_BACK_FEW = 16 };

typedef struct {
  const float *weight, *d_out;
  size_t out_features;
  float *d_weight;
} linear_back_part;

typedef struct {
  float *d_x;
  const float *x;
  size_t rows, in_features;
  int precision, parts;
  const double *part; /* 4 doubles each */
  size_t outs;        /* of all parts together */
  float *panels;      /* d_x: `columns` columns of all weights from first_column on */
  size_t first_column, columns;
  size_t block_rows, block_columns; /* d_weight: of a task */
  uint16_t *pairs; /* bf16: what `panels` is, or panels of `rows` rows of x from first_row on */
  size_t first_row;
  size_t depth;    /* bf16: k of the products */
} linear_back;

static linear_back_part linear_back_at(const linear_back *c, int i) {
  const double *a = c->part + 4 * i;
  return (linear_back_part){.weight = gqa_pointer(a[0]), .out_features = (size_t)a[1], .d_out = gqa_pointer(a[2]), .d_weight = gqa_pointer(a[3])};
}

/* --- d_x --- */

static void linear_back_pack_task(void *context, int task, int worker) {
  const linear_back *c = context;
  const size_t at = (size_t)task * GEMM_NR, width = (size_t)panel_vectors(c->columns, at) * VL;
  float *panel = c->panels + at * c->outs;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    pack_panel(panel, p.weight + c->first_column, c->in_features, c->columns, at, p.out_features);
    panel += p.out_features * width;
  }
}

static void linear_back_rows_task(void *context, int task, int worker) {
  const linear_back *c = context;
  const size_t row = (size_t)task * GEMM_MC, m = gqa_min(GEMM_MC, c->rows - row);
  float *out = c->d_x + row * c->in_features + c->first_column;
  float *block = gqa_scratch(worker, GEMM_MC * (GEMM_KC + GEMM_NR) * sizeof(float)), *tile = block + GEMM_MC * GEMM_KC;
  size_t before = 0; /* outputs of the parts before */
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    for (size_t k0 = 0, depth = gemm_depth(p.out_features); k0 < p.out_features; k0 += depth) {
      const size_t k = gqa_min(depth, p.out_features - k0), first = before + k0;
      const float *from = p.d_out + row * p.out_features + k0;
      const int in_place = gemm_in_place(p.out_features);
      if (!in_place) gemm_pack(block, from, p.out_features, m, k);
      gemm_ahead ahead = {.second = gemm_walk_rows(k0 + k < p.out_features ? from + k : from + m * p.out_features - k0, k, p.out_features)};
      for (size_t j = 0; j < c->columns; j += GEMM_NR) {
        const int nv = panel_vectors(c->columns, j);
        const size_t width = (size_t)nv * VL, have = gqa_min(width, c->columns - j);
        const float *panel = c->panels + j * c->outs + first * width;
        ahead.first = gemm_walk_line(panel + GEMM_NR * c->outs);
        ahead.target = first ? gemm_walk_none(block) : gemm_walk_rows(out + j + (j + GEMM_NR < c->columns ? GEMM_NR : m * c->in_features - j), GEMM_NR, c->in_features);
        const gemm_product g = {.a = in_place ? from : block, .lda = in_place ? p.out_features : GEMM_KC, .b = panel, .ldb = width, .c = out + j, .ldc = c->in_features, .m = m, .k = k, .nv = nv, .accumulate = first > 0};
        gemm_panel_part(&g, have, tile, &ahead);
      }
    }
    before += p.out_features;
  }
}

static void linear_back_rows(linear_back *c) {
  for (int i = 0; i < c->parts; i++) c->outs += linear_back_at(c, i).out_features;
  if (c->outs == 0) memset(c->d_x, 0, c->rows * c->in_features * sizeof(float));
  if (c->outs == 0) return;
  const size_t at_once = gqa_max(LINEAR_BACK_COLUMNS, GEMM_PACKED_FLOATS / c->outs / GEMM_NR * GEMM_NR);
  for (c->first_column = 0; c->first_column < c->in_features; c->first_column += c->columns) {
    c->columns = gqa_min(at_once, c->in_features - c->first_column);
    const size_t floats = gqa_ceil(c->columns, VL) * VL * c->outs;
    c->panels = gqa_scratch(GQA_SHARED, floats * sizeof(float) + 64);
    gqa_run(gqa_ceil(c->columns, GEMM_NR), linear_back_pack_task, c, (double)floats);
    gqa_run(gqa_ceil(c->rows, GEMM_MC), linear_back_rows_task, c, (double)floats * (double)c->rows / 16);
  }
}

/* --- d_weight --- */

/*
 * The size of blocks: where they are few (smaller than the largest) they cut n into equal ones, but for
 * rounding up to `unit`.
 */
static size_t linear_back_block(size_t n, size_t block, size_t largest, size_t unit) {
  return block == largest ? block : gqa_ceil(gqa_max(1, gqa_ceil(n, gqa_max(1, gqa_ceil(n, block)))), unit) * unit;
}
static size_t linear_back_block_rows(const linear_back *c, const linear_back_part *p) { return linear_back_block(p->out_features, c->block_rows, LINEAR_BACK_ROWS, 4); }
static size_t linear_back_block_columns(const linear_back *c) { return linear_back_block(c->in_features, c->block_columns, LINEAR_BACK_COLUMNS, GEMM_NR); }

static size_t linear_back_part_tasks(const linear_back *c, const linear_back_part *p) {
  return p->d_weight ? gqa_ceil(p->out_features, linear_back_block_rows(c, p)) * gqa_ceil(c->in_features, linear_back_block_columns(c)) : 0;
}

/* The tasks of a part; 0 for one without d_weight. */
typedef size_t (*linear_back_tasks)(const linear_back *c, const linear_back_part *p);

static size_t linear_back_count(const linear_back *c, linear_back_tasks tasks_of) {
  size_t tasks = 0;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    tasks += tasks_of(c, &p);
  }
  return tasks;
}

/* Finds the part of `task`, and the task's index within it. */
static linear_back_part linear_back_find(const linear_back *c, size_t *task, linear_back_tasks tasks_of) {
  for (int i = 0;; i++) {
    const linear_back_part p = linear_back_at(c, i);
    const size_t tasks = tasks_of(c, &p);
    if (*task < tasks) return p;
    *task -= tasks;
  }
}

/* The outputs of the parts with d_weight. */
static size_t linear_back_wanted(const linear_back *c) {
  size_t outs = 0;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    if (p.d_weight) outs += p.out_features;
  }
  return outs;
}

static void linear_back_weight_task(void *context, int number, int worker) {
  const linear_back *c = context;
  const size_t block_columns = linear_back_block_columns(c), across = gqa_ceil(c->in_features, block_columns);
  size_t task = (size_t)number;
  const linear_back_part p = linear_back_find(c, &task, linear_back_part_tasks);
  const size_t block_rows = linear_back_block_rows(c, &p), row = task / across * block_rows, column = task % across * block_columns;
  const size_t m = gqa_min(block_rows, p.out_features - row), n = gqa_min(block_columns, c->in_features - column), depth = gemm_depth(c->rows);
  float *out = p.d_weight + row * c->in_features + column;
  float *block = gqa_scratch(worker, (LINEAR_BACK_ROWS * (GEMM_KC + GEMM_NR) + GEMM_KC * GEMM_NR) * sizeof(float)), *panel = block + LINEAR_BACK_ROWS * GEMM_KC, *tile = panel + GEMM_KC * GEMM_NR;
  for (size_t r = 0; r < m && c->rows == 0; r++) memset(out + r * c->in_features, 0, n * sizeof(float));
  for (size_t k0 = 0; k0 < c->rows; k0 += depth) {
    const size_t k = gqa_min(depth, c->rows - k0);
    const float *from = p.d_out + k0 * p.out_features + row, *x = c->x + k0 * c->in_features + column;
    transpose_into(block, GEMM_KC, from, p.out_features, k, m);
    gemm_ahead ahead = {.second = gemm_walk_rows(from + k * p.out_features, m, p.out_features), .target = gemm_walk_none(block)};
    for (size_t j = 0; j < n; j += GEMM_NR) {
      const int nv = panel_vectors(n, j);
      const size_t width = (size_t)nv * VL;
      pack_panel(panel, x, c->in_features, n, j, k);
      ahead.first = gemm_walk_rows(j + GEMM_NR < n ? x + j + GEMM_NR : x + k * c->in_features, GEMM_NR, c->in_features);
      const gemm_product g = {.a = block, .lda = GEMM_KC, .b = panel, .ldb = width, .c = out + j, .ldc = c->in_features, .m = m, .k = k, .nv = nv, .accumulate = k0 > 0};
      gemm_panel_part(&g, gqa_min(width, n - j), tile, &ahead);
    }
  }
}

static void linear_back_weights(linear_back *c) {
  /* Smaller blocks where there are few: every tiling gives the same bits. */
  const size_t wanted = gqa_threads() > 1 ? 2 * (size_t)gqa_threads() : 1;
  for (c->block_rows = LINEAR_BACK_ROWS, c->block_columns = LINEAR_BACK_COLUMNS; linear_back_count(c, linear_back_part_tasks) < wanted && c->block_columns > 2 * GEMM_NR;)
    if (c->block_rows > LINEAR_BACK_LEAST_ROWS) c->block_rows -= LINEAR_BACK_LEAST_ROWS / 2;
    else c->block_columns /= 2;
  gqa_run(linear_back_count(c, linear_back_part_tasks), linear_back_weight_task, c, (double)linear_back_wanted(c) * (double)c->in_features * (double)c->rows / 16);
}

#include "linear_backward_bf16.h"

static void op_linear_backward(const double *a) {
  linear_back c = {.d_x = gqa_pointer(a[0]), .x = gqa_pointer(a[1]), .rows = (size_t)a[2], .in_features = (size_t)a[3], .precision = (int)a[4], .parts = (int)a[5], .part = a + 6};
  if (c.in_features == 0 || c.parts == 0) return;
  if (bf16_wanted(c.precision) && c.rows > LINEAR_BACK_FEW) {
    if (c.d_x) linear_back_bf16_rows(&c);
    linear_back_bf16_weights(&c);
    return;
  }
  if (c.d_x && c.rows > 0) linear_back_rows(&c);
  linear_back_weights(&c);
}
