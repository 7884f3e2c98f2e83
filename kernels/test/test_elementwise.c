/*
 * test_elementwise.c: fill, convert, copy_strided, unary, binary, gated, reduce, softmax, norms and rope
 * against loops in double.
 */
#include "check.h"
#include "copy.c"
#include "elementwise.c"
#include "norm.c"
#include "reduce.c"
#include "rope.c"

static const size_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 31, 32, 33, 67, 1009, 40009};
#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static double want_activation(int op, double x) {
  switch (op) {
    case UNARY_NEG: return -x;
    case UNARY_EXP: return exp(x);
    case UNARY_LOG: return log(x);
    case UNARY_SQRT: return sqrt(x);
    case UNARY_TANH: return tanh(x);
    case UNARY_SIGMOID: return 1 / (1 + exp(-x));
    case UNARY_SILU: return x / (1 + exp(-x));
    case UNARY_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case UNARY_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UNARY_RELU: return x < 0 ? 0 : x;
    case UNARY_SIN: return sin(x);
    case UNARY_COS: return cos(x);
    default: return fabs(x);
  }
}

static void test_unary(void) {
  for (int op = 0; op <= UNARY_COS; op++) {
    for (size_t s = 0; s < COUNT(sizes); s++) {
      size_t n = sizes[s];
      float *x = random_floats(n), *out = new_floats(n);
      double *want = new_doubles(n);
      for (size_t i = 0; i < n; i++) {
        x[i] *= i % 3 ? 4.0f : 40.0f;
        if (op == UNARY_LOG || op == UNARY_SQRT) x[i] = fabsf(x[i]) * (i % 5 ? 1.0f : 1e-30f);
        if (op == UNARY_EXP) x[i] *= 0.1f;
        want[i] = want_activation(op, x[i]);
      }
      op_unary((double[]){op, address(out), address(x), (double)n});
      check_floats(out, want, n, op == UNARY_GELU ? 1e-6 : 4e-7, "unary %d n=%zu", op, n);
      op_unary((double[]){op, address(x), address(x), (double)n});
      check_bytes(x, out, n * sizeof(float), "unary %d in place n=%zu", op, n);
      free(x), free(out), free(want);
    }
  }
  const float inf = INFINITY, special[] = {0, -0.0f, inf, -inf, NAN, 1e-40f, 100, -100, 1, -1, 1e6f, -2e9f, 3e38f};
  const int finite_ops[] = {UNARY_NEG, UNARY_EXP, UNARY_LOG, UNARY_SQRT, UNARY_TANH, UNARY_SIGMOID, UNARY_RELU, UNARY_ABS, UNARY_SIN, UNARY_COS};
  for (size_t o = 0; o < COUNT(finite_ops); o++) {
    float out[COUNT(special)];
    double want[COUNT(special)];
    for (size_t i = 0; i < COUNT(special); i++) want[i] = want_activation(finite_ops[o], special[i]);
    for (size_t i = 0; i < COUNT(special); i++)
      if (want[i] > 3.5e38) want[i] = inf;
    op_unary((double[]){finite_ops[o], address(out), address(special), COUNT(special)});
    check_floats(out, want, COUNT(special), 1e-6, "unary %d of special values", finite_ops[o]);
  }
}

static void test_accuracy(void) {
  double worst_erf = 0, worst_log = 0, worst_exp = 0;
  for (int i = 0; i < 400000; i += VL) {
    float x[VL], e[VL], l[VL], p[VL];
    for (int j = 0; j < VL; j++) x[j] = (float)(i + j) * 2.5e-5f - 5.0f;
    vf_store(e, vf_erf(vf_load(x)));
    vf_store(l, vf_log(vf_load(x) + 6.0f));
    vf_store(p, vf_exp(vf_load(x) * 17.0f));
    for (int j = 0; j < VL; j++) {
      worst_erf = fmax(worst_erf, fabs(e[j] - erf(x[j])));
      worst_log = fmax(worst_log, fabs(l[j] - log(x[j] + 6.0f)));
      worst_exp = fmax(worst_exp, fabs(p[j] / exp(x[j] * 17.0f) - 1));
    }
  }
  checks++;
  if (worst_erf > 4.5e-7 || worst_log > 2.5e-7 || worst_exp > 2.4e-7) {
    printf("accuracy: erf %.2e log %.2e exp %.2e\n", worst_erf, worst_log, worst_exp);
    failures++;
  }
}

static double want_binary(int op, double a, double b) {
  switch (op) {
    case BINARY_ADD: return a + b;
    case BINARY_SUB: return a - b;
    case BINARY_MUL: return a * b;
    case BINARY_DIV: return a / b;
    case BINARY_MIN: return isnan(a) || isnan(b) ? NAN : fmin(a, b);
    case BINARY_MAX: return isnan(a) || isnan(b) ? NAN : fmax(a, b);
    default: return pow(a, b);
  }
}

static void test_binary(void) {
  static const double layouts[][10] = {
      /* rank, dims, aStrides, bStrides */
      {1, 40009, 1, 1}, {1, 17, 1, 0}, {1, 33, 0, 1}, {1, 5, 0, 0}, {2, 7, 13, 13, 1, 0, 1}, {2, 7, 13, 13, 1, 1, 0}, {2, 13, 301, 1, 13, 301, 1},
      {3, 2, 3, 5, 15, 5, 1, 1, 0, 2}, {3, 3, 1, 67, 67, 67, 1, 0, 0, 1}, {2, 211, 113, 113, 1, 1, 211}, {2, 3, 0, 1, 1, 1, 1}};
  for (int op = 0; op <= BINARY_POW; op++) {
    for (size_t l = 0; l < COUNT(layouts); l++) {
      const int rank = (int)layouts[l][0];
      const double *dims = layouts[l] + 1, *sa = dims + rank, *sb = sa + rank;
      size_t n = 1, na = 1, nb = 1;
      for (int d = 0; d < rank; d++) {
        n *= (size_t)dims[d];
        na += (size_t)(sa[d] * fmax(dims[d] - 1, 0));
        nb += (size_t)(sb[d] * fmax(dims[d] - 1, 0));
      }
      float *a = random_floats(na), *b = random_floats(nb), *out = new_floats(n);
      for (size_t i = 0; i < na && op == BINARY_POW; i++) a[i] = fabsf(a[i]) * 3;
      double *want = new_doubles(n), arguments[32] = {op, address(out), address(a), address(b), rank};
      for (size_t i = 0; i < n; i++) {
        size_t rest = i, ia = 0, ib = 0;
        for (int d = rank - 1; d >= 0; d--) {
          size_t index = rest % (size_t)dims[d];
          rest /= (size_t)dims[d];
          ia += index * (size_t)sa[d];
          ib += index * (size_t)sb[d];
        }
        want[i] = want_binary(op, a[ia], b[ib]);
      }
      memcpy(arguments + 5, dims, 3 * (size_t)rank * sizeof(double));
      op_binary(arguments);
      /* relative: b near 0 makes large quotients */
      for (size_t i = 0; i < n; i++) check_floats(out + i, want + i, 1, 3e-7, "binary %d layout %zu at %zu", op, l, i);
      free(a), free(b), free(out), free(want);
    }
  }
  const float v[] = {0, -0.0f, 1, -1, 2, -2, 3, 0.5f, -0.5f, INFINITY, -INFINITY, NAN, 1e-40f, 3e38f, 127, -149, 16777217.0f};
  for (int op = 0; op <= BINARY_POW; op++)
    for (size_t i = 0; i < COUNT(v); i++)
      for (size_t j = 0; j < COUNT(v); j++) {
        float got;
        double want = op == BINARY_POW ? powf(v[i], v[j]) : (double)(float)want_binary(op, v[i], v[j]);
        op_binary((double[]){op, address(&got), address(v + i), address(v + j), 1, 1, 1, 1});
        check_floats(&got, &want, 1, 1e-6, "binary %d of %g and %g", op, v[i], v[j]);
      }
}

static void test_gated(void) {
  const int as_unary[] = {UNARY_SILU, UNARY_GELU, UNARY_GELU_TANH};
  for (int op = 0; op < 3; op++)
    for (size_t s = 0; s < COUNT(sizes); s++) {
      size_t n = sizes[s];
      float *gate = random_floats(n), *up = random_floats(n), *out = new_floats(n);
      double *want = new_doubles(n);
      for (size_t i = 0; i < n; i++) {
        gate[i] *= 8;
        want[i] = want_activation(as_unary[op], gate[i]) * up[i];
      }
      op_gated((double[]){op, address(out), address(gate), address(up), (double)n});
      check_floats(out, want, n, 1e-6, "gated %d n=%zu", op, n);
      free(gate), free(up), free(out), free(want);
    }
}

static void test_reduce(void) {
  static const size_t shapes[][3] = {{1, 1, 1}, {3, 0, 5}, {3, 0, 1}, {5, 17, 1}, {2, 300007, 1}, {7, 13, 11}, {3, 1009, 17}, {2, 131, 1031}, {1, 5003, 3}, {301, 67, 1}};
  for (int op = 0; op < 3; op++)
    for (size_t s = 0; s < COUNT(shapes); s++) {
      const size_t outer = shapes[s][0], n = shapes[s][1], inner = shapes[s][2];
      float *x = random_floats(outer * n * inner), *out = new_floats(outer * inner);
      double *want = new_doubles(outer * inner);
      for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < inner; i++) {
          double r = op == 0 ? 0 : op == 1 ? -INFINITY : INFINITY;
          for (size_t j = 0; j < n; j++) {
            double v = x[(o * n + j) * inner + i] += op == 0 ? 1 : 0;
            r = op == 0 ? r + v : op == 1 ? fmax(r, v) : fmin(r, v);
          }
          want[o * inner + i] = r;
        }
      op_reduce((double[]){op, address(out), address(x), (double)outer, (double)n, (double)inner});
      check_floats(out, want, outer * inner, 1e-6, "reduce %d [%zu, %zu, %zu]", op, outer, n, inner);
      if (op && n > 1) {
        x[(n / 2) * inner] = NAN;
        want[0] = NAN;
        op_reduce((double[]){op, address(out), address(x), (double)outer, (double)n, (double)inner});
        check_floats(out, want, outer * inner, 2e-7, "reduce %d with NaN [%zu, %zu, %zu]", op, outer, n, inner);
      }
      free(x), free(out), free(want);
    }
}

static void test_rows(void) {
  for (size_t s = 1; s < COUNT(sizes); s++) {
    const size_t n = sizes[s], rows = n > 1000 ? 3 : 13, total = rows * n;
    float *x = random_floats(total), *w = random_floats(n), *b = random_floats(n), *out = new_floats(total);
    double *want = new_doubles(total);
    for (size_t i = 0; i < total; i++) x[i] = x[i] * 20 + 3;
    for (size_t i = 0; i < n; i++) x[n + i] = -INFINITY;
    x[2 * n] = -INFINITY;
    for (size_t r = 0; r < rows; r++) {
      double top = -INFINITY, sum = 0;
      for (size_t i = 0; i < n; i++) top = fmax(top, x[r * n + i]);
      for (size_t i = 0; i < n; i++) sum += top == -INFINITY ? 0 : exp(x[r * n + i] - top);
      for (size_t i = 0; i < n; i++) want[r * n + i] = sum == 0 ? 0 : exp(x[r * n + i] - top) / sum;
    }
    op_softmax((double[]){address(out), address(x), (double)rows, (double)n});
    check_floats(out, want, total, 1e-6, "softmax n=%zu", n);

    for (size_t i = 0; i < total; i++)
      if (isinf(x[i])) x[i] = 1 + 0.01f * (float)(i % 7);
    for (int variant = 0; variant < 8; variant++) {
      const int rms = variant & 1;
      const float *weight = variant & 2 ? w : 0, *bias = variant & 4 && !rms ? b : 0;
      for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * n;
        double mean = 0, var = 0;
        for (size_t i = 0; i < n && !rms; i++) mean += row[i] / (double)n;
        for (size_t i = 0; i < n; i++) var += (row[i] - mean) * (row[i] - mean) / (double)n;
        for (size_t i = 0; i < n; i++) want[r * n + i] = (row[i] - mean) / sqrt(var + 1e-5) * (weight ? weight[i] + (rms ? 0.5 : 0) : 1) + (bias ? bias[i] : 0);
      }
      if (rms) op_rms_norm((double[]){address(out), address(x), (double)rows, (double)n, address(weight), 1e-5, 0.5});
      else op_layer_norm((double[]){address(out), address(x), (double)rows, (double)n, address(weight), address(bias), 1e-5});
      check_floats(out, want, total, n == 1 ? 1e-4 : 3e-6, "norm variant %d n=%zu", variant, n);
    }
    free(x), free(w), free(b), free(out), free(want);
  }
}

static void test_rope(void) {
  static const size_t shapes[][4] = {/* tokens, heads, headDim, half */ {1, 1, 2, 1}, {5, 3, 64, 32}, {7, 2, 13, 5}, {3, 5, 34, 17}, {2, 3, 128, 24}, {131, 9, 64, 32}};
  for (size_t s = 0; s < COUNT(shapes); s++)
    for (int way = 0; way < 4; way++) {
      const int interleaved = way % 2, direction = way < 2 ? 1 : -1;
      const size_t T = shapes[s][0], N = shapes[s][1], H = shapes[s][2], half = shapes[s][3], n = T * N * H;
      float *x = random_floats(n), *cosines = random_floats(T * half), *sines = random_floats(T * half), *out = new_floats(n);
      double *want = new_doubles(n);
      for (size_t i = 0; i < n; i++) want[i] = x[i];
      for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < N; h++)
          for (size_t i = 0; i < half; i++) {
            const size_t at = (t * N + h) * H, p = at + (interleaved ? 2 * i : i), q = interleaved ? p + 1 : p + half;
            const double c = cosines[t * half + i], d = direction * sines[t * half + i];
            want[p] = x[p] * c - x[q] * d;
            want[q] = x[q] * c + x[p] * d;
          }
      double arguments[] = {address(out), address(x), (double)T, (double)N, (double)H, address(cosines), address(sines), (double)half, interleaved, direction};
      op_rope(arguments);
      check_floats(out, want, n, 3e-7, "rope case %zu interleaved %d direction %d", s, interleaved, direction);
      arguments[0] = arguments[1];
      op_rope(arguments);
      check_bytes(x, out, n * sizeof(float), "rope in place case %zu interleaved %d direction %d", s, interleaved, direction);
      free(x), free(cosines), free(sines), free(out), free(want);
    }
}

int main(void) {
  test_unary();
  test_accuracy();
  test_binary();
  test_gated();
  test_reduce();
  test_rows();
  test_rope();
  return report("test_elementwise");
}
