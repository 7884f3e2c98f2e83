/*
 * loss.c: softmax cross-entropy of f32 rows [rows, n] against i32 labels; a negative label does not count.
 *
 * cross_entropy:          [loss, logSumExp, logits, labels, rows, n]             loss = logSumExp - logits[label], 0 without label
 * cross_entropy_backward: [dLogits, logits, logSumExp, labels, dLoss, rows, n]   dLoss * (exp(logits - logSumExp) - [column = label]); may be in place
 *
 * Numerics: f32, the sum of exponentials in vector lanes after the maximum is taken out.
 */
#include "simd.h"
#include "tasks.h"

typedef struct {
  float *loss, *sums, *out;
  const float *logits, *logSumExp, *dLoss;
  const int32_t *labels;
  size_t rows, n, rowsPerTask;
} loss_call;

static void cross_entropy_task(void *context, int task, int worker) {
  const loss_call *c = context;
  (void)worker;
  const size_t n = c->n, end = gqa_min(((size_t)task + 1) * c->rowsPerTask, c->rows);
  for (size_t r = (size_t)task * c->rowsPerTask; r < end; r++) {
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
    const float total = top + vf_log(vf_set(vf_sum(sum)))[0];
    c->sums[r] = total;
    const int32_t label = c->labels[r];
    /* Labels past the row were refused by the op; changed since then, they are read nowhere. */
    c->loss[r] = label < 0 ? 0.0f : (size_t)label < n ? total - x[label] : __builtin_nanf("");
  }
}

static void cross_entropy_backward_task(void *context, int task, int worker) {
  const loss_call *c = context;
  (void)worker;
  const size_t n = c->n, end = gqa_min(((size_t)task + 1) * c->rowsPerTask, c->rows);
  for (size_t r = (size_t)task * c->rowsPerTask; r < end; r++) {
    const float *x = c->logits + r * n;
    float *out = c->out + r * n;
    if (c->labels[r] < 0) {
      memset(out, 0, n * sizeof(float));
      continue;
    }
    const vf shift = vf_set(c->logSumExp[r]), g = vf_set(c->dLoss[r]);
    size_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(out + i, vf_exp(vf_load(x + i) - shift) * g);
    const int rest = (int)(n - i);
    if (rest) vf_store_n(out + i, vf_exp(vf_load_n(x + i, rest) - shift) * g, rest);
    if ((size_t)c->labels[r] < n) out[c->labels[r]] -= c->dLoss[r];
  }
}

static void op_cross_entropy(const double *a) {
  loss_call c = {.loss = gqa_pointer(a[0]), .sums = gqa_pointer(a[1]), .logits = gqa_pointer(a[2]), .labels = gqa_pointer(a[3]), .rows = (size_t)a[4], .n = (size_t)a[5]};
  c.rowsPerTask = gqa_max(1, GQA_CHUNK / gqa_max(1, c.n));
  gqa_run(gqa_ceil(c.rows, c.rowsPerTask), cross_entropy_task, &c, a[4] * a[5] * 2);
}

static void op_cross_entropy_backward(const double *a) {
  loss_call c = {.out = gqa_pointer(a[0]), .logits = gqa_pointer(a[1]), .logSumExp = gqa_pointer(a[2]), .labels = gqa_pointer(a[3]), .dLoss = gqa_pointer(a[4]), .rows = (size_t)a[5], .n = (size_t)a[6]};
  c.rowsPerTask = gqa_max(1, GQA_CHUNK / gqa_max(1, c.n));
  gqa_run(gqa_ceil(c.rows, c.rowsPerTask), cross_entropy_backward_task, &c, a[5] * a[6] * 2);
}
