/*
 * test_random.c: the generator against Random123's known answers, the samplers against libm in double, every
 * length around a vector.
 */
#include "check.h"
#include "random.c"

enum { LONGEST = 70 };

/* Source: Random123, tests/kat_vectors, threefry2x32 20. The counter here is (high, low) of one lane. */
static void test_known_answers(void) {
  static const uint32_t rows[][5] = {
      {0, 0, 0, 0, 0x6b200159u ^ 0x99ba4efeu},
      {0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu, 0x1cb996fcu ^ 0xbb002be7u},
      {0x13198a2eu, 0x03707344u, 0x243f6a88u, 0x85a308d3u, 0xc4923a9cu ^ 0x483df7a0u},
  };
  for (size_t r = 0; r < 3; r++) {
    vu zero = {0};
    vu got = vu_threefry_bits(rows[r][0], rows[r][1], zero + rows[r][2], zero + rows[r][3]);
    for (int lane = 0; lane < VL; lane++) {
      uint32_t word = got[lane];
      check_bytes(&word, &rows[r][4], 4, "threefry row %zu lane %d", r, lane);
    }
  }
}

static uint32_t *draw(int kind, size_t n, double minval, double maxval, double high) {
  uint32_t *out = new_bytes(n * (kind == RANDOM_BERNOULLI ? 1 : 4));
  op_random((double[]){kind, address(out), (double)n, 7, 42, minval, maxval, 1.25, -2, high, 3});
  return out;
}

/* Each sampler at given uniforms; normal is checked by erf of its result. */
static void test_samplers(void) {
  for (size_t n = 0; n <= LONGEST; n++) {
    uint32_t *bits = draw(RANDOM_BITS, n, 0, 1, 1);
    float *uniform = (float *)draw(RANDOM_UNIFORM, n, -0.75, 0.5, 1);
    float *normal = (float *)draw(RANDOM_NORMAL, n, -0.75, 0.5, 0.5);
    float *gumbel = (float *)draw(RANDOM_GUMBEL, n, 0x1p-126, 1, 1);
    uint8_t *bernoulli = (uint8_t *)draw(RANDOM_BERNOULLI, n, 0, 1, 0.3);
    for (size_t i = 0; i < n; i++) {
      double u = (bits[i] >> 9) * 0x1p-23, wide = u * 1.25 - 0.75;
      double want_uniform = wide * 3, want_gumbel = -log(-log(u > 0 ? u : 0x1p-126));
      check_floats(uniform + i, &want_uniform, 1, 1e-6, "uniform %zu of %zu", i, n);
      check_floats(gumbel + i, &want_gumbel, 1, 1e-5, "gumbel %zu of %zu", i, n);
      double x = normal[i] / 3.0, clamped = x >= 0.5 ? 0.5 : x;
      float back = (float)erf(x / 1.25);
      if (x < 0.5) check_floats(&back, &wide, 1, 1e-6, "normal %zu of %zu", i, n);
      else check_floats((float[]){(float)x}, &clamped, 1, 1e-6, "clamped normal %zu of %zu", i, n);
      uint8_t want = u < 0.3f;
      check_bytes(bernoulli + i, &want, 1, "bernoulli %zu of %zu", i, n);
    }
    free(bits), free(uniform), free(normal), free(gumbel), free(bernoulli);
  }
}

/* Elements depend on their index only, not on tasks or their order. */
static void test_tasks(void) {
  enum { COUNT = 3 * GQA_CHUNK + 5 };
  uint32_t *all = draw(RANDOM_NORMAL, COUNT, -0.75, 0.5, 1);
  for (size_t n = GQA_CHUNK - 1; n <= GQA_CHUNK + 1; n++) {
    uint32_t *part = draw(RANDOM_NORMAL, n, -0.75, 0.5, 1);
    check_bytes(part, all, n * 4, "prefix of %zu", n);
    free(part);
  }
  free(all);
}

int main(void) {
  test_known_answers();
  test_samplers();
  test_tasks();
  return report("test_random");
}
