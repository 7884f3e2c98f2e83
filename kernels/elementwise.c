/*
 * elementwise.c: f32 unary and binary operations and the gate of a gated MLP.
 *
 * unary:  [op, out, x, count]
 *   op in UnaryOp order (src/backend/calls/elementwise.ts); may be in place
 * binary: [op, out, a, b, rank, dims[rank], aStrides[rank], bStrides[rank]]
 *   out is contiguous; stride 0 broadcasts
 * gated:  [activation, out, gate, up, count]
 *   activation 0 silu, 1 gelu, 2 geluTanh; may be in place
 * unary_backward: [op, dX, x, dOut, count]
 *   dOut * f'(x); may be in place (dX = dOut)
 * gated_backward: [activation, dGate, dUp, gate, up, dOut, count]
 *
 * Numerics: f32 throughout; exp, log, tanh, erf as simd.h states; sin, cos and pow go through f64 (1 ulp). NaN passes
 * through, also min and max.
 */
#include "simd.h"
#include "strides.h"
#include "tasks.h"
#include "trigonometry.h"

/* In the order of their numbers. */
#define UNARY_OPS(X, ...) \
  X(UNARY_NEG, __VA_ARGS__) X(UNARY_EXP, __VA_ARGS__) X(UNARY_LOG, __VA_ARGS__) X(UNARY_SQRT, __VA_ARGS__) \
  X(UNARY_TANH, __VA_ARGS__) X(UNARY_SIGMOID, __VA_ARGS__) X(UNARY_SILU, __VA_ARGS__) X(UNARY_GELU, __VA_ARGS__) \
  X(UNARY_GELU_TANH, __VA_ARGS__) X(UNARY_RELU, __VA_ARGS__) X(UNARY_ABS, __VA_ARGS__) X(UNARY_SIN, __VA_ARGS__) X(UNARY_COS, __VA_ARGS__)
#define BINARY_OPS(X, ...) \
  X(BINARY_ADD, __VA_ARGS__) X(BINARY_SUB, __VA_ARGS__) X(BINARY_MUL, __VA_ARGS__) X(BINARY_DIV, __VA_ARGS__) X(BINARY_MIN, __VA_ARGS__) \
  X(BINARY_MAX, __VA_ARGS__) X(BINARY_POW, __VA_ARGS__) X(BINARY_LESS, __VA_ARGS__) X(BINARY_EQUAL, __VA_ARGS__)
#define GATED_ACTIVATIONS(X, ...) \
  X(GATED_SILU, __VA_ARGS__) X(GATED_GELU, __VA_ARGS__) X(GATED_GELU_TANH, __VA_ARGS__)
enum { UNARY_OPS(GQA_NAME) };
enum { BINARY_OPS(GQA_NAME) };
enum { GATED_ACTIVATIONS(GQA_NAME) };

/* From e^-|x|, which cannot overflow: small results keep their digits. */
GQA_INLINE vf vf_sigmoid(vf x) {
  vf e = vf_exp(-vf_abs(x));
  return vf_select(x < 0.0f, e, vf_set(1.0f)) / (e + 1.0f);
}
GQA_INLINE vf vf_silu(vf x) { return x * vf_sigmoid(x); }
GQA_INLINE vf vf_gelu(vf x) { return x * 0.5f * (vf_erf(x * 0.70710678118654752f) + 1.0f); }
GQA_INLINE vf vf_gelu_tanh(vf x) { return x * 0.5f * (vf_tanh(x * 0.79788456080286536f * vf_fma(x * x, vf_set(0.044715f), vf_set(1.0f))) + 1.0f); }

GQA_INLINE vf unary_vector(int op, vf x) {
  switch (op) {
    case UNARY_NEG: return -x;
    case UNARY_EXP: return vf_exp(x);
    case UNARY_LOG: return vf_log(x);
    case UNARY_SQRT: return vf_sqrt(x);
    case UNARY_TANH: return vf_tanh(x);
    case UNARY_SIGMOID: return vf_sigmoid(x);
    case UNARY_SILU: return vf_silu(x);
    case UNARY_GELU: return vf_gelu(x);
    case UNARY_GELU_TANH: return vf_gelu_tanh(x);
    case UNARY_RELU: return vf_select(x <= 0.0f, vf_set(0.0f), x);
    case UNARY_SIN: return vf_sine(x, 0);
    case UNARY_COS: return vf_sine(x, 1);
    default: return vf_abs(x);
  }
}

GQA_INLINE void unary_run(int op, float *out, const float *x, size_t n) {
  size_t i = 0;
  for (; i + VL <= n; i += VL) vf_store(out + i, unary_vector(op, vf_load(x + i)));
  if (i < n) vf_store_n(out + i, unary_vector(op, vf_load_n(x + i, (int)(n - i))), (int)(n - i));
}

typedef struct {
  int op;
  float *out;
  const float *a, *b;
  size_t count;
} elementwise_call;

static void unary_task(void *context, int task, int worker) {
  const elementwise_call *c = context;
  size_t at = (size_t)task * GQA_CHUNK, n = gqa_min(GQA_CHUNK, c->count - at);
  GQA_SPECIALISE(UNARY_OPS, c->op, unary_run(GQA_VALUE, c->out + at, c->a + at, n));
}

static void op_unary(const double *a) {
  elementwise_call c = {.op = (int)a[0], .out = gqa_pointer(a[1]), .a = gqa_pointer(a[2]), .count = (size_t)a[3]};
  gqa_run(gqa_ceil(c.count, GQA_CHUNK), unary_task, &c, (double)c.count);
}

GQA_INLINE vf gate_vector(int activation, vf x) {
  return activation == GATED_SILU ? vf_silu(x) : activation == GATED_GELU ? vf_gelu(x) : vf_gelu_tanh(x);
}

GQA_INLINE void gated_run(int activation, float *out, const float *gate, const float *up, size_t n) {
  for (size_t i = 0; i < n; i += VL) vf_store_upto(out + i, gate_vector(activation, vf_load_upto(gate + i, n - i)) * vf_load_upto(up + i, n - i), n - i);
}

static void gated_task(void *context, int task, int worker) {
  const elementwise_call *c = context;
  size_t at = (size_t)task * (GQA_CHUNK / 4), n = gqa_min(GQA_CHUNK / 4, c->count - at);
  GQA_SPECIALISE(GATED_ACTIVATIONS, c->op, gated_run(GQA_VALUE, c->out + at, c->a + at, c->b + at, n));
}

static void op_gated(const double *a) {
  elementwise_call c = {.op = (int)a[0], .out = gqa_pointer(a[1]), .a = gqa_pointer(a[2]), .b = gqa_pointer(a[3]), .count = (size_t)a[4]};
  gqa_run(gqa_ceil(c.count, GQA_CHUNK / 4), gated_task, &c, (double)c.count * 2);
}

/* --- backward --- */

/* f'(x); 0 at the kink of relu and abs. */
GQA_INLINE vf slope_silu(vf x) {
  vf s = vf_sigmoid(x);
  return s * vf_fma(x, 1.0f - s, vf_set(1.0f));
}
GQA_INLINE vf slope_gelu(vf x) {
  vf density = vf_exp(x * x * -0.5f) * 0.39894228040143268f;
  return vf_fma(x, density, vf_fma(vf_erf(x * 0.70710678118654752f), vf_set(0.5f), vf_set(0.5f)));
}
GQA_INLINE vf slope_gelu_tanh(vf x) {
  vf square = x * x, t = vf_tanh(x * 0.79788456080286536f * vf_fma(square, vf_set(0.044715f), vf_set(1.0f)));
  vf inner = 0.79788456080286536f * vf_fma(square, vf_set(3 * 0.044715f), vf_set(1.0f));
  vf bend = 1.0f - t * t; /* 0 where `inner` may be infinite */
  return 0.5f * ((t + 1.0f) + vf_select(bend == 0.0f, bend, x * bend * inner));
}
GQA_INLINE vf unary_slope(int op, vf x) {
  switch (op) {
    case UNARY_NEG: return vf_set(-1.0f);
    case UNARY_EXP: return vf_exp(x);
    case UNARY_LOG: return 1.0f / x;
    case UNARY_SQRT: return 0.5f / vf_sqrt(x);
    case UNARY_TANH: {
      vf t = vf_tanh(x);
      return 1.0f - t * t;
    }
    case UNARY_SIGMOID: {
      vf e = vf_exp(-vf_abs(x));
      return e / ((e + 1.0f) * (e + 1.0f));
    }
    case UNARY_SILU: return slope_silu(x);
    case UNARY_GELU: return slope_gelu(x);
    case UNARY_GELU_TANH: return slope_gelu_tanh(x);
    case UNARY_RELU: return vf_select(x > 0.0f, vf_set(1.0f), vf_set(0.0f));
    case UNARY_SIN: return vf_sine(x, 1);
    case UNARY_COS: return -vf_sine(x, 0);
    default: return vf_select(x > 0.0f, vf_set(1.0f), vf_select(x < 0.0f, vf_set(-1.0f), vf_set(0.0f)));
  }
}

GQA_INLINE void unary_backward_run(int op, float *d_x, const float *x, const float *d_out, size_t n) {
  for (size_t i = 0; i < n; i += VL) vf_store_upto(d_x + i, vf_load_upto(d_out + i, n - i) * unary_slope(op, vf_load_upto(x + i, n - i)), n - i);
}

static void unary_backward_task(void *context, int task, int worker) {
  const elementwise_call *c = context;
  size_t at = (size_t)task * (GQA_CHUNK / 4), n = gqa_min(GQA_CHUNK / 4, c->count - at);
  GQA_SPECIALISE(UNARY_OPS, c->op, unary_backward_run(GQA_VALUE, c->out + at, c->a + at, c->b + at, n));
}

static void op_unary_backward(const double *a) {
  elementwise_call c = {.op = (int)a[0], .out = gqa_pointer(a[1]), .a = gqa_pointer(a[2]), .b = gqa_pointer(a[3]), .count = (size_t)a[4]};
  gqa_run(gqa_ceil(c.count, GQA_CHUNK / 4), unary_backward_task, &c, (double)c.count * 2);
}

typedef struct {
  int activation;
  float *d_gate, *d_up;
  const float *gate, *up, *d_out;
  size_t count;
} gated_backward_call;

/* n <= VL values; both results at once, the activation's exponential shared where it has one. */
GQA_INLINE void gated_backward_vector(int activation, vf x, vf u, vf g, vf *d_gate, vf *d_up) {
  if (activation == GATED_SILU) {
    vf s = vf_sigmoid(x);
    *d_up = g * x * s;
    *d_gate = g * u * s * vf_fma(x, 1.0f - s, vf_set(1.0f));
    return;
  }
  *d_up = g * gate_vector(activation, x);
  *d_gate = g * u * (activation == GATED_GELU ? slope_gelu(x) : slope_gelu_tanh(x));
}

GQA_INLINE void gated_backward_run(int activation, const gated_backward_call *c, size_t at, size_t n) {
  size_t i = at, end = at + n;
  vf d_gate, d_up;
  for (; i + VL <= end; i += VL) {
    gated_backward_vector(activation, vf_load(c->gate + i), vf_load(c->up + i), vf_load(c->d_out + i), &d_gate, &d_up);
    vf_store(c->d_gate + i, d_gate);
    vf_store(c->d_up + i, d_up);
  }
  const int rest = (int)(end - i);
  if (rest) {
    gated_backward_vector(activation, vf_load_n(c->gate + i, rest), vf_load_n(c->up + i, rest), vf_load_n(c->d_out + i, rest), &d_gate, &d_up);
    vf_store_n(c->d_gate + i, d_gate, rest);
    vf_store_n(c->d_up + i, d_up, rest);
  }
}

static void gated_backward_task(void *context, int task, int worker) {
  const gated_backward_call *c = context;
  size_t at = (size_t)task * (GQA_CHUNK / 4), n = gqa_min(GQA_CHUNK / 4, c->count - at);
  GQA_SPECIALISE(GATED_ACTIVATIONS, c->activation, gated_backward_run(GQA_VALUE, c, at, n));
}

static void op_gated_backward(const double *a) {
  gated_backward_call c = {.activation = (int)a[0], .d_gate = gqa_pointer(a[1]), .d_up = gqa_pointer(a[2]), .gate = gqa_pointer(a[3]),
                           .up = gqa_pointer(a[4]), .d_out = gqa_pointer(a[5]), .count = (size_t)a[6]};
  gqa_run(gqa_ceil(c.count, GQA_CHUNK / 4), gated_backward_task, &c, (double)c.count * 4);
}

/* --- pow --- */

GQA_INLINE double double_from_bits(uint64_t bits) {
  double d;
  memcpy(&d, &bits, 8);
  return d;
}

/* x^y as C's powf has it, within an ulp: exp2(y log2 |x|) in f64. */
static float scalar_pow(float x, float y) {
  float magnitude = __builtin_fabsf(x), infinity = __builtin_inff();
  if (y == 0.0f || x == 1.0f) return 1.0f;
  if (x != x || y != y) return x + y;
  if (__builtin_fabsf(y) == infinity) return magnitude == 1.0f ? 1.0f : (magnitude > 1.0f) == (y > 0.0f) ? infinity : 0.0f;
  int large = __builtin_fabsf(y) >= 0x1p24f; /* every f32 this large is an even integer */
  int integer = large || (float)(int32_t)y == y;
  float sign = !large && integer && ((int32_t)y & 1) && __builtin_signbit(x) ? -1.0f : 1.0f;
  if (magnitude == 0.0f || magnitude == infinity) return sign * ((magnitude == 0.0f) == (y > 0.0f) ? 0.0f : infinity);
  if (x < 0.0f && !integer) return __builtin_nanf("");

  double m = magnitude;
  uint64_t bits;
  memcpy(&bits, &m, 8);
  bits -= 0x3fe6a09e667f3bcdull; /* sqrt(1/2) */
  int exponent = (int)((int64_t)bits >> 52);
  m = double_from_bits((bits & 0xfffffffffffffull) + 0x3fe6a09e667f3bcdull);
  double s = (m - 1) / (m + 1), z = s * s; /* ln m = 2 atanh s, |s| < 0.172 */
  double series = 1.0 / 13;
  for (int k = 11; k > 0; k -= 2) series = series * z + 1.0 / k;
  double t = y * (exponent + s * series * (2 * 1.4426950408889634));
  if (t > 129) return sign * infinity;
  if (t < -151) return sign * 0.0f;
  double whole = (t + 0x1.8p52) - 0x1.8p52, f = (t - whole) * 0.69314718055994531, e = 1;
  for (int k = 9; k > 0; k--) e = 1 + e * f / k; /* |f| < 0.347 */
  return (float)(sign * e * double_from_bits((uint64_t)(1023 + (int)whole) << 52));
}

/* --- binary --- */

GQA_INLINE vf binary_vector(int op, vf a, vf b) {
  switch (op) {
    case BINARY_ADD: return a + b;
    case BINARY_SUB: return a - b;
    case BINARY_MUL: return a * b;
    case BINARY_DIV: return a / b;
    case BINARY_MIN: return vf_select(a == a, vf_min(a, b), a);
    case BINARY_MAX: return vf_select(a == a, vf_max(a, b), a);
    case BINARY_LESS: return vf_select(a < b, vf_set(1.0f), vf_set(0.0f));
    case BINARY_EQUAL: return vf_select(a == b, vf_set(1.0f), vf_set(0.0f));
    default: {
      vf r;
      for (int i = 0; i < VL; i++) r[i] = scalar_pow(a[i], b[i]);
      return r;
    }
  }
}

/* n elements of one row; each operand is contiguous or one repeated value. */
GQA_INLINE void binary_run(int op, float *out, const float *a, int a_repeats, const float *b, int b_repeats, size_t n) {
  vf a0 = vf_set(*a), b0 = vf_set(*b);
  size_t i = 0;
  for (; i + VL <= n; i += VL) vf_store(out + i, binary_vector(op, a_repeats ? a0 : vf_load(a + i), b_repeats ? b0 : vf_load(b + i)));
  int rest = (int)(n - i);
  if (rest) vf_store_n(out + i, binary_vector(op, a_repeats ? a0 : vf_load_n(a + i, rest), b_repeats ? b0 : vf_load_n(b + i, rest)), rest);
}

GQA_INLINE void binary_row_of(int op, float *out, const float *a, int a_repeats, const float *b, int b_repeats, size_t n) {
  if (a_repeats) binary_run(op, out, a, 1, b, b_repeats, n);
  else if (b_repeats) binary_run(op, out, a, 0, b, 1, n);
  else binary_run(op, out, a, 0, b, 0, n);
}
static void binary_row(int op, float *out, const float *a, int a_repeats, const float *b, int b_repeats, size_t n) {
  GQA_SPECIALISE(BINARY_OPS, op, binary_row_of(GQA_VALUE, out, a, a_repeats, b, b_repeats, n));
}

typedef struct {
  int op;
  float *out;
  const float *a, *b;
  gqa_strides strides; /* of a and b */
} binary_call;

/* A run of at most 256 strided elements, gathered into `buffer` unless it is contiguous or repeats. */
static const float *binary_operand(const float *x, ptrdiff_t stride, size_t n, float *buffer) {
  if (stride == 0 || stride == 1) return x;
  for (size_t i = 0; i < n; i++) buffer[i] = x[(ptrdiff_t)i * stride];
  return buffer;
}

static void binary_task(void *context, int task, int worker) {
  const binary_call *c = context;
  const gqa_strides *s = &c->strides;
  float a_buffer[256], b_buffer[256];
  size_t at = (size_t)task * GQA_CHUNK, end = gqa_min(at + GQA_CHUNK, s->count);
  const int last = s->rank - 1;
  const ptrdiff_t a_step = s->first[last], b_step = s->second[last];
  const int gathers = (a_step != 0 && a_step != 1) || (b_step != 0 && b_step != 1);
  while (at < end) {
    ptrdiff_t a = 0, b = 0, rest = (ptrdiff_t)at, column = rest % s->dims[last];
    for (int d = last; d >= 0; d--) {
      ptrdiff_t index = rest % s->dims[d];
      rest /= s->dims[d];
      a += index * s->first[d];
      b += index * s->second[d];
    }
    size_t n = gqa_min((size_t)(s->dims[last] - column), end - at);
    if (gathers) n = gqa_min(n, 256);
    binary_row(c->op, c->out + at, binary_operand(c->a + a, a_step, n, a_buffer), a_step == 0, binary_operand(c->b + b, b_step, n, b_buffer), b_step == 0, n);
    at += n;
  }
}

static void op_binary(const double *a) {
  binary_call c = {.op = (int)a[0], .out = gqa_pointer(a[1]), .a = gqa_pointer(a[2]), .b = gqa_pointer(a[3]), .strides = gqa_merged_strides(a + 4)};
  gqa_run(gqa_ceil(c.strides.count, GQA_CHUNK), binary_task, &c, (double)c.strides.count);
}
