/*
 * optimizer.c: one AdamW step of one parameter, in one pass over it and its moments.
 *
 * adamw: [parameter, gradient, m, v, count, gradientScale (0 = 1, else the address of an f32), learningRate, b1, b2, eps, weightDecay, c1, c2]
 * m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= rate * (m / c1 / (sqrt(v / c2) + eps) + decay p), c1 = 1 - b1^t, c2 = 1 - b2^t.
 *
 * Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization"; optax.adamw.
 */
#include "simd.h"
#include "tasks.h"

typedef struct {
  float *p, *m, *v;
  const float *g;
  size_t count;
  float scale, rate, b1, b2, rest1, rest2, eps, decay, c1, c2;
} adamw_call;

GQA_INLINE void adamw_vector(const adamw_call *c, vf g, vf *p, vf *m, vf *v) {
  g = g * c->scale;
  *m = vf_fma(*m, vf_set(c->b1), g * c->rest1);
  *v = vf_fma(*v, vf_set(c->b2), g * g * c->rest2);
  vf step = *m * c->c1 / (vf_sqrt(*v * c->c2) + c->eps);
  *p = *p - c->rate * vf_fma(*p, vf_set(c->decay), step);
}

static void adamw_task(void *context, int task, int worker) {
  const adamw_call *c = context;
  (void)worker;
  size_t i = (size_t)task * GQA_CHUNK, end = gqa_min(i + GQA_CHUNK, c->count);
  for (; i < end; i += VL) {
    const int n = end - i < VL ? (int)(end - i) : VL, whole = n == VL;
    vf p, m, v, g;
    if (whole) p = vf_load(c->p + i), m = vf_load(c->m + i), v = vf_load(c->v + i), g = vf_load(c->g + i);
    else p = vf_load_n(c->p + i, n), m = vf_load_n(c->m + i, n), v = vf_load_n(c->v + i, n), g = vf_load_n(c->g + i, n);
    adamw_vector(c, g, &p, &m, &v);
    if (whole) vf_store(c->p + i, p), vf_store(c->m + i, m), vf_store(c->v + i, v);
    else vf_store_n(c->p + i, p, n), vf_store_n(c->m + i, m, n), vf_store_n(c->v + i, v, n);
  }
}

static void op_adamw(const double *a) {
  const float *scale = gqa_pointer(a[5]);
  adamw_call c = {.p = gqa_pointer(a[0]), .g = gqa_pointer(a[1]), .m = gqa_pointer(a[2]), .v = gqa_pointer(a[3]), .count = (size_t)a[4], .scale = scale ? *scale : 1.0f, .rate = (float)a[6],
                  .b1 = (float)a[7], .b2 = (float)a[8], .rest1 = (float)(1 - a[7]), .rest2 = (float)(1 - a[8]), .eps = (float)a[9], .decay = (float)a[10], .c1 = (float)(1 / a[11]), .c2 = (float)(1 / a[12])};
  gqa_run(gqa_ceil(c.count, GQA_CHUNK), adamw_task, &c, (double)c.count * 4);
}
