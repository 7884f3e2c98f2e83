/*
 * experts.c: mixture of experts: top-k routing, and linear with the weights of each row's experts. Only the
 * weights of chosen experts are read.
 *
 * choose_experts: [scores, rows, experts, bias (0 = none), groups, keptGroups, best, k, values, ids]
 * scores, f32 [rows, experts]; a row's experts are the k of largest score + bias (f32 [experts]) among the
 * keptGroups of `groups` equal groups of experts whose `best` largest have the largest sum; ties go to the
 * lower index. values f32 [rows, k] are the scores without bias, ids i32 [rows, k], best first.
 *
 * expert_linear: [x, pairs, each, In, ids, experts, transposed, parts, then per part: dtype, Out, y, then per expert: weight, bias (0 = none)]
 * y[p] = x[p / each] W[ids[p]]^T + bias[ids[p]]: x [pairs / each, In] f32; ids i32 [pairs]; W [Out, In], or
 * [In, Out] when transposed, of any storage type, read in place; y f32 [pairs, Out].
 *
 * expert_linear_backward: [x, dY, pairs, each, In, Out, ids, experts, transposed, then per expert: dW (0 = none), dBias (0 = none)]
 * dW[e] = the sum over e's pairs of dY[p]^T x[p / each], shaped as W, f32; dBias[e] = the sum of dY[p]; zeros
 * for an expert without pairs.
 *
 * Numerics: as linear.c; transposed weights add up In products in f32 in their order.
 */
#include "quant_k.h"
#include "tasks.h"

enum { EXPERT_COLUMNS = 256, EXPERT_DEPTH = 8, EXPERT_ROUTED_ROWS = 64 };

/* --- which experts --- */

typedef struct {
  const float *scores, *bias;
  size_t rows, experts, groups, kept, best, k;
  float *values;
  int32_t *ids;
} choose_call;

/* The index of the largest of n values whose `gone` is 0; NaN is larger than all numbers, as in JAX. */
static size_t largest_left(const float *x, const uint8_t *gone, size_t n) {
  size_t found = n;
  for (size_t i = 0; i < n; i++)
    if (!gone[i] && (found == n || x[i] > x[found] || (x[i] != x[i] && x[found] == x[found]))) found = i;
  return found;
}

/* Marks the experts outside the kept groups; `gone` is 0 before. */
static void drop_groups(const choose_call *c, const float *choice, uint8_t *gone, float *judged, uint8_t *keep) {
  const size_t size = c->experts / c->groups;
  for (size_t g = 0; g < c->groups; g++) {
    judged[g] = 0.0f;
    for (size_t i = 0; i < gqa_min(c->best, size); i++) {
      const size_t at = g * size + largest_left(choice + g * size, gone + g * size, size);
      judged[g] += choice[at];
      gone[at] = 1;
    }
  }
  memset(gone, 1, c->experts);
  memset(keep, 0, c->groups);
  for (size_t i = 0; i < c->kept; i++) {
    const size_t g = largest_left(judged, keep, c->groups);
    keep[g] = 1;
    memset(gone + g * size, 0, size);
  }
}

static void choose_task(void *context, int task, int worker) {
  const choose_call *c = context;
  const size_t E = c->experts;
  float *choice = gqa_scratch(worker, 2 * E * sizeof(float) + 2 * E), *judged = choice + E;
  uint8_t *gone = (uint8_t *)(judged + E), *keep = gone + E;
  const size_t first = (size_t)task * EXPERT_ROUTED_ROWS;
  for (size_t r = first; r < gqa_min(first + EXPERT_ROUTED_ROWS, c->rows); r++) {
    const float *scores = c->scores + r * E;
    for (size_t e = 0; e < E; e++) choice[e] = c->bias ? scores[e] + c->bias[e] : scores[e];
    memset(gone, 0, E);
    if (c->kept < c->groups) drop_groups(c, choice, gone, judged, keep);
    for (size_t i = 0; i < c->k; i++) {
      const size_t e = largest_left(choice, gone, E);
      gone[e] = 1;
      c->values[r * c->k + i] = scores[e];
      c->ids[r * c->k + i] = (int32_t)e;
    }
  }
}

static void op_choose_experts(const double *a) {
  choose_call c = {.scores = gqa_pointer(a[0]), .rows = (size_t)a[1], .experts = (size_t)a[2], .bias = gqa_pointer(a[3]), .groups = (size_t)a[4], .kept = (size_t)a[5], .best = (size_t)a[6], .k = (size_t)a[7], .values = gqa_pointer(a[8]), .ids = gqa_pointer(a[9])};
  gqa_run(gqa_ceil(c.rows, EXPERT_ROUTED_ROWS), choose_task, &c, (double)(c.rows * c.experts * (c.k + 1)));
}

/* --- rows by expert --- */

/*
 * The pairs sorted by their expert: those of e are order[start[e]] … order[start[e + 1] - 1], in their own
 * order.
 */
typedef struct {
  size_t *start, *order, bytes;
} by_expert;

static by_expert sort_pairs(const int32_t *ids, size_t pairs, size_t experts) {
  by_expert s = {.bytes = (experts + 2 + pairs) * sizeof(size_t)};
  s.start = gqa_alloc(s.bytes);
  if (!s.start) __builtin_trap();
  s.order = s.start + experts + 2;
  memset(s.start, 0, (experts + 2) * sizeof(size_t));
  for (size_t p = 0; p < pairs; p++) s.start[ids[p] + 2]++;
  for (size_t e = 1; e <= experts; e++) s.start[e + 1] += s.start[e];
  for (size_t p = 0; p < pairs; p++) s.order[s.start[ids[p] + 1]++] = p;
  return s;
}

typedef struct {
  int type;
  size_t outs;
  float *y;
  const double *weights; /* weight, bias of each expert */
} expert_part;

static expert_part expert_part_at(const double *a, int part, size_t experts) {
  const double *p = a + 9 + (size_t)part * (3 + 2 * experts);
  return (expert_part){.type = (int)p[0], .outs = (size_t)p[1], .y = gqa_pointer(p[2]), .weights = p + 3};
}

/* One part of a call of op_linear. */
static void linear_argument(double *to, const expert_part *p, size_t expert, float *y) {
  to[0] = p->weights[2 * expert];
  to[1] = p->type;
  to[2] = (double)p->outs;
  to[3] = p->weights[2 * expert + 1];
  to[4] = (double)(uintptr_t)y;
}

static void linear_head(double *to, const float *x, size_t rows, size_t ins, double precision, size_t parts) {
  to[0] = (double)(uintptr_t)x;
  to[1] = (double)rows;
  to[2] = (double)ins;
  to[3] = precision;
  to[4] = (double)parts;
}

/* --- weights [Out, In]: op_linear, once per expert --- */

static void expert_rows(const double *a, const by_expert *sorted) {
  const float *x = gqa_pointer(a[0]);
  const size_t pairs = (size_t)a[1], each = (size_t)a[2], K = (size_t)a[3], experts = (size_t)a[5];
  const int32_t *ids = gqa_pointer(a[4]);
  const int parts = (int)a[8];
  size_t most = 0, outs = 0;
  for (size_t e = 0; e < experts; e++) most = gqa_max(most, sorted->start[e + 1] - sorted->start[e]);
  for (int i = 0; i < parts; i++) outs += expert_part_at(a, i, experts).outs;
  const int one_row = pairs == each; /* all experts of one row share one call */
  const size_t arguments = 5 + 5 * (size_t)parts * (one_row ? pairs : 1);
  const size_t bytes = arguments * sizeof(double) + (most > 1 ? most * (K + outs) * sizeof(float) : 0);
  double *call = gqa_alloc(bytes);
  if (!call) __builtin_trap();
  float *gathered = (float *)(call + arguments), *results = gathered + most * K;
  if (one_row) {
    linear_head(call, x, 1, K, a[7], (size_t)parts * pairs);
    for (size_t p = 0; p < pairs; p++)
      for (int i = 0; i < parts; i++) {
        const expert_part part = expert_part_at(a, i, experts);
        linear_argument(call + 5 + 5 * (p * (size_t)parts + (size_t)i), &part, (size_t)ids[p], part.y + p * part.outs);
      }
    op_linear(call);
  }
  for (size_t e = 0; e < experts && !one_row; e++) {
    const size_t *order = sorted->order + sorted->start[e], n = sorted->start[e + 1] - sorted->start[e];
    if (n == 0) continue;
    for (size_t r = 0; r < n && n > 1; r++) memcpy(gathered + r * K, x + order[r] / each * K, K * sizeof(float));
    linear_head(call, n > 1 ? gathered : x + order[0] / each * K, n, K, a[7], (size_t)parts);
    float *result = results;
    for (int i = 0; i < parts; result += n * expert_part_at(a, i++, experts).outs) {
      const expert_part part = expert_part_at(a, i, experts);
      linear_argument(call + 5 + 5 * i, &part, e, n > 1 ? result : part.y + order[0] * part.outs);
    }
    op_linear(call);
    result = results;
    for (int i = 0; i < parts && n > 1; i++) {
      const expert_part part = expert_part_at(a, i, experts);
      for (size_t r = 0; r < n; r++, result += part.outs) memcpy(part.y + order[r] * part.outs, result, part.outs * sizeof(float));
    }
  }
  gqa_free(call, bytes);
}

/* --- weights [In, Out] --- */

/* EXPERT_DEPTH rows by EXPERT_COLUMNS of the weights are decoded into L1 and multiplied with every row. */

typedef struct {
  const float *x;
  size_t each, K, rows;
  const size_t *order;
  int type;
  size_t outs;
  const uint8_t *weight;
  const float *bias;
  float *y;
} expert_columns_call;

/* y[0 … n) += the sum over depth of x[j] * w[j]; w has rows of EXPERT_COLUMNS. */
static void add_scaled_rows(float *y, const float *x, const float *w, size_t depth, size_t n) {
  vf factor[EXPERT_DEPTH];
  for (size_t j = 0; j < depth; j++) factor[j] = vf_set(x[j]);
  for (size_t at = 0; at < n; at += VL) {
    vf sum = vf_load_upto(y + at, n - at);
    for (size_t j = 0; j < depth; j++) sum = vf_fma(factor[j], vf_load(w + j * EXPERT_COLUMNS + at), sum);
    vf_store_upto(y + at, sum, n - at);
  }
}

static void expert_columns_task(void *context, int task, int worker) {
  const expert_columns_call *c = context;
  const size_t first = (size_t)task * EXPERT_COLUMNS, n = gqa_min(EXPERT_COLUMNS, c->outs - first);
  float *w = gqa_scratch(worker, EXPERT_DEPTH * EXPERT_COLUMNS * sizeof(float));
  for (size_t r = 0; r < c->rows; r++) {
    float *y = c->y + c->order[r] * c->outs + first;
    if (c->bias) memcpy(y, c->bias + first, n * sizeof(float));
    else memset(y, 0, n * sizeof(float));
  }
  for (size_t k = 0; k < c->K; k += EXPERT_DEPTH) {
    const size_t depth = gqa_min(EXPERT_DEPTH, c->K - k);
    for (size_t j = 0; j < depth; j++) decode_elements(c->type, c->weight + stored_bytes(c->type, c->outs) * (k + j) + stored_bytes(c->type, first), w + j * EXPERT_COLUMNS, n);
    for (size_t r = 0; r < c->rows; r++) add_scaled_rows(c->y + c->order[r] * c->outs + first, c->x + c->order[r] / c->each * c->K + k, w, depth, n);
  }
}

static void expert_columns(const double *a, const by_expert *sorted) {
  const size_t experts = (size_t)a[5];
  expert_columns_call c = {.x = gqa_pointer(a[0]), .each = (size_t)a[2], .K = (size_t)a[3]};
  for (size_t e = 0; e < experts; e++) {
    c.order = sorted->order + sorted->start[e];
    c.rows = sorted->start[e + 1] - sorted->start[e];
    for (int i = 0; i < (int)a[8] && c.rows > 0; i++) {
      const expert_part part = expert_part_at(a, i, experts);
      c.type = part.type;
      c.outs = part.outs;
      c.weight = gqa_pointer(part.weights[2 * e]);
      c.bias = gqa_pointer(part.weights[2 * e + 1]);
      c.y = part.y;
      gqa_run(gqa_ceil(c.outs, EXPERT_COLUMNS), expert_columns_task, &c, (double)c.outs * (double)c.K * (double)c.rows / 8);
    }
  }
}

static void op_expert_linear(const double *a) {
  const size_t pairs = (size_t)a[1];
  if (pairs == 0) return;
  const by_expert sorted = sort_pairs(gqa_pointer(a[4]), pairs, (size_t)a[5]);
  if (a[6]) expert_columns(a, &sorted);
  else expert_rows(a, &sorted);
  gqa_free(sorted.start, sorted.bytes);
}

/* --- gradients of the weights --- */

static void op_expert_linear_backward(const double *a) {
  const float *x = gqa_pointer(a[0]), *d_y = gqa_pointer(a[1]);
  const size_t pairs = (size_t)a[2], each = (size_t)a[3], K = (size_t)a[4], outs = (size_t)a[5], experts = (size_t)a[7];
  const int transposed = a[8] != 0;
  const by_expert sorted = sort_pairs(gqa_pointer(a[6]), pairs, experts);
  const size_t bytes = gqa_max(1, pairs * (K + outs) * sizeof(float));
  float *inputs = gqa_alloc(bytes), *gradients = inputs + pairs * K;
  if (!inputs) __builtin_trap();
  for (size_t p = 0; p < pairs; p++) {
    memcpy(inputs + p * K, x + sorted.order[p] / each * K, K * sizeof(float));
    memcpy(gradients + p * outs, d_y + sorted.order[p] * outs, outs * sizeof(float));
  }
  for (size_t e = 0; e < experts; e++) {
    const size_t first = sorted.start[e], n = sorted.start[e + 1] - first;
    const float *in = inputs + first * K, *out = gradients + first * outs;
    float *d_bias = gqa_pointer(a[10 + 2 * e]);
    const double left = (double)(uintptr_t)(transposed ? in : out), right = (double)(uintptr_t)(transposed ? out : in);
    const double M = (double)(transposed ? K : outs), N = (double)(transposed ? outs : K);
    if (a[9 + 2 * e]) op_matmul((double[]){a[9 + 2 * e], left, right, 1, M, N, (double)n, 1, 0, 0, 0, GQA_HIGHEST});
    for (size_t i = 0; i < outs && d_bias; i++) {
      float sum = 0.0f;
      for (size_t p = 0; p < n; p++) sum += out[p * outs + i];
      d_bias[i] = sum;
    }
  }
  gqa_free(inputs, bytes);
  gqa_free(sorted.start, sorted.bytes);
}
