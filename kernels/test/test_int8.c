/*
 * test_int8.c: linear with 8-bit activations, by each unit that this processor has: exact where integers and
 * scales are, otherwise within the rounding of x; rows, threads and values that are not finite.
 */
#include "check.h"
#include "copy.c"
#include "processor.h"
#include "units.h"
#if VL == 4 && defined(__SSE2__)
#include "linear_int8.h" /* the form of WASM */
#endif

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
/* FEW_ROWS of src/ops/linear.ts. */
enum { FEW = 16 };

static const int types[] = {GQA_Q8_0, GQA_Q4_0, GQA_Q4_1, GQA_Q5_0, GQA_Q5_1, GQA_Q4_K, GQA_Q5_K, GQA_Q6_K};

static size_t block_length(int type) { return type_is_super(type) ? 256 : 32; }

/* Random blocks; exact: their scales are powers of two. */
static uint8_t *random_blocks(int type, size_t n, int exact) {
  const size_t bytes = stored_bytes(type, block_length(type));
  uint8_t *blocks = new_bytes(n / block_length(type) * bytes);
  for (size_t b = 0; b < n / block_length(type); b++) {
    uint8_t *p = blocks + b * bytes;
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)random_bits();
    const uint16_t d = float_to_half(exact ? 0.25f : random_float() * 0.01f), m = float_to_half(exact ? 0.5f : random_float() * 0.01f);
    memcpy(p + (type == GQA_Q6_K ? 208 : 0), &d, 2);
    if (type == GQA_Q4_1 || type == GQA_Q5_1 || type == GQA_Q4_K || type == GQA_Q5_K) memcpy(p + 2, &m, 2);
  }
  return blocks;
}

/* A group of x as integers and their scale. */
static float quantise(const float *x, int *codes) {
  float largest = 0;
  for (int i = 0; i < 32; i++) largest = fmaxf(largest, fabsf(x[i]));
  for (int i = 0; i < 32; i++) codes[i] = largest > 0 ? (int)nearbyint((double)x[i] * (127.0f / largest)) : 0;
  return largest / 127.0f;
}

typedef struct {
  const char *name;
  void (*linear)(const double *arguments);
} unit;

static void run(const unit *u, const float *x, size_t rows, size_t K, int type, const uint8_t *w, size_t out, const float *bias, float *y) {
  u->linear((double[]){address(x), (double)rows, (double)K, GQA_INT8, 1, address(w), type, (double)out, address(bias), address(y)});
}

/* exact: x is integers up to 127, so codes and sums have no rounding, and results equal those of plain loops. */
static void test_case(const unit *u, int type, size_t rows, size_t K, size_t out, int exact, int biased) {
  uint8_t *w = random_blocks(type, out * K, exact);
  float *values = new_floats(out * K), *x = random_floats(rows * K), *bias = biased ? random_floats(out) : 0, *y = new_floats(rows * out);
  decode_elements(type, w, values, out * K);
  for (size_t i = 0; i < rows * K && exact; i++) x[i] = i % 32 == 7 ? 127.0f : (float)((int)(random_bits() % 255) - 127);
  for (size_t o = 0; o < out && exact && biased; o++) bias[o] = (float)(int)(bias[o] * 100);
  run(u, x, rows, K, type, w, out, bias, y);
  checks++;
  for (size_t r = 0; r < rows; r++)
    for (size_t o = 0; o < out; o++) {
      double want = biased ? bias[o] : 0, rounding = fabs(want), ties = 0;
      for (size_t k = 0; k < K; k += 32) {
        int codes[32];
        const double scale = quantise(x + r * K + k, codes);
        for (size_t i = 0; i < 32; i++) {
          const double product = scale * codes[i] * values[o * K + k + i];
          want += product;
          /* q4_0 and the like: code and offset are multiplied apart. */
          rounding += 16 * fabs(product) + scale * 127 * fabs(values[o * K + k + i]);
          /* Without FMA, x / scale is rounded before it becomes an integer: next to a tie to either. */
          const double tie = scale > 0 ? fabs(x[r * K + k + i] / scale - codes[i]) : 0;
          if (tie > 0.4999) ties += scale * fabs(values[o * K + k + i]);
        }
      }
      const double got = y[r * out + o], allowed = exact ? 0 : rounding * 0x1p-21 + ties;
      if (fabs(got - want) <= allowed) continue;
      printf("%s type %d rows=%zu K=%zu out=%zu exact %d: [%zu][%zu] got %.9g, want %.9g, allowed %.3g\n", u->name, type, rows, K, out, exact, r, o, got, want, allowed);
      failures++;
      r = rows;
      break;
    }
  free(w), free(values), free(x), free(bias), free(y);
}

/* A row has the same bits alone and among up to FEW rows, and among any number of more. */
static void test_rows(const unit *u, int type, size_t K) {
  const size_t out = 13, rows = 530;
  uint8_t *w = random_blocks(type, out * K, 0);
  float *x = random_floats(rows * K), *bias = random_floats(out), *all = new_floats(rows * out), *some = new_floats(rows * out);
  run(u, x, rows, K, type, w, out, bias, all);
  for (size_t n = FEW + 1; n <= 57; n += 8) {
    run(u, x + n * K, n, K, type, w, out, bias, some);
    check_bytes(some, all + n * out, n * out * sizeof(float), "%s type %d K=%zu: %zu rows and among %zu", u->name, type, K, n, rows);
  }
  for (size_t r = 0; r < FEW; r++) run(u, x + r * K, 1, K, type, w, out, bias, all + r * out);
  for (size_t n = 2; n <= FEW; n++) {
    run(u, x, n, K, type, w, out, bias, some);
    check_bytes(some, all, n * out * sizeof(float), "%s type %d K=%zu: %zu rows and one by one", u->name, type, K, n);
  }
  free(w), free(x), free(bias), free(all), free(some);
}

static void test_threads(const unit *u) {
  static const size_t rows[] = {1, 3, 70};
  const size_t K = 1024, out = 1500;
  for (size_t r = 0; r < COUNT(rows); r++) {
    uint8_t *w = random_blocks(GQA_Q4_1, out * K, 0);
    float *x = random_floats(rows[r] * K), *one = new_floats(rows[r] * out), *three = new_floats(rows[r] * out);
    gqa_set_threads(1);
    run(u, x, rows[r], K, GQA_Q4_1, w, out, 0, one);
    gqa_set_threads(3);
    run(u, x, rows[r], K, GQA_Q4_1, w, out, 0, three);
    check_bytes(three, one, rows[r] * out * sizeof(float), "%s rows=%zu on 1 and 3 threads", u->name, rows[r]);
    free(w), free(x), free(one), free(three);
  }
}

/* A NaN or an infinity makes its row NaN and no other; values too small for a scale count as 0. */
static void test_not_finite(const unit *u, int type, size_t rows) {
  const size_t K = 512, out = 9;
  uint8_t *w = random_blocks(type, out * K, 0);
  float *x = random_floats(rows * K), *bias = random_floats(out), *clean = new_floats(rows * out), *y = new_floats(rows * out);
  for (size_t i = 0; i < K; i++) x[2 * K + i] = i % 32 == 5 ? 1e-39f : -0.0f;
  run(u, x, rows, K, type, w, out, bias, clean);
  check_bytes(clean + 2 * out, bias, out * sizeof(float), "%s type %d: a row of tiny values", u->name, type);
  x[77] = NAN, x[K + 511] = -INFINITY, x[(rows - 1) * K] = 1e30f;
  run(u, x, rows, K, type, w, out, bias, y);
  checks++;
  for (size_t r = 0; r < rows; r++)
    for (size_t o = 0; o < out; o++) {
      const float got = y[r * out + o], before = clean[r * out + o];
      if (r < 2 ? isnan(got) : r == rows - 1 ? !isnan(got) : got == before) continue;
      printf("%s type %d: row %zu is %g\n", u->name, type, r, got);
      failures++;
    }
  free(w), free(x), free(bias), free(clean), free(y);
}

/* A stored block whose scale is NaN makes its output NaN and no other. */
static void test_nan_scale(const unit *u, int type, size_t rows) {
  const size_t K = 3 * block_length(type), out = 6, bad = 2, row_bytes = stored_bytes(type, K);
  uint8_t *w = random_blocks(type, out * K, 0);
  float *x = random_floats(rows * K), *clean = new_floats(rows * out), *y = new_floats(rows * out);
  run(u, x, rows, K, type, w, out, 0, clean);
  const uint16_t nan = 0x7e00;
  memcpy(w + bad * row_bytes + (type == GQA_Q6_K ? 208 : 0), &nan, 2);
  run(u, x, rows, K, type, w, out, 0, y);
  checks++;
  for (size_t i = 0; i < rows * out; i++) {
    if (i % out == bad ? isnan(y[i]) : y[i] == clean[i]) continue;
    printf("%s type %d rows=%zu: output %zu is %g, without the NaN of output %zu %g\n", u->name, type, rows, i % out, y[i], bad, clean[i]);
    failures++;
    break;
  }
  free(w), free(x), free(clean), free(y);
}

static void test_parts(const unit *u, size_t rows) {
  static const int part_types[] = {GQA_Q4_K, GQA_Q8_0, GQA_Q6_K};
  const size_t K = 768, outs[] = {31, 67, 5};
  float *x = random_floats(rows * K), *y[3];
  uint8_t *w[3];
  double arguments[5 + 5 * 3] = {address(x), (double)rows, (double)K, GQA_INT8, 3};
  for (int p = 0; p < 3; p++) {
    w[p] = random_blocks(part_types[p], outs[p] * K, 0), y[p] = new_floats(rows * outs[p]);
    memcpy(arguments + 5 + 5 * p, ((double[]){address(w[p]), part_types[p], (double)outs[p], 0, address(y[p])}), 5 * sizeof(double));
  }
  u->linear(arguments);
  for (int p = 0; p < 3; p++) {
    float *alone = new_floats(rows * outs[p]);
    run(u, x, rows, K, part_types[p], w[p], outs[p], 0, alone);
    check_bytes(y[p], alone, rows * outs[p] * sizeof(float), "%s rows=%zu: part %d and alone", u->name, rows, p);
    free(alone), free(w[p]), free(y[p]);
  }
  free(x);
}

static void test_unit(const char *name, void (*linear)(const double *)) {
  const unit u = {name, linear};
  if (!linear) return;
  printf("%s\n", name);
  for (size_t t = 0; t < COUNT(types); t++) {
    const int type = types[t];
    static const size_t rows[] = {1, 2, 5, 16, 17, 33, 50, 64};
    for (size_t r = 0; r < COUNT(rows); r++)
      for (int exact = 0; exact < 2; exact++) {
        test_case(&u, type, rows[r], 256, 7, exact, (int)r & 1);
        test_case(&u, type, rows[r], exact ? 512 : 1280, 53, exact, (int)r & 1);
        if (!type_is_super(type)) test_case(&u, type, rows[r], 96, 31, exact, 1), test_case(&u, type, rows[r], 32, 3, exact, 0);
      }
    for (size_t out = 1; out <= 9; out++) test_case(&u, type, out % 3 * 16 + 1, 512, out, 1, 1);
    test_case(&u, type, 600, 256, 29, 0, 1);
    test_case(&u, type, 3, type_is_super(type) ? 2304 : 2240, 5, 0, 1);
    test_case(&u, type, 35, type_is_super(type) ? 2304 : 2240, 5, 0, 1);
    test_rows(&u, type, type_is_super(type) ? 1280 : 1120);
    test_not_finite(&u, type, 4), test_not_finite(&u, type, 37);
    test_nan_scale(&u, type, 1), test_nan_scale(&u, type, 3), test_nan_scale(&u, type, 20);
  }
  test_parts(&u, 1), test_parts(&u, 40);
  test_threads(&u);
}

int main(void) {
  const unsigned features = gqa_features();
  (void)features;
#if VL == 4 && defined(__SSE2__)
  test_unit("pairs of 16 bits", linear_int8);
#endif
#if defined(__x86_64__)
  if (features & FEATURE_AVX_VNNI) test_unit("avx2-vnni", gqa_int8_avx2.linear);
  if (features & FEATURE_AVX512_VNNI) test_unit("avx512-vnni", gqa_int8_avx512.linear);
#elif defined(__aarch64__)
  if (features & FEATURE_NEON_DOT) test_unit("neon-dot", gqa_int8_neon.linear);
#endif
  return report("test_int8");
}
