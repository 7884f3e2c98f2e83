/*
 * test_copy.c: fill, convert and copy_strided for every pair of types, all f16 and bf16 patterns, and all
 * kinds of strides; select.
 */
#include "check.h"
#include "copy.c"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static double want_half(uint16_t h) {
  int exponent = h >> 10 & 31, fraction = h & 1023;
  double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
  return h & 0x8000 ? -magnitude : magnitude;
}

static void test_half_patterns(void) {
  uint16_t *patterns = new_bytes(65536 * 2), *back = new_bytes(65536 * 2);
  float *out = new_floats(65536);
  double *want = new_doubles(65536);
  for (int type = GQA_F16; type <= GQA_BF16; type++) {
    for (uint32_t i = 0; i < 65536; i++) {
      patterns[i] = (uint16_t)i;
      uint32_t bits = i << 16;
      float f;
      memcpy(&f, &bits, 4);
      want[i] = type == GQA_F16 ? want_half((uint16_t)i) : f;
    }
    op_convert((double[]){address(out), GQA_F32, 0, address(patterns), type, 0, 65536});
    for (int i = 0; i < 65536; i++) check_floats(out + i, want + i, 1, 0, "convert type %d pattern %04x", type, i);
    op_convert((double[]){address(back), type, 0, address(out), GQA_F32, 0, 65536});
    for (int i = 0; i < 65536; i++)
      if (isnan(want[i])) back[i] = patterns[i];
    check_bytes(back, patterns, 65536 * 2, "convert f32 to type %d", type);
  }
  /* Rounding: halfway cases and their neighbours, between consecutive f16 and bf16 values. */
  for (uint32_t i = 0; i < 0x7c00; i++) {
    for (int type = GQA_F16; type <= GQA_BF16; type++) {
      uint32_t bits = i << 16 | 0x8000, next_bits = (i + 1) << 16;
      float bf, bf_next;
      memcpy(&bf, &bits, 4), memcpy(&bf_next, &next_bits, 4);
      float middle = type == GQA_F16 ? (float)((want_half((uint16_t)i) + (i == 0x7bff ? 65536.0 : want_half((uint16_t)(i + 1)))) / 2) : bf;
      float x[3] = {nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};
      uint16_t got[3], want[3] = {(uint16_t)i, (uint16_t)(i + (i & 1)), (uint16_t)(i + 1)};
      op_convert((double[]){address(got), type, 0, address(x), GQA_F32, 0, 3});
      check_bytes(got, want, sizeof got, "rounding to type %d after %04x", type, i);
    }
  }
  free(patterns), free(back), free(out), free(want);
}

/*
 * f32 to q8_0 and back: off by at most half a scale, the scale the largest magnitude / 127 as f16; a block
 * that cannot be stored is NaN.
 */
static void test_convert_q8_0(void) {
  for (int number = 0; number < 2000; number++) {
    size_t blocks = 1 + random_bits() % 4, skip = random_bits() % 3, n = blocks * 32;
    float size = ldexpf(1.0f, (int)(random_bits() % 40) - 20), *x = random_floats((skip + blocks) * 32), *back = new_floats(n);
    uint8_t *stored = new_bytes((skip + blocks) * 34);
    for (size_t i = 0; i < (skip + blocks) * 32; i++) x[i] *= size;
    if (number % 7 == 0) memset(x + skip * 32, 0, 32 * sizeof(float));
    if (number % 11 == 0) x[skip * 32 + random_bits() % 32] = number % 2 ? NAN : -INFINITY;
    op_convert((double[]){address(stored), GQA_Q8_0, (double)skip * 32, address(x), GQA_F32, (double)skip * 32, (double)n});
    op_convert((double[]){address(back), GQA_F32, 0, address(stored), GQA_Q8_0, (double)skip * 32, (double)n});
    for (size_t b = 0; b < blocks; b++) {
      uint16_t bits;
      memcpy(&bits, stored + (skip + b) * 34, 2);
      double scale = half_to_float(bits), top = 0, worst = 0;
      int finite = 1;
      for (int i = 0; i < 32; i++) {
        double value = x[(skip + b) * 32 + (size_t)i], error = fabs(back[b * 32 + (size_t)i] - value);
        if (!isfinite(value)) finite = 0;
        if (fabs(value) > top) top = fabs(value);
        if (!(error <= worst)) worst = error;
      }
      checks++;
      /* Half a scale, or all of a value too small for f16's scales. */
      int good = finite ? worst <= scale * 0.5000001 + (top < 127 * 0x1p-14 ? 64 * 0x1p-24 : 0) : isnan(back[b * 32]) && isnan(back[b * 32 + 31]);
      if (!good) failures++, printf("q8_0: scale %g, largest %g, error %g\n", scale, top, worst);
    }
    free(x), free(back), free(stored);
  }
}

static void test_convert_types(void) {
  const double values[] = {0, 1, -1, 2.75, -2.75, 127, 255, 100, 3, 0.5, 64, 200, 17, 5, 2, 250, 31};
  for (int from = GQA_F32; from <= GQA_BOOL; from++)
    for (int to = GQA_F32; to <= GQA_BOOL; to++)
      for (size_t n = 0; n <= COUNT(values); n++)
        for (size_t offset = 0; offset < 4; offset += 3) {
          const size_t a = element_bytes(from), b = element_bytes(to);
          uint8_t *x = new_bytes((offset + n) * a), *out = new_bytes((1 + n) * b);
          float got[32];
          double want[32];
          for (size_t i = 0; i < n; i++) {
            write_element(from, x, offset + i, values[i]);
            double stored = read_element(from, x, offset + i);
            want[i] = to == GQA_BOOL ? stored != 0 : to == GQA_U8 ? (uint8_t)(int64_t)stored : to == GQA_I32 ? (int32_t)(int64_t)stored : to == GQA_U32 ? (uint32_t)(int64_t)stored : stored;
          }
          op_convert((double[]){address(out), to, 1, address(x), from, (double)offset, (double)n});
          for (size_t i = 0; i < n; i++) got[i] = (float)read_element(to, out, 1 + i);
          for (size_t i = 0; i < n; i++) want[i] = to == GQA_F16 && want[i] >= 65520 ? INFINITY : (float)want[i];
          check_floats(got, want, n, 0, "convert %d to %d n=%zu", from, to, n);
          free(x), free(out);
        }
  const float wild[] = {NAN, INFINITY, -INFINITY, 1e20f, 4294967296.0f, -3e9f, 2147483648.0f};
  const int32_t want[] = {0, 0, 0, 0, 0, 1294967296, INT32_MIN};
  int32_t got[COUNT(wild)];
  op_convert((double[]){address(got), GQA_I32, 0, address(wild), GQA_F32, 0, COUNT(wild)});
  got[3] = 0; /* 1e20 = 0x56bc75e2d63100000, beyond int64: f32 has it as a multiple of 2^43 */
  check_bytes(got, want, sizeof got, "convert wild floats to i32");
}

static void test_fill(void) {
  for (int type = GQA_F32; type <= GQA_BOOL; type++)
    for (size_t n = 0; n < 600; n += 37) {
      uint8_t *out = new_bytes(n * element_bytes(type));
      op_fill((double[]){address(out), type, (double)n, 1.0});
      for (size_t i = 0; i < n; i++) {
        float got = (float)read_element(type, out, i);
        check_floats(&got, (double[]){1}, 1, 0, "fill type %d n=%zu at %zu", type, n, i);
      }
      free(out);
    }
}

static void test_copy_strided(void) {
  static const double cases[][20] = {
      /* rank, dims, outStrides, xStrides */
      {1, 17, 1, 1}, {1, 17, 2, 1}, {1, 13, 1, 3}, {1, 5, 1, 0}, {1, 70001, 1, 0}, {1, 70001, 1, 1}, {1, 70001, 1, 3}, {1, 32768, 2, 1}, {2, 3, 455, 455, 1, 1, 0}, {2, 37, 53, 53, 1, 1, 37}, {2, 37, 53, 1, 37, 53, 1}, {2, 7, 16, 16, 1, 20, 1},
      {3, 3, 5, 7, 35, 7, 1, 1, 3, 15}, {4, 2, 19, 3, 23, 1311, 69, 23, 1, 1311, 23, 437, 1}, {3, 2, 0, 5, 5, 5, 1, 5, 5, 1}, {3, 4, 1, 33, 33, 33, 1, 1, 9, 4},
      {6, 2, 3, 2, 3, 2, 3}};
  for (size_t size = 1; size <= 4; size *= 2)
    for (size_t l = 0; l < COUNT(cases); l++) {
      double layout[20];
      memcpy(layout, cases[l], sizeof layout);
      const int rank = (int)layout[0];
      double *dims = layout + 1, *so = dims + rank, *sx = so + rank;
      if (rank == 6) /* a full reversal */
        for (int d = 5, stride = 1; d >= 0; stride *= (int)dims[d], d--) {
          so[d] = stride;
          int other = 1;
          for (int e = 0; e < d; e++) other *= (int)dims[e];
          sx[d] = other;
        }
      size_t n = 1, no = 1, nx = 1;
      for (int d = 0; d < rank; d++) {
        n *= (size_t)dims[d];
        no += (size_t)(so[d] * fmax(dims[d] - 1, 0));
        nx += (size_t)(sx[d] * fmax(dims[d] - 1, 0));
      }
      uint8_t *x = new_bytes((nx + 2) * size), *out = new_bytes((no + 1) * size), *want = new_bytes((no + 1) * size);
      for (size_t i = 0; i < (nx + 2) * size; i++) x[i] = (uint8_t)random_bits();
      for (size_t i = 0; i < n; i++) {
        size_t rest = i, io = 1, ix = 2;
        for (int d = rank - 1; d >= 0; d--) {
          io += rest % (size_t)dims[d] * (size_t)so[d];
          ix += rest % (size_t)dims[d] * (size_t)sx[d];
          rest /= (size_t)dims[d];
        }
        memcpy(want + io * size, x + ix * size, size);
      }
      double arguments[6 + 18] = {address(out), 1, address(x), 2, (double)size, rank};
      memcpy(arguments + 6, layout + 1, 3 * (size_t)rank * sizeof(double));
      op_copy_strided(arguments);
      check_bytes(out, want, (no + 1) * size, "copy_strided case %zu size %zu", l, size);
      free(x), free(out), free(want);
    }
}

/* Elements of every width, up to more than one chunk. */
static void test_select(void) {
  static const size_t sizes[] = {0, 1, 31, 32, 33, GQA_CHUNK - 1, GQA_CHUNK, GQA_CHUNK + 17};
  for (size_t bytes = 1; bytes <= 4; bytes *= 2)
    for (size_t s = 0; s < COUNT(sizes); s++) {
      const size_t n = sizes[s], length = n * bytes;
      uint8_t *condition = new_bytes(n), *x = new_bytes(length), *y = new_bytes(length), *out = new_bytes(length), *want = new_bytes(length);
      for (size_t i = 0; i < n; i++) condition[i] = random_bits() & 1;
      for (size_t i = 0; i < length; i++) {
        x[i] = (uint8_t)random_bits(), y[i] = (uint8_t)random_bits();
        want[i] = condition[i / bytes] ? x[i] : y[i];
      }
      op_select((double[]){address(out), address(condition), address(x), address(y), (double)bytes, (double)n});
      check_bytes(out, want, length, "select of %zu bytes n=%zu", bytes, n);
      free(condition), free(x), free(y), free(out), free(want);
    }
}

int main(void) {
  test_half_patterns();
  test_select();
  test_convert_q8_0();
  test_convert_types();
  test_fill();
  test_copy_strided();
  return report("test_copy");
}
