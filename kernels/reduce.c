/*
 * reduce.c: sums, maxima and minima along one dimension, and softmax rows; all f32.
 *
 * reduce:  [op, out, x, outer, n, inner]   op 0 sum, 1 max, 2 min; x [outer, n, inner] -> out [outer, inner]
 * softmax: [out, x, rows, n]               may be in place
 *
 * Numerics: sums run in blocks of f32 lanes that are added up in f64 (rows) or f32 (columns), so the error
 * does not grow with n. max and min propagate NaN. A softmax row that is all -infinity gives zeros.
 */
#include "simd.h"
#include "tasks.h"

#define REDUCE_OPS(X, ...) \
  X(REDUCE_SUM, __VA_ARGS__) X(REDUCE_MAX, __VA_ARGS__) X(REDUCE_MIN, __VA_ARGS__)
enum { REDUCE_OPS(GQA_NAME) };
/* Number of elements summed in lanes before they are added to the total. */
enum { REDUCE_BLOCK = 4096, REDUCE_ROWS = 128, REDUCE_COLUMNS = 512 };

GQA_INLINE float reduce_identity(int op) { return op == REDUCE_SUM ? 0.0f : op == REDUCE_MAX ? -__builtin_inff() : __builtin_inff(); }

GQA_INLINE vf reduce_vector(int op, vf m, vf x) {
  if (op == REDUCE_SUM) return m + x;
  return vf_select(m == m, op == REDUCE_MAX ? vf_max(m, x) : vf_min(m, x), m);
}
GQA_INLINE float reduce_scalar(int op, float m, float x) {
  if (op == REDUCE_SUM) return m + x;
  if (m != m || x != x) return m != m ? m : x;
  return op == REDUCE_MAX ? (m > x ? m : x) : (m < x ? m : x);
}

/* n contiguous elements, n <= REDUCE_BLOCK for an accurate sum. */
GQA_INLINE float reduce_run(int op, const float *x, size_t n) {
  vf v[4];
  for (int j = 0; j < 4; j++) v[j] = vf_set(reduce_identity(op));
  size_t i = 0;
  for (; i + 4 * VL <= n; i += 4 * VL)
    for (int j = 0; j < 4; j++) v[j] = reduce_vector(op, v[j], vf_load(x + i + j * VL));
  for (; i + VL <= n; i += VL) v[0] = reduce_vector(op, v[0], vf_load(x + i));
  v[0] = reduce_vector(op, reduce_vector(op, v[0], v[1]), reduce_vector(op, v[2], v[3]));
  float lanes[VL], r;
  if (op == REDUCE_SUM) {
    r = vf_sum(v[0]);
  } else {
    vf_store(lanes, v[0]);
    r = lanes[0];
    for (int j = 1; j < VL; j++) r = reduce_scalar(op, r, lanes[j]);
  }
  for (; i < n; i++) r = reduce_scalar(op, r, x[i]);
  return r;
}

GQA_INLINE float reduce_row(int op, const float *x, size_t n) {
  if (op != REDUCE_SUM) return reduce_run(op, x, n);
  double total = 0;
  for (size_t i = 0; i < n; i += REDUCE_BLOCK) total += reduce_run(op, x + i, gqa_min(REDUCE_BLOCK, n - i));
  return (float)total;
}

/* out[c] = x[0][c] + x[1][c] + … for up to REDUCE_COLUMNS columns of n rows `stride` apart. */
GQA_INLINE void reduce_columns(int op, float *out, const float *x, size_t n, size_t stride, size_t columns) {
  float total[REDUCE_COLUMNS], part[REDUCE_COLUMNS];
  for (size_t c = 0; c < columns; c++) total[c] = reduce_identity(op);
  for (size_t r0 = 0; r0 < n; r0 += REDUCE_ROWS) {
    for (size_t c = 0; c < columns; c++) part[c] = reduce_identity(op);
    for (size_t r = r0; r < n && r < r0 + REDUCE_ROWS; r++) {
      const float *row = x + r * stride;
      size_t c = 0;
      for (; c + VL <= columns; c += VL) vf_store(part + c, reduce_vector(op, vf_load(part + c), vf_load(row + c)));
      for (; c < columns; c++) part[c] = reduce_scalar(op, part[c], row[c]);
    }
    for (size_t c = 0; c < columns; c++) total[c] = reduce_scalar(op, total[c], part[c]);
  }
  memcpy(out, total, columns * sizeof(float));
}

typedef struct {
  int op;
  float *out;
  const float *x;
  size_t outer, n, inner, rows_per_task, pieces, piece_length;
} reduce_call;

static void reduce_rows_task(void *context, int task, int worker) {
  const reduce_call *c = context;
  size_t end = gqa_min(((size_t)task + 1) * c->rows_per_task, c->outer);
  for (size_t r = (size_t)task * c->rows_per_task; r < end; r++) {
    const float *x = c->x + r * c->n;
    GQA_SPECIALISE(REDUCE_OPS, c->op, c->out[r] = reduce_row(GQA_VALUE, x, c->n));
  }
}

static void reduce_columns_task(void *context, int task, int worker) {
  const reduce_call *c = context;
  const size_t blocks = gqa_ceil(c->inner, REDUCE_COLUMNS), o = (size_t)task / blocks, at = (size_t)task % blocks * REDUCE_COLUMNS;
  const size_t columns = gqa_min(REDUCE_COLUMNS, c->inner - at);
  GQA_SPECIALISE(REDUCE_OPS, c->op, reduce_columns(GQA_VALUE, c->out + o * c->inner + at, c->x + o * c->n * c->inner + at, c->n, c->inner, columns));
}

/* Few long rows: each is first reduced in pieces, for any number of threads. */
static void reduce_pieces_task(void *context, int task, int worker) {
  const reduce_call *c = context;
  const size_t row = (size_t)task / c->pieces, at = (size_t)task % c->pieces * c->piece_length;
  reduce_call piece = {.op = c->op, .out = c->out + task, .x = c->x + row * c->n + at, .outer = 1, .n = gqa_min(c->piece_length, c->n - at), .rows_per_task = 1};
  reduce_rows_task(&piece, 0, worker);
}

static void op_reduce(const double *a) {
  reduce_call c = {.op = (int)a[0], .out = gqa_pointer(a[1]), .x = gqa_pointer(a[2]), .outer = (size_t)a[3], .n = (size_t)a[4], .inner = (size_t)a[5]};
  const double work = a[3] * a[4] * a[5];
  if (c.inner != 1) {
    gqa_run(c.outer * gqa_ceil(c.inner, REDUCE_COLUMNS), reduce_columns_task, &c, work);
    return;
  }
  enum { REDUCE_PIECE = 1 << 17, REDUCE_FEW_ROWS = 16 };
  if (c.outer <= REDUCE_FEW_ROWS && c.n >= 2 * REDUCE_PIECE) {
    reduce_call p = c;
    p.piece_length = REDUCE_PIECE;
    p.pieces = gqa_ceil(c.n, REDUCE_PIECE);
    p.out = gqa_scratch(GQA_SHARED, c.outer * p.pieces * sizeof(float));
    gqa_run(c.outer * p.pieces, reduce_pieces_task, &p, work);
    c.x = p.out;
    c.n = p.pieces;
  }
  c.rows_per_task = gqa_max(1, GQA_CHUNK / gqa_max(1, c.n));
  gqa_run(gqa_ceil(c.outer, c.rows_per_task), reduce_rows_task, &c, work);
}

/* --- softmax --- */

static void softmax_row(float *out, const float *x, size_t n) {
  const float top = reduce_run(REDUCE_MAX, x, n);
  if (top == -__builtin_inff()) {
    memset(out, 0, n * sizeof(float));
    return;
  }
  const vf shift = vf_set(top);
  double total = 0;
  for (size_t block = 0; block < n; block += REDUCE_BLOCK) {
    size_t i = block, end = gqa_min(n, block + REDUCE_BLOCK);
    vf sum = vf_set(0.0f), sum2 = sum;
    for (; i + 2 * VL <= end; i += 2 * VL) {
      vf e = vf_exp(vf_load(x + i) - shift), e2 = vf_exp(vf_load(x + i + VL) - shift);
      vf_store(out + i, e);
      vf_store(out + i + VL, e2);
      sum += e;
      sum2 += e2;
    }
    for (; i < end; i += VL) {
      int rest = end - i < VL ? (int)(end - i) : VL;
      float lanes[VL];
      vf_store(lanes, vf_set(-__builtin_inff()));
      memcpy(lanes, x + i, (size_t)rest * sizeof(float));
      vf e = vf_exp(vf_load(lanes) - shift);
      vf_store(lanes, e);
      memcpy(out + i, lanes, (size_t)rest * sizeof(float));
      sum += e;
    }
    total += vf_sum(sum + sum2);
  }
  const float scale = (float)(1.0 / total);
  size_t i = 0;
  for (; i + VL <= n; i += VL) vf_store(out + i, vf_load(out + i) * scale);
  for (; i < n; i++) out[i] *= scale;
}

static void softmax_task(void *context, int task, int worker) {
  const reduce_call *c = context;
  size_t end = gqa_min(((size_t)task + 1) * c->rows_per_task, c->outer);
  for (size_t r = (size_t)task * c->rows_per_task; r < end; r++) softmax_row(c->out + r * c->n, c->x + r * c->n, c->n);
}

static void op_softmax(const double *a) {
  reduce_call c = {.out = gqa_pointer(a[0]), .x = gqa_pointer(a[1]), .outer = (size_t)a[2], .n = (size_t)a[3]};
  if (c.n == 0) return;
  c.rows_per_task = gqa_max(1, GQA_CHUNK / 4 / c.n);
  gqa_run(gqa_ceil(c.outer, c.rows_per_task), softmax_task, &c, a[2] * a[3] * 2);
}
