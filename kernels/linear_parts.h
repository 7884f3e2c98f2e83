/* linear_parts.h: a call of linear (linear.c), its parts, and the tasks that they are divided into. */
#ifndef GQA_LINEAR_PARTS_H
#define GQA_LINEAR_PARTS_H
#include "dot.h"

/* LINEAR_FEW is FEW_ROWS of src/ops/linear.ts. */
enum { LINEAR_FEW = 16, LINEAR_TASK_BYTES = 1 << 16 };

typedef struct {
  const uint8_t *weight;
  int type;
  size_t out_features, row_bytes;
  const float *bias;
  float *y;
} linear_part;

typedef struct {
  const float *x;
  size_t rows, K;
  int precision, parts;
  const double *part; /* 5 doubles each */
  const float *sums;  /* few rows: group_sums of x, where DOT_SCALED */
  float *panels;      /* some rows: all of x; many: the weights of some units */
  uint16_t *pairs;    /* bf16: `rows` rows of x, of which first_row is the first */
  size_t first_row;
  size_t unit, first_unit; /* outputs in a unit */
} linear_call;

static linear_call linear_call_of(const double *a) { return (linear_call){.x = gqa_pointer(a[0]), .rows = (size_t)a[1], .K = (size_t)a[2], .precision = (int)a[3], .parts = (int)a[4], .part = a + 5}; }

static linear_part linear_part_at(const linear_call *c, int i) {
  const double *a = c->part + 5 * i;
  linear_part p = {.weight = gqa_pointer(a[0]), .type = (int)a[1], .out_features = (size_t)a[2], .bias = gqa_pointer(a[3]), .y = gqa_pointer(a[4])};
  p.row_bytes = stored_bytes(p.type, c->K);
  return p;
}

/* Weight rows per task when they are read once: about 64 KiB of them, a multiple of DOT_W. */
static size_t linear_task_rows(const linear_part *p) {
  return gqa_max(DOT_W, gqa_min(1024, LINEAR_TASK_BYTES / gqa_max(1, p->row_bytes) / DOT_W * DOT_W));
}

/* Finds the part of `task`, and the task's index within it. */
static linear_part linear_find_part(const linear_call *c, size_t *task, size_t fixed_rows) {
  for (int i = 0;; i++) {
    linear_part p = linear_part_at(c, i);
    size_t tasks = gqa_ceil(p.out_features, fixed_rows ? fixed_rows : linear_task_rows(&p));
    if (*task < tasks || i == c->parts - 1) return p;
    *task -= tasks;
  }
}

static size_t linear_count_tasks(const linear_call *c, size_t fixed_rows) {
  size_t tasks = 0;
  for (int i = 0; i < c->parts; i++) {
    linear_part p = linear_part_at(c, i);
    tasks += gqa_ceil(p.out_features, fixed_rows ? fixed_rows : linear_task_rows(&p));
  }
  return tasks;
}

static double linear_count_weights(const linear_call *c) {
  double weights = 0;
  for (int i = 0; i < c->parts; i++) weights += c->part[5 * i + 2] * (double)c->K;
  return weights;
}

#endif
