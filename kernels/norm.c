/*
 * norm.c: RMS and layer normalisation of f32 rows [rows, n]; weight and bias [n], address 0 = none; may be in
 * place.
 *
 * rms_norm:   [out, x, rows, n, weight, eps, weightOffset]
 *   x / sqrt(mean(x^2) + eps) * (weight + weightOffset)
 * layer_norm: [out, x, rows, n, weight, bias, eps]
 *   (x - mean) / sqrt(var + eps) * weight + bias, var over n
 * norm_backward: [centred, dOut, x, rows, n, weight, eps, weightOffset, dX, dWeight, dBias]
 *   address 0 = not wanted. With u = (x - mean) * scale and h = dOut * weight:
 *   dX = scale * (h - mean(h) - u * mean(h u)), without mean(h) for rms_norm;
 *   dWeight = sum over rows of dOut * u, dBias = sum of dOut; first per task, then over the tasks in order.
 *
 * Numerics: sums in 4 * VL f32 lanes; the variance is taken around the mean in a second pass, which also
 * corrects the mean. Within 1e-5 of f64 also when the mean is much larger than the deviation.
 */
#include "simd.h"
#include "tasks.h"

typedef struct {
  float *out;
  const float *x, *weight, *bias;
  size_t rows, n, rows_per_task;
  float eps, weight_offset;
  int centred;
} norm_call;

/* sums[0] = the sum of x - shift, sums[1] = the sum of its squares, over n elements. */
GQA_INLINE void norm_sums(const float *x, size_t n, float shift, float *sums) {
  vf s[4], q[4];
  for (int j = 0; j < 4; j++) s[j] = q[j] = vf_set(0.0f);
  size_t i = 0;
  for (; i + 4 * VL <= n; i += 4 * VL) {
    GQA_UNROLL(4)
    for (int j = 0; j < 4; j++) {
      vf v = vf_load(x + i + j * VL) - shift;
      s[j] += v;
      q[j] = vf_fma(v, v, q[j]);
    }
  }
  for (; i + VL <= n; i += VL) {
    vf v = vf_load(x + i) - shift;
    s[0] += v;
    q[0] = vf_fma(v, v, q[0]);
  }
  sums[0] = vf_sum((s[0] + s[1]) + (s[2] + s[3]));
  sums[1] = vf_sum((q[0] + q[1]) + (q[2] + q[3]));
  for (; i < n; i++) {
    sums[0] += x[i] - shift;
    sums[1] += (x[i] - shift) * (x[i] - shift);
  }
}

typedef struct {
  float mean, rest, scale; /* the mean is mean + rest: a second pass finds what the first one rounded away */
} norm_moments;

GQA_INLINE norm_moments norm_measure(const norm_call *c, const float *x) {
  const float n = (float)c->n;
  float sums[2];
  norm_sums(x, c->n, 0.0f, sums);
  if (!c->centred) return (norm_moments){.scale = 1.0f / __builtin_sqrtf(sums[1] / n + c->eps)};
  const float mean = sums[0] / n;
  norm_sums(x, c->n, mean, sums);
  const float rest = sums[0] / n;
  return (norm_moments){mean, rest, 1.0f / __builtin_sqrtf(sums[1] / n - rest * rest + c->eps)};
}

GQA_INLINE void norm_row(const norm_call *c, float *out, const float *x, int has_weight, int has_bias) {
  const norm_moments m = norm_measure(c, x);
  for (size_t i = 0; i < c->n; i += VL) {
    const size_t left = c->n - i;
    vf y = ((vf_load_upto(x + i, left) - m.mean) - m.rest) * m.scale;
    if (has_weight) y = y * (vf_load_upto(c->weight + i, left) + c->weight_offset);
    if (has_bias) y = y + vf_load_upto(c->bias + i, left);
    vf_store_upto(out + i, y, left);
  }
}

static void norm_task(void *context, int task, int worker) {
  const norm_call *c = context;
  const size_t end = gqa_min(((size_t)task + 1) * c->rows_per_task, c->rows);
  for (size_t r = (size_t)task * c->rows_per_task; r < end; r++) {
    float *out = c->out + r * c->n;
    const float *x = c->x + r * c->n;
    if (c->weight && c->bias) norm_row(c, out, x, 1, 1);
    else if (c->weight) norm_row(c, out, x, 1, 0);
    else if (c->bias) norm_row(c, out, x, 0, 1);
    else norm_row(c, out, x, 0, 0);
  }
}

static void norm_rows(norm_call *c) {
  if (c->n == 0) return;
  c->rows_per_task = gqa_max(1, GQA_CHUNK / c->n);
  gqa_run(gqa_ceil(c->rows, c->rows_per_task), norm_task, c, (double)c->rows * (double)c->n);
}

static void op_rms_norm(const double *a) {
  norm_call c = {.out = gqa_pointer(a[0]), .x = gqa_pointer(a[1]), .rows = (size_t)a[2], .n = (size_t)a[3], .weight = gqa_pointer(a[4]), .eps = (float)a[5], .weight_offset = (float)a[6]};
  norm_rows(&c);
}

static void op_layer_norm(const double *a) {
  norm_call c = {.out = gqa_pointer(a[0]), .x = gqa_pointer(a[1]), .rows = (size_t)a[2], .n = (size_t)a[3], .weight = gqa_pointer(a[4]), .bias = gqa_pointer(a[5]), .eps = (float)a[6], .centred = 1};
  norm_rows(&c);
}

/* --- backward --- */

typedef struct {
  norm_call forward; /* centred, x, weight, rows, n, eps, weight_offset, rows_per_task */
  const float *d_out;
  float *d_x, *d_weight, *d_bias;
  float *partials; /* per task [n] of d_weight, then [n] of d_bias */
} norm_backward_call;

/*
 * sums[0] = sum of h, sums[1] = sum of h u; adds d_out * u to d_weight and d_out to d_bias if requested. The
 * order of the branches decides which products the compiler fuses into sums, and so the last bit.
 */
GQA_INLINE void norm_backward_sums(const norm_backward_call *c, const float *x, const float *g, norm_moments m, float *d_weight, float *d_bias, float *sums) {
  const norm_call *f = &c->forward;
  vf sum = vf_set(0.0f), dot = sum;
  for (size_t i = 0; i < f->n; i += VL) {
    const int count = f->n - i < VL ? (int)(f->n - i) : VL, whole = count == VL;
    vf u = whole ? vf_load(x + i) : vf_load_n(x + i, count), d = whole ? vf_load(g + i) : vf_load_n(g + i, count), h = d;
    u = ((u - m.mean) - m.rest) * m.scale;
    if (f->weight) h = d * ((whole ? vf_load(f->weight + i) : vf_load_n(f->weight + i, count)) + f->weight_offset);
    sum += h;
    dot = vf_fma(h, u, dot);
    if (d_weight) {
      if (whole) vf_store(d_weight + i, vf_fma(d, u, vf_load(d_weight + i)));
      else vf_store_n(d_weight + i, vf_fma(d, u, vf_load_n(d_weight + i, count)), count);
    }
    if (d_bias) {
      if (whole) vf_store(d_bias + i, d + vf_load(d_bias + i));
      else vf_store_n(d_bias + i, d + vf_load_n(d_bias + i, count), count);
    }
  }
  sums[0] = vf_sum(sum);
  sums[1] = vf_sum(dot);
}

static void norm_backward_task(void *context, int task, int worker) {
  const norm_backward_call *c = context;
  const norm_call *f = &c->forward;
  const size_t n = f->n, end = gqa_min(((size_t)task + 1) * f->rows_per_task, f->rows);
  float *d_weight = c->d_weight ? c->partials + (size_t)task * 2 * n : 0, *d_bias = c->d_bias ? c->partials + ((size_t)task * 2 + 1) * n : 0;
  if (c->d_weight) memset(d_weight, 0, n * sizeof(float));
  if (c->d_bias) memset(d_bias, 0, n * sizeof(float));
  for (size_t r = (size_t)task * f->rows_per_task; r < end; r++) {
    const float *x = f->x + r * n, *g = c->d_out + r * n;
    const norm_moments m = norm_measure(f, x);
    float sums[2];
    norm_backward_sums(c, x, g, m, d_weight, d_bias, sums);
    if (!c->d_x) continue;
    const float mean = f->centred ? sums[0] / (float)n : 0.0f, dot = sums[1] / (float)n;
    for (size_t i = 0; i < n; i += VL) {
      vf u = ((vf_load_upto(x + i, n - i) - m.mean) - m.rest) * m.scale, h = vf_load_upto(g + i, n - i);
      if (f->weight) h = h * (vf_load_upto(f->weight + i, n - i) + f->weight_offset);
      vf_store_upto(c->d_x + r * n + i, ((h - mean) - u * dot) * m.scale, n - i);
    }
  }
}

static void op_norm_backward(const double *a) {
  norm_backward_call c = {.forward = {.centred = (int)a[0], .x = gqa_pointer(a[2]), .rows = (size_t)a[3], .n = (size_t)a[4], .weight = gqa_pointer(a[5]), .eps = (float)a[6], .weight_offset = (float)a[7]},
                          .d_out = gqa_pointer(a[1]), .d_x = gqa_pointer(a[8]), .d_weight = gqa_pointer(a[9]), .d_bias = gqa_pointer(a[10])};
  norm_call *f = &c.forward;
  const size_t n = f->n;
  if (n == 0) return;
  f->rows_per_task = gqa_max(1, GQA_CHUNK / n);
  const size_t tasks = gqa_ceil(f->rows, f->rows_per_task);
  c.partials = gqa_scratch(GQA_SHARED, gqa_max(1, tasks) * 2 * n * sizeof(float));
  gqa_run(tasks, norm_backward_task, &c, (double)f->rows * (double)n * 2);
  for (int which = 0; which < 2; which++) {
    float *out = which ? c.d_bias : c.d_weight;
    if (!out) continue;
    memset(out, 0, n * sizeof(float));
    for (size_t t = 0; t < tasks; t++) {
      const float *part = c.partials + (t * 2 + (size_t)which) * n;
      for (size_t i = 0; i < n; i++) out[i] += part[i];
    }
  }
}
