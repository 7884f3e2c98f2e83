/*
 * random.c: random arrays equal to jax.random's bit for bit. Each element depends only on the key and its
 * index, so the work can be split anywhere.
 *
 * random: [kind, out, count, key0, key1, minval, maxval, factor, low, high, scale]
 *   0 bits       u32: the element's random bits
 *   1 uniform    max(minval, u * (maxval - minval) + minval) * scale, u uniform in [0, 1) with 23 bits
 *   2 normal     clamp(factor * erfInv(uniform), low, high) * scale; minval and maxval = erf of the bounds truncate
 *   3 gumbel     -log(-log(uniform)); JAX's minval is the smallest normal f32
 *   4 bernoulli  bool: uniform < high
 *
 * Numerics: XLA computes log, log1p and erf_inv of f32 by the polynomials below and fuses multiply-adds where
 * they are fused here; the same operations in the same order give the same bits. So fused and unfused steps
 * are explicit: random_fma rounds once on every target (through f64 where there is no instruction), and
 * random_round keeps a product from being fused with what follows.
 *
 * Source: jax/_src/random/core.py; XLA's plog (Cephes logf), log1p (Cephes) and erf_inv (Giles 2010), read
 *   from the code it emits.
 */
#include "simd.h"
#include "tasks.h"
#include "threefry.h"

#define RANDOM_KINDS(X, ...) \
  X(RANDOM_BITS, __VA_ARGS__) X(RANDOM_UNIFORM, __VA_ARGS__) X(RANDOM_NORMAL, __VA_ARGS__) X(RANDOM_GUMBEL, __VA_ARGS__) X(RANDOM_BERNOULLI, __VA_ARGS__)
enum { RANDOM_KINDS(GQA_NAME) };

GQA_INLINE vf random_fma(vf a, vf b, vf c) {
#if VL == 16
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif VL == 8
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  vf r;
  for (int i = 0; i < VL; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
#else
  /*
   * The product is exact in f64. Rounding the sum twice differs from once in about 1 of 2^29 cases, by an
   * ulp.
   */
  typedef double vd __attribute__((vector_size(VL * 8)));
  vd r = __builtin_convertvector(a, vd) * __builtin_convertvector(b, vd) + __builtin_convertvector(c, vd);
  return __builtin_convertvector(r, vf);
#endif
}

/* An optimization barrier: the compiler must treat the result as unknown. */
GQA_INLINE vf random_round(vf x) {
#if defined(__x86_64__)
  __asm__("" : "+v"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return x;
}

/* ln(x) of a positive x or +0. */
GQA_INLINE vf random_log(vf x) {
  vf v = vf_max(x, vf_set(0x1p-126f));
  vi bits = (vi)v;
  vf e = __builtin_convertvector((bits >> 23) - 127, vf) + 1.0f;
  vf m = (vf)((bits & vi_set(0x007fffff)) | vi_set(0x3f000000));
  vi low = m < vf_set(0.707106781186547524f);
  vf again = vf_select(low, m, vf_set(0.0f));
  m = (m - 1.0f) + again;
  e = vf_select(low, e - 1.0f, e);
  vf x2 = random_round(m * m), x3 = random_round(x2 * m);
  vf y = random_fma(random_fma(vf_set(7.0376836292e-2f), m, vf_set(-1.1514610310e-1f)), m, vf_set(1.1676998740e-1f));
  vf y1 = random_fma(random_fma(vf_set(-1.2420140846e-1f), m, vf_set(1.4249322787e-1f)), m, vf_set(-1.6668057665e-1f));
  vf y2 = random_fma(random_fma(vf_set(2.0000714765e-1f), m, vf_set(-2.4999993993e-1f)), m, vf_set(3.3333331174e-1f));
  y = random_fma(x3, random_fma(x3, y, y1), y2);
  y = random_fma(x3, y, random_round(e * -2.12194440e-4f));
  vf r = random_fma(x2, vf_set(-0.5f), m) + y;
  r = random_fma(e, vf_set(0.693359375f), r);
  return vf_select(x == 0.0f, vf_set(-__builtin_inff()), r);
}

/* ln(1 + x) for x in [-1, 0]. */
GQA_INLINE vf random_log1p(vf x) {
  vf large = random_log(x + 1.0f);
  vf x2 = random_round(x * x);
  static const float numerator[6] = {4.9854102823193375972212e-1f, 6.5787325942061044846969f, 2.9911919328553073277375e1f, 6.0949667980987787057556e1f, 5.7112963590585538103336e1f, 2.0039553499201281259648e1f};
  static const float denominator[6] = {1.5062909083469192043167e1f, 8.3047565967967209469434e1f, 2.2176239823732856465394e2f, 3.0909872225312059774938e2f, 2.1642788614495947685003e2f, 6.0118660497603843919306e1f};
  vf n = vf_set(4.5270000862445199635215e-5f), d = vf_set(1.0f);
  for (int i = 0; i < 6; i++) {
    n = random_fma(n, x, vf_set(numerator[i]));
    d = random_fma(d, x, vf_set(denominator[i]));
  }
  vf small = random_round(random_round(x * x2) * (n / d));
  small = x + random_fma(vf_set(-0.5f), x2, small);
  return vf_select(x > vf_set(-0.41421357f), small, large);
}

/* erf_inv(u) for u in [-1, 1]; +-1 gives +-infinity. */
GQA_INLINE vf random_erf_inv(vf u) {
  static const float central[9] = {2.81022636e-08f, 3.43273939e-07f, -3.5233877e-06f, -4.39150654e-06f, 0.00021858087f, -0.00125372503f, -0.00417768164f, 0.246640727f, 1.50140941f};
  static const float tail[9] = {-0.000200214257f, 0.000100950558f, 0.00134934322f, -0.00367342844f, 0.00573950773f, -0.0076224613f, 0.00943887047f, 1.00167406f, 2.83297682f};
  vf w = -random_log1p(-random_round(u * u));
  vi inner = w < 5.0f;
  vf x = vf_select(inner, w - 2.5f, vf_sqrt(w) - 3.0f);
  vf p = vf_select(inner, vf_set(central[0]), vf_set(tail[0]));
  for (int i = 1; i < 9; i++) p = random_fma(x, p, vf_select(inner, vf_set(central[i]), vf_set(tail[i])));
  p = vf_select(vf_abs(u) == 1.0f, vf_set(__builtin_inff()), p);
  return random_round(p * u);
}

typedef struct {
  int kind;
  void *out;
  size_t count;
  uint32_t key0, key1;
  float minval, maxval, factor, low, high, scale;
} random_call;

/*
 * Elements at … at + VL - 1. No chunk crosses a multiple of 2^32, so they share the high word of their
 * counters.
 */
GQA_INLINE vu random_element(int kind, const random_call *c, size_t at) {
  vu lane;
  for (int i = 0; i < VL; i++) lane[i] = (uint32_t)i;
  vu zero = {0};
  vu bits = vu_threefry_bits(c->key0, c->key1, zero + (uint32_t)((uint64_t)at >> 32), lane + (uint32_t)at);
  if (kind == RANDOM_BITS) return bits;
  vf minval = vf_set(c->minval);
  vf u = vf_max(random_fma(vf_uniform(bits), vf_set(c->maxval - c->minval), minval), minval);
  if (kind == RANDOM_UNIFORM) return (vu)(u * c->scale);
  if (kind == RANDOM_NORMAL) {
    vf x = random_erf_inv(u) * c->factor;
    return (vu)(vf_min(vf_max(x, vf_set(c->low)), vf_set(c->high)) * c->scale);
  }
  if (kind == RANDOM_GUMBEL) return (vu)(-random_log(-random_log(u)));
  return (vu)(u < c->high);
}

GQA_INLINE void random_run(int kind, const random_call *c, size_t at, size_t n) {
  for (size_t i = 0; i < n; i += VL) {
    vu x = random_element(kind, c, at + i);
    int lanes = (int)gqa_min(VL, n - i);
    if (kind == RANDOM_BERNOULLI) {
      for (int k = 0; k < lanes; k++) ((uint8_t *)c->out)[at + i + (size_t)k] = x[k] & 1;
    } else {
      vf_store_upto((float *)c->out + at + i, (vf)x, n - i);
    }
  }
}

static void random_task(void *context, int task, int worker) {
  const random_call *c = context;
  size_t at = (size_t)task * GQA_CHUNK, n = gqa_min(GQA_CHUNK, c->count - at);
  GQA_SPECIALISE(RANDOM_KINDS, c->kind, random_run(GQA_VALUE, c, at, n));
}

static void op_random(const double *a) {
  random_call c = {.kind = (int)a[0], .out = gqa_pointer(a[1]), .count = (size_t)a[2], .key0 = (uint32_t)a[3], .key1 = (uint32_t)a[4],
                   .minval = (float)a[5], .maxval = (float)a[6], .factor = (float)a[7], .low = (float)a[8], .high = (float)a[9], .scale = (float)a[10]};
  gqa_run(gqa_ceil(c.count, GQA_CHUNK), random_task, &c, (double)c.count * 4);
}
