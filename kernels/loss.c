/*
 * loss.c: softmax cross-entropy of f32 rows [rows, n] against i32 labels; a negative label does not count.
 *
 * cross_entropy:          [loss, sums, logits, labels, rows, n]
 *   loss = maximum + log sum - logits[label], 0 without label
 * cross_entropy_backward: [dLogits, logits, sums, labels, dLoss, rows, n]
 *   dLogits = dLoss * (softmax(logits) - [column = label]); may be in place
 *
 * sums: [2, rows], each row's maximum and the log of its sum of exponentials after the maximum is taken out. They are stored separately: in
 * their f32 sum a large maximum would round away the log.
 * Numerics: f32, the sum of exponentials in vector lanes.
 */
#include "simd.h"
#include "tasks.h"

typedef struct {
  float *loss, *sums, *out; /* sums: as written by the forward pass */
  const float *logits, *maxima, *logs, *d_loss;
  const int32_t *labels;
  size_t rows, n, rows_per_task;
} loss_call;

static void cross_entropy_task(void *context, int task, int worker) {
  const loss_call *c = context;
  const size_t n = c->n, end = gqa_min(((size_t)task + 1) * c->rows_per_task, c->rows);
  for (size_t r = (size_t)task * c->rows_per_task; r < end; r++) {
    const float *x = c->logits + r * n;
    float top = x[0];
    vf tops = vf_set(top);
    size_t i = 0;
    for (; i + VL <= n; i += VL) tops = vf_max(tops, vf_load(x + i));
    top = vf_hmax(tops);
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    vf sum = vf_set(0.0f);
    for (i = 0; i + VL <= n; i += VL) sum += vf_exp(vf_load(x + i) - top);
    if (i < n) {
      float lanes[VL];
      vf_store(lanes, vf_set(-__builtin_inff()));
      memcpy(lanes, x + i, (n - i) * sizeof(float));
      sum += vf_exp(vf_load(lanes) - top);
    }
    const float log = vf_log(vf_set(vf_sum(sum)))[0];
    c->sums[r] = top;
    c->sums[c->rows + r] = log;
    const int32_t label = c->labels[r];
    /* The op has refused labels past the row. If one was changed since, nothing is read outside the row. */
    c->loss[r] = label < 0 ? 0.0f : (size_t)label < n ? top - x[label] + log : __builtin_nanf("");
  }
}

static void cross_entropy_backward_task(void *context, int task, int worker) {
  const loss_call *c = context;
  const size_t n = c->n, end = gqa_min(((size_t)task + 1) * c->rows_per_task, c->rows);
  for (size_t r = (size_t)task * c->rows_per_task; r < end; r++) {
    const float *x = c->logits + r * n;
    float *out = c->out + r * n;
    if (c->labels[r] < 0) {
      memset(out, 0, n * sizeof(float));
      continue;
    }
    const vf top = vf_set(c->maxima[r]), log = vf_set(c->logs[r]), g = vf_set(c->d_loss[r]);
    for (size_t i = 0; i < n; i += VL) vf_store_upto(out + i, vf_exp(vf_load_upto(x + i, n - i) - top - log) * g, n - i);
    if ((size_t)c->labels[r] < n) out[c->labels[r]] -= c->d_loss[r];
  }
}

static void op_cross_entropy(const double *a) {
  loss_call c = {.loss = gqa_pointer(a[0]), .sums = gqa_pointer(a[1]), .logits = gqa_pointer(a[2]), .labels = gqa_pointer(a[3]), .rows = (size_t)a[4], .n = (size_t)a[5]};
  c.rows_per_task = gqa_max(1, GQA_CHUNK / gqa_max(1, c.n));
  gqa_run(gqa_ceil(c.rows, c.rows_per_task), cross_entropy_task, &c, a[4] * a[5] * 2);
}

static void op_cross_entropy_backward(const double *a) {
  loss_call c = {.out = gqa_pointer(a[0]), .logits = gqa_pointer(a[1]), .maxima = gqa_pointer(a[2]), .labels = gqa_pointer(a[3]), .d_loss = gqa_pointer(a[4]), .rows = (size_t)a[5], .n = (size_t)a[6]};
  c.logs = c.maxima + c.rows;
  c.rows_per_task = gqa_max(1, GQA_CHUNK / gqa_max(1, c.n));
  gqa_run(gqa_ceil(c.rows, c.rows_per_task), cross_entropy_backward_task, &c, a[5] * a[6] * 2);
}
