/*
 * test_linear.c: linear and its gradients, embedding and matmul against loops in double, for every storage
 * type, row count, tail and transpose.
 */
#include "check.h"
#include "copy.c"
#include "linear.c"
#include "linear_backward.c"
#include "matmul.c"
#include "units_here.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint16_t random_half(void) { return float_to_half(random_float() * 0.1f); }

/*
 * n random elements of a storage type in a buffer of exactly their size; `values` gets them decoded in
 * double.
 */
static uint8_t *random_stored(int type, size_t n, double *values) {
  const size_t bytes = stored_bytes(type, n);
  uint8_t *p = new_bytes(bytes);
  if (type == GQA_F32 || type == GQA_F16 || type == GQA_BF16) {
    for (size_t i = 0; i < n; i++) {
      write_element(type, p, i, random_float());
      values[i] = read_element(type, p, i);
    }
    return p;
  }
  const size_t block_bytes = group_bytes(type);
  for (size_t b = 0; b < n / 32; b++) {
    uint8_t *block = p + b * block_bytes;
    for (size_t i = 0; i < block_bytes; i++) block[i] = (uint8_t)random_bits();
    const uint16_t d = random_half(), m = random_half();
    memcpy(block, &d, 2);
    if (type == GQA_Q4_1) memcpy(block + 2, &m, 2);
    const double scale = half_to_float(d);
    for (int i = 0; i < 32; i++) {
      const uint8_t *data = block + (type == GQA_Q4_1 ? 4 : 2);
      const int nibble = i < 16 ? data[i % 16] & 15 : data[i % 16] >> 4;
      values[b * 32 + (size_t)i] = type == GQA_Q8_0 ? scale * (int8_t)data[i] : type == GQA_Q4_0 ? scale * (nibble - 8) : scale * nibble + half_to_float(m);
    }
  }
  return p;
}

/* A value as an operand of a product of `rows` rows or terms has it. */
static double operand(double x, int precision, size_t rows) {
  if (precision != GQA_BFLOAT16 || !gqa_units.bf16 || rows <= LINEAR_FEW) return x;
  const uint32_t bits = (uint32_t)float_to_bfloat((float)x) << 16;
  float rounded;
  memcpy(&rounded, &bits, 4);
  return rounded;
}

static const int types[] = {GQA_F32, GQA_F16, GQA_BF16, GQA_Q8_0, GQA_Q4_0, GQA_Q4_1};

static int precision = GQA_HIGHEST; /* of the calls that follow */

static void test_linear_case(size_t rows, size_t K, const int *part_types, const size_t *outs, int parts, int biased) {
  float *x = random_floats(rows * K), *y[4], *bias[4];
  uint8_t *w[4];
  double *values[4], arguments[5 + 5 * 4] = {address(x), (double)rows, (double)K, precision, parts};
  for (int p = 0; p < parts; p++) {
    values[p] = new_doubles(outs[p] * K);
    w[p] = random_stored(part_types[p], outs[p] * K, values[p]);
    bias[p] = biased ? random_floats(outs[p]) : 0;
    y[p] = new_floats(rows * outs[p]);
    memcpy(arguments + 5 + 5 * p, ((double[]){address(w[p]), part_types[p], (double)outs[p], address(bias[p]), address(y[p])}), 5 * sizeof(double));
  }
  op_linear(arguments);
  for (int p = 0; p < parts; p++) {
    double *want = new_doubles(rows * outs[p]);
    for (size_t r = 0; r < rows; r++)
      for (size_t o = 0; o < outs[p]; o++) {
        double sum = biased ? bias[p][o] : 0;
        for (size_t k = 0; k < K; k++) sum += operand(x[r * K + k], precision, rows) * operand(values[p][o * K + k], precision, rows);
        want[r * outs[p] + o] = sum;
      }
    check_floats(y[p], want, rows * outs[p], 4e-6, "linear precision=%d rows=%zu K=%zu part %d of %d: type %d out %zu bias %d", precision, rows, K, p, parts, part_types[p], outs[p], biased);
    free(values[p]), free(w[p]), free(bias[p]), free(y[p]), free(want);
  }
  free(x);
}

static void test_linear(void) {
  for (size_t t = 0; t < COUNT(types); t++) {
    const int type = types[t], three[] = {type, type, type};
    for (size_t rows = 1; rows <= 17; rows++) test_linear_case(rows, 64, &type, (size_t[]){rows % 5 * 7 + 1}, 1, (int)rows & 1);
    for (size_t out = 1; out <= 17; out++) test_linear_case(out % 3 + 1, 96, &type, &out, 1, 0);
    static const size_t rows[] = {1, 2, 5, 11, 12, 33, 53, 64, 263, 511, 600};
    for (size_t r = 0; r < COUNT(rows); r++) test_linear_case(rows[r], 288, three, (size_t[]){101, 29, 53}, 3, (int)r & 1);
    test_linear_case(1, 1312, &type, (size_t[]){211}, 1, 1); /* several chunks of scales */
    test_linear_case(3, 1312, &type, (size_t[]){211}, 1, 1);
    test_linear_case(37, 1312, &type, (size_t[]){211}, 1, 1);
    if (type_is_block(type)) continue;
    for (size_t K = 0; K <= 35; K++)
      for (size_t r = 1; r <= 19; r += 6) test_linear_case(r, K, &type, (size_t[]){13}, 1, 1);
    /* Rows a multiple of 1 KiB apart, which are packed. */
    for (size_t K = 256; K <= 768; K += 256) test_linear_case(600, K, three, (size_t[]){101, 29, 53}, 3, 1);
    static const size_t awkward[] = {67, 257, 1031};
    for (size_t k = 0; k < COUNT(awkward); k++)
      for (size_t r = 0; r < 8; r++) test_linear_case(rows[r], awkward[k], three, (size_t[]){61, 3, 17}, 3, 1);
  }
  test_linear_case(2100, 4096, (int[]){GQA_F32}, (size_t[]){3}, 1, 1); /* more rows than bf16 packs at once */
  test_linear_case(1, 96, (int[]){GQA_Q4_1, GQA_F16, GQA_Q8_0}, (size_t[]){31, 67, 7}, 3, 1);
  test_linear_case(41, 96, (int[]){GQA_Q4_0, GQA_BF16, GQA_Q8_0}, (size_t[]){31, 67, 7}, 3, 1);
}

static void test_linear_backward_case(size_t rows, size_t in_features, const size_t *outs, int parts, int wanted) {
  float *x = random_floats(rows * in_features), *d_x = new_floats(rows * in_features), *w[3], *d_out[3], *d_w[3];
  double *want_x = new_doubles(rows * in_features), arguments[6 + 4 * 3] = {wanted & 1 ? address(d_x) : 0, address(x), (double)rows, (double)in_features, precision, parts};
  for (size_t i = 0; i < rows * in_features; i++) want_x[i] = 0;
  for (int p = 0; p < parts; p++) {
    w[p] = random_floats(outs[p] * in_features), d_out[p] = random_floats(rows * outs[p]), d_w[p] = new_floats(outs[p] * in_features);
    memcpy(arguments + 6 + 4 * p, ((double[]){address(w[p]), (double)outs[p], address(d_out[p]), wanted & 2 << p ? address(d_w[p]) : 0}), 4 * sizeof(double));
    for (size_t r = 0; r < rows; r++)
      for (size_t o = 0; o < outs[p]; o++)
        for (size_t i = 0; i < in_features; i++) want_x[r * in_features + i] += operand(d_out[p][r * outs[p] + o], precision, rows) * operand(w[p][o * in_features + i], precision, rows);
  }
  op_linear_backward(arguments);
  const double tolerance = rows < 4096 ? 2e-6 : 1e-5; /* f32 sums over the rows */
  if (wanted & 1) check_floats(d_x, want_x, rows * in_features, 2e-6, "linear_backward dX rows=%zu In=%zu parts %d", rows, in_features, parts);
  for (int p = 0; p < parts; p++) {
    double *want = new_doubles(outs[p] * in_features);
    for (size_t o = 0; o < outs[p]; o++)
      for (size_t i = 0; i < in_features; i++) {
        want[o * in_features + i] = 0;
        for (size_t r = 0; r < rows; r++) want[o * in_features + i] += operand(d_out[p][r * outs[p] + o], precision, rows) * operand(x[r * in_features + i], precision, rows);
      }
    if (wanted & 2 << p) check_floats(d_w[p], want, outs[p] * in_features, tolerance, "linear_backward dW %d of %d rows=%zu In=%zu Out=%zu", p, parts, rows, in_features, outs[p]);
    free(want), free(w[p]), free(d_out[p]), free(d_w[p]);
  }
  free(x), free(d_x), free(want_x);
}

static void test_linear_backward(void) {
  static const size_t rows[] = {0, 1, 2, 17, 97, 263, 600}, ins[] = {1, 13, 16, 37, 64, 521};
  for (size_t r = 0; r < COUNT(rows); r++)
    for (size_t i = 0; i < COUNT(ins); i++) {
      test_linear_backward_case(rows[r], ins[i], (size_t[]){29}, 1, 3);
      test_linear_backward_case(rows[r], ins[i], (size_t[]){101, 1, 16}, 3, 15);
      test_linear_backward_case(rows[r], ins[i], (size_t[]){7, 19}, 2, 1 + (int)(r + i) % 7);
      test_linear_backward_case(rows[r], ins[i], (size_t[]){256, 33}, 2, 1);
    }
  test_linear_backward_case(31, 600, (size_t[]){530, 0}, 2, 7);
  test_linear_backward_case(17000, 5, (size_t[]){3}, 1, 3);
}

static void test_embedding(void) {
  const size_t V = 11, D = 96;
  const int32_t ids[] = {3, 0, 10, 10, 7};
  for (size_t t = 0; t < COUNT(types); t++) {
    double *values = new_doubles(V * D), want[COUNT(ids) * 96];
    uint8_t *table = random_stored(types[t], V * D, values);
    float *out = new_floats(COUNT(ids) * D);
    op_embedding((double[]){address(out), address(table), types[t], (double)D, address(ids), COUNT(ids)});
    for (size_t i = 0; i < COUNT(ids); i++) memcpy(want + i * D, values + (size_t)ids[i] * D, D * sizeof(double));
    check_floats(out, want, COUNT(ids) * D, 1e-7, "embedding type %d", types[t]);
    float *widened = new_floats(3 * D);
    op_convert((double[]){address(widened), GQA_F32, (double)D, address(table), types[t], 32, 2.0 * (double)D});
    check_floats(widened + D, values + 32, 2 * D, 1e-7, "convert type %d to f32", types[t]);
    free(values), free(table), free(out), free(widened);
  }
}

static void test_matmul_case(size_t batch, size_t M, size_t N, size_t K, int transpose_a, int transpose_b, int shared) {
  const size_t a_stride = shared & 1 ? 0 : M * K, b_stride = shared & 2 ? 0 : K * N;
  float *a = random_floats(a_stride ? batch * M * K : M * K), *b = random_floats(b_stride ? batch * K * N : K * N), *out = new_floats(batch * M * N);
  double *want = new_doubles(batch * M * N);
  const size_t fewest = gqa_min(M, gqa_min(N, K));
  const int product = batch == 1 && !(transpose_a && transpose_b) && fewest >= BF16_K ? precision : GQA_HIGHEST;
  for (size_t i = 0; i < batch; i++)
    for (size_t m = 0; m < M; m++)
      for (size_t n = 0; n < N; n++) {
        double sum = 0;
        for (size_t k = 0; k < K; k++) sum += operand(a[i * a_stride + (transpose_a ? k * M + m : m * K + k)], product, fewest) * operand(b[i * b_stride + (transpose_b ? n * K + k : k * N + n)], product, fewest);
        want[(i * M + m) * N + n] = sum;
      }
  op_matmul((double[]){address(out), address(a), address(b), (double)batch, (double)M, (double)N, (double)K, transpose_a, transpose_b, (double)a_stride, (double)b_stride, precision});
  check_floats(out, want, batch * M * N, 2e-6, "matmul precision=%d batch=%zu M=%zu N=%zu K=%zu transpose %d %d shared %d", precision, batch, M, N, K, transpose_a, transpose_b, shared);
  free(a), free(b), free(out), free(want);
}

static void test_matmul(void) {
  static const size_t shapes[][4] = {{1, 1, 1, 1}, {1, 17, 13, 5}, {2, 7, 11, 3}, {3, 1, 37, 19}, {2, 53, 67, 31}, {1, 61, 300, 263}, {2, 25, 31, 300},
                                     {1, 3, 0, 5}, {1, 3, 5, 0}, {1, 50, 35, 0}, {5, 2, 33, 64}, {1, 130, 521, 17}, {1, 32, 33, 47}, {1, 31, 40, 40}};
  for (int transpose = 0; transpose < 4; transpose++) {
    for (size_t s = 0; s < COUNT(shapes); s++)
      for (int shared = 0; shared < 4; shared++)
        if (shared == 0 || shapes[s][0] > 1) test_matmul_case(shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], transpose & 1, transpose >> 1, shared);
    for (size_t M = 1; M <= 17; M++)
      for (size_t N = 1; N <= 17; N++) test_matmul_case(1, M, N, (M * N) % 11 + 1, transpose & 1, transpose >> 1, 0);
  }
}

/* A row has the same bits alone and among the rows of a call. */
static void test_rows(void) {
  static const size_t depths[] = {45, 1063, 96, 1120};
  const size_t out = 13;
  for (size_t t = 0; t < COUNT(types); t++)
    for (size_t d = type_is_block(types[t]) ? 2 : 0; d < COUNT(depths); d++)
      for (size_t rows = 2; rows <= LINEAR_FEW; rows++) {
        const size_t K = depths[d];
        double *values = new_doubles(out * K);
        float *x = random_floats(rows * K), *bias = random_floats(out), *y = new_floats(rows * out), *alone = new_floats(rows * out);
        uint8_t *w = random_stored(types[t], out * K, values);
        op_linear((double[]){address(x), (double)rows, (double)K, precision, 1, address(w), types[t], (double)out, address(bias), address(y)});
        for (size_t r = 0; r < rows; r++) op_linear((double[]){address(x + r * K), 1, (double)K, precision, 1, address(w), types[t], (double)out, address(bias), address(alone + r * out)});
        check_bytes(y, alone, rows * out * sizeof(float), "linear type %d K=%zu rows=%zu and one by one", types[t], K, rows);
        free(values), free(x), free(bias), free(y), free(alone), free(w);
      }
}

/* The number of threads changes nothing, bit for bit. */
static void test_threads(void) {
  static const size_t rows[] = {1, 3, 70};
  const size_t K = 1024, out = 1500;
  for (size_t r = 0; r < COUNT(rows); r++) {
    double *values = new_doubles(out * K);
    float *x = random_floats(rows[r] * K), *one = new_floats(rows[r] * out), *three = new_floats(rows[r] * out);
    uint8_t *w = random_stored(GQA_Q4_1, out * K, values);
    double arguments[] = {address(x), (double)rows[r], (double)K, precision, 1, address(w), GQA_Q4_1, (double)out, 0, address(one)};
    gqa_set_threads(1);
    op_linear(arguments);
    gqa_set_threads(3);
    arguments[9] = address(three);
    op_linear(arguments);
    check_bytes(three, one, rows[r] * out * sizeof(float), "linear rows=%zu on 1 and 3 threads", rows[r]);
    free(values), free(x), free(one), free(three), free(w);
  }
  const size_t R = 300, in_features = 130, out_features = 200;
  float *x = random_floats(R * in_features), *w = random_floats(out_features * in_features), *g = random_floats(R * out_features), *found[3];
  for (int threads = 1; threads <= 3; threads++) {
    float *gradients = found[threads - 1] = new_floats((R + out_features) * in_features);
    gqa_set_threads(threads);
    op_linear_backward((double[]){address(gradients), address(x), (double)R, (double)in_features, precision, 1, address(w), (double)out_features, address(g), address(gradients + R * in_features)});
    check_bytes(gradients, found[0], (R + out_features) * in_features * sizeof(float), "linear_backward on 1 and %d threads", threads);
  }
  free(found[0]), free(found[1]), free(found[2]), free(x), free(w), free(g);
}

/* NaN and infinity in one row of x reach that row alone. */
static void test_special_rows(void) {
  const size_t rows = 33, K = 70, out = 21;
  float *x = random_floats(rows * K), *w = random_floats(out * K), *y = new_floats(rows * out);
  x[3 * K + 69] = NAN, x[32 * K] = INFINITY;
  op_linear((double[]){address(x), (double)rows, (double)K, precision, 1, address(w), GQA_F32, (double)out, 0, address(y)});
  checks++;
  for (size_t r = 0; r < rows; r++)
    for (size_t o = 0; o < out; o++) {
      const float got = y[r * out + o];
      if (r == 3 ? isnan(got) : r == 32 ? got == (w[o * K] > 0 ? INFINITY : -INFINITY) : isfinite(got)) continue;
      printf("linear precision=%d: row %zu of rows with NaN (3) and infinity (32): got %g\n", precision, r, got);
      failures++;
      r = rows;
      break;
    }
  free(x), free(w), free(y);
}

static void test_all(void) {
  test_linear();
  test_linear_backward();
  test_matmul();
  test_rows();
  test_threads();
  test_special_rows();
}

int main(void) {
  test_embedding();
  test_all();
  precision = GQA_BFLOAT16;
#if VL == 16 || defined(__aarch64__) /* the kernels that are used with units */
  const bf16_unit *units[MOST_UNITS];
  const char *names[MOST_UNITS];
  for (int i = 0; i < bf16_units_here(units, names); i++) {
    printf("%s\n", names[i]);
    gqa_units.bf16 = units[i];
    test_all();
  }
#endif
  return report("test_linear");
}
