/*
 * optimizer.c: an optimizer step over all parameters in one call, because many parameters are small.
 *
 * sum_of_squares: [out, count, then per tensor: x, n]   out f32: the sum over all tensors
 * adamw: [gradientScale (0 = 1, else the address of an f32), learningRate, b1, b2, eps, c1, c2, count,
 *         then per parameter: parameter, n, gradient, m, v, weightDecay]
 * m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= rate * (m / c1 / (sqrt(v / c2) + eps) + decay p), c1 =
 * 1 - b1^t, c2 = 1 - b2^t.
 *
 * Numerics: squares run in f32 lanes over a chunk at most; chunks are added up in f64, in order.
 * Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization"; optax.adamw.
 */
#include "simd.h"
#include "tasks.h"

/*
 * Several arrays split into chunks; each array has `fields` doubles, of which the first two are its address
 * and length.
 */
typedef struct {
  const double *array;
  size_t count, fields;
} chunk_list;

/* Chunks of all arrays together. */
static size_t count_chunks(const chunk_list *list) {
  size_t chunks = 0;
  for (size_t i = 0; i < list->count; i++) chunks += gqa_ceil((size_t)list->array[i * list->fields + 1], GQA_CHUNK);
  return chunks;
}

static double count_elements(const chunk_list *list) {
  double elements = 0;
  for (size_t i = 0; i < list->count; i++) elements += list->array[i * list->fields + 1];
  return elements;
}

/* The array that a chunk belongs to; its elements are *first … *end - 1. */
static const double *find_chunk(const chunk_list *list, size_t chunk, size_t *first, size_t *end) {
  for (const double *array = list->array;; array += list->fields) {
    const size_t n = (size_t)array[1], chunks = gqa_ceil(n, GQA_CHUNK);
    if (chunk < chunks) {
      *first = chunk * GQA_CHUNK;
      *end = gqa_min(*first + GQA_CHUNK, n);
      return array;
    }
    chunk -= chunks;
  }
}

/* --- squares --- */

typedef struct {
  chunk_list list;
  double *sums; /* per chunk */
} squares_call;

static void squares_task(void *context, int task, int worker) {
  const squares_call *c = context;
  size_t i, end;
  const float *x = gqa_pointer(find_chunk(&c->list, (size_t)task, &i, &end)[0]);
  vf sum[4];
  for (int j = 0; j < 4; j++) sum[j] = vf_set(0.0f);
  for (; i + 4 * VL <= end; i += 4 * VL)
    for (int j = 0; j < 4; j++) {
      const vf v = vf_load(x + i + j * VL);
      sum[j] = vf_fma(v, v, sum[j]);
    }
  for (; i < end; i += VL) {
    const vf v = vf_load_upto(x + i, end - i);
    sum[0] = vf_fma(v, v, sum[0]);
  }
  c->sums[task] = (double)vf_sum(sum[0]) + (double)vf_sum(sum[1]) + (double)vf_sum(sum[2]) + (double)vf_sum(sum[3]);
}

static void op_sum_of_squares(const double *a) {
  squares_call c = {.list = {.array = a + 2, .count = (size_t)a[1], .fields = 2}};
  const size_t chunks = count_chunks(&c.list);
  c.sums = gqa_scratch(GQA_SHARED, chunks * sizeof(double));
  gqa_run(chunks, squares_task, &c, count_elements(&c.list));
  double total = 0;
  for (size_t i = 0; i < chunks; i++) total += c.sums[i];
  *(float *)gqa_pointer(a[0]) = (float)total;
}

/* --- AdamW --- */

typedef struct {
  chunk_list list;
  float scale, rate, b1, b2, rest1, rest2, eps, c1, c2;
} adamw_call;

static void adamw_task(void *context, int task, int worker) {
  const adamw_call *c = context;
  size_t i, end;
  const double *a = find_chunk(&c->list, (size_t)task, &i, &end);
  float *const ps = gqa_pointer(a[0]), *const ms = gqa_pointer(a[3]), *const vs = gqa_pointer(a[4]);
  const float *const gs = gqa_pointer(a[2]), decay = (float)a[5];
  for (; i < end; i += VL) {
    const size_t left = end - i;
    vf p = vf_load_upto(ps + i, left), m = vf_load_upto(ms + i, left), v = vf_load_upto(vs + i, left);
    const vf g = vf_load_upto(gs + i, left) * c->scale;
    m = vf_fma(m, vf_set(c->b1), g * c->rest1);
    v = vf_fma(v, vf_set(c->b2), g * g * c->rest2);
    const vf step = m * c->c1 / (vf_sqrt(v * c->c2) + c->eps);
    p = p - c->rate * vf_fma(p, vf_set(decay), step);
    vf_store_upto(ps + i, p, left), vf_store_upto(ms + i, m, left), vf_store_upto(vs + i, v, left);
  }
}

static void op_adamw(const double *a) {
  const float *scale = gqa_pointer(a[0]);
  adamw_call c = {.list = {.array = a + 8, .count = (size_t)a[7], .fields = 6}, .scale = scale ? *scale : 1.0f, .rate = (float)a[1], .b1 = (float)a[2], .b2 = (float)a[3],
                  .rest1 = (float)(1 - a[2]), .rest2 = (float)(1 - a[3]), .eps = (float)a[4], .c1 = (float)(1 / a[5]), .c2 = (float)(1 / a[6])};
  gqa_run(count_chunks(&c.list), adamw_task, &c, count_elements(&c.list) * 4);
}
