/*
 * test_quant_k.c: linear, embedding and conversion of the types of quant_k.h against ggml's layouts decoded
 * value by value.
 */
#include "check.h"
#include "copy.c"
#include "linear.c"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const int types[] = {GQA_Q5_0, GQA_Q5_1, GQA_Q4_K, GQA_Q5_K, GQA_Q6_K, GQA_Q2_K, GQA_Q3_K, GQA_IQ4_XS, GQA_IQ4_NL, GQA_MXFP4};

/* The 6-bit scale (which = 0) or minimum (1) of group g in the 12 bytes at q. */
static int six_bits(const uint8_t *q, int g, int which) {
  if (g < 4) return q[g + 4 * which] & 63;
  const int low = which ? q[g + 4] >> 4 : q[g + 4] & 15;
  return low | (q[g - 4 + 4 * which] >> 6 << 4);
}

static const int iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const double fp4_values[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};

/* Value i of one block, in double. */
static double block_value(int type, const uint8_t *p, int i) {
  if (type == GQA_MXFP4) return ldexp(fp4_values[i < 16 ? p[1 + i] & 15 : p[1 + i - 16] >> 4], p[0] - 127);
  if (type == GQA_IQ4_NL) return (double)half_at(p) * iq4_values[i < 16 ? p[2 + i] & 15 : p[2 + i - 16] >> 4];
  if (type == GQA_IQ4_XS) {
    const int g = i / 32, l = i % 32, low = p[4 + g / 2] >> 4 * (g % 2) & 15, high = (p[2] | p[3] << 8) >> 2 * g & 3;
    const uint8_t *q = p + 8 + 16 * g;
    return (double)half_at(p) * ((low | high << 4) - 32) * iq4_values[l < 16 ? q[l] & 15 : q[l - 16] >> 4];
  }
  if (type == GQA_Q2_K) {
    const int q = p[16 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    return (double)half_at(p + 80) * (p[i / 16] & 15) * q - (double)half_at(p + 82) * (p[i / 16] >> 4);
  }
  if (type == GQA_Q3_K) {
    const int s = i / 16, q = (p[32 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - (p[i % 32] >> i / 32 & 1 ? 0 : 4);
    const int scale = (s < 8 ? p[96 + s] & 15 : p[96 + s - 8] >> 4) | (p[104 + s % 4] >> s / 4 * 2 & 3) << 4;
    return (double)half_at(p + 108) * (scale - 32) * q;
  }
  if (type == GQA_Q5_0 || type == GQA_Q5_1) {
    const uint8_t *high = p + (type == GQA_Q5_1 ? 4 : 2), *low = high + 4;
    const int q = (i < 16 ? low[i] & 15 : low[i - 16] >> 4) | ((high[i / 8] >> i % 8 & 1) << 4);
    return type == GQA_Q5_1 ? (double)half_at(p) * q + half_at(p + 2) : (double)half_at(p) * (q - 16);
  }
  if (type == GQA_Q6_K) {
    const int half = i / 128, t = i % 128 / 32, l = i % 32;
    const int low = p[64 * half + 32 * (t % 2) + l], high = p[128 + 32 * half + l];
    const int q = (t < 2 ? low & 15 : low >> 4) | ((high >> 2 * t & 3) << 4);
    return (double)half_at(p + 208) * (int8_t)p[192 + i / 16] * (q - 32);
  }
  const int g = i / 32, l = i % 32;
  const uint8_t *low = p + (type == GQA_Q5_K ? 48 : 16) + 32 * (g / 2);
  int q = g % 2 ? low[l] >> 4 : low[l] & 15;
  if (type == GQA_Q5_K) q |= (p[16 + l] >> g & 1) << 4;
  return (double)half_at(p) * six_bits(p + 4, g, 0) * q - (double)half_at(p + 2) * six_bits(p + 4, g, 1);
}

static size_t block_length(int type) { return type_is_super(type) ? 256 : 32; }

/* Random blocks with small scales in a buffer of exactly their size; `values` gets them decoded in double. */
static uint8_t *random_blocks(int type, size_t n, double *values) {
  const size_t length = block_length(type), bytes = k_block_bytes(type);
  uint8_t *blocks = new_bytes(n / length * bytes);
  for (size_t b = 0; b < n / length; b++) {
    uint8_t *p = blocks + b * bytes;
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)random_bits();
    const uint16_t d = float_to_half(random_float() * 0.01f), m = float_to_half(random_float() * 0.01f);
    const int has_minimum = type == GQA_Q5_1 || type == GQA_Q4_K || type == GQA_Q5_K || type == GQA_Q2_K;
    const int at = type == GQA_Q6_K ? 208 : type == GQA_Q2_K ? 80 : type == GQA_Q3_K ? 108 : 0;
    if (type == GQA_MXFP4) p[0] = (uint8_t)(120 + random_bits() % 4);
    else memcpy(p + at, &d, 2);
    if (has_minimum) memcpy(p + at + 2, &m, 2);
    for (size_t i = 0; i < length; i++) values[b * length + i] = block_value(type, p, (int)i);
  }
  return blocks;
}

static void test_linear_case(int type, size_t rows, size_t K, size_t out, int biased) {
  double *values = new_doubles(out * K), *want = new_doubles(rows * out);
  uint8_t *w = random_blocks(type, out * K, values);
  float *x = random_floats(rows * K), *bias = biased ? random_floats(out) : 0, *y = new_floats(rows * out);
  op_linear((double[]){address(x), (double)rows, (double)K, GQA_HIGHEST, 1, address(w), type, (double)out, address(bias), address(y)});
  for (size_t r = 0; r < rows; r++)
    for (size_t o = 0; o < out; o++) {
      double sum = biased ? bias[o] : 0;
      for (size_t k = 0; k < K; k++) sum += x[r * K + k] * values[o * K + k];
      want[r * out + o] = sum;
    }
  check_floats(y, want, rows * out, 4e-6, "linear type %d rows=%zu K=%zu out=%zu bias %d", type, rows, K, out, biased);
  if (rows <= LINEAR_FEW) {
    float *alone = new_floats(rows * out);
    for (size_t r = 0; r < rows; r++) op_linear((double[]){address(x + r * K), 1, (double)K, GQA_HIGHEST, 1, address(w), type, (double)out, address(bias), address(alone + r * out)});
    check_bytes(y, alone, rows * out * sizeof(float), "linear type %d K=%zu rows=%zu and one by one", type, K, rows);
    free(alone);
  }
  free(values), free(want), free(w), free(x), free(bias), free(y);
}

static void test_decode(int type) {
  const size_t D = 2 * block_length(type), V = 5;
  const int32_t ids[] = {4, 0, 3, 3};
  double *values = new_doubles(V * D), *want = new_doubles(COUNT(ids) * D);
  uint8_t *table = random_blocks(type, V * D, values);
  float *out = new_floats(COUNT(ids) * D), *wide = new_floats(3 * D);
  op_embedding((double[]){address(out), address(table), type, (double)D, address(ids), COUNT(ids)});
  for (size_t i = 0; i < COUNT(ids); i++) memcpy(want + i * D, values + (size_t)ids[i] * D, D * sizeof(double));
  check_floats(out, want, COUNT(ids) * D, 1e-7, "embedding type %d", type);
  op_convert((double[]){address(wide), GQA_F32, (double)D, address(table), type, (double)D / 2, 2.0 * (double)D});
  check_floats(wide + D, values + D / 2, 2 * D, 1e-7, "convert type %d to f32", type);
  uint8_t *copy = new_bytes(k_bytes(type, V * D));
  op_convert((double[]){address(copy), type, 0, address(table), type, 0, (double)(V * D)});
  check_bytes(copy, table, k_bytes(type, V * D), "copy of type %d", type);
  /* More than one task. */
  const size_t many = 70 * 1024;
  double *all = new_doubles(many);
  uint8_t *blocks = random_blocks(type, many, all);
  float *f = new_floats(many);
  op_convert((double[]){address(f), GQA_F32, 0, address(blocks), type, 0, (double)many});
  check_floats(f, all, many, 1e-7, "convert %zu of type %d", many, type);
  free(values), free(want), free(table), free(out), free(wide), free(copy), free(all), free(blocks), free(f);
}

int main(void) {
  for (size_t t = 0; t < COUNT(types); t++) {
    const int type = types[t];
    test_decode(type);
    static const size_t rows[] = {1, 2, 5, 12, 13, 33, 130};
    for (size_t r = 0; r < COUNT(rows); r++) {
      test_linear_case(type, rows[r], 256, 7, (int)r & 1);
      test_linear_case(type, rows[r], 1280, 53, (int)r & 1);
    }
    for (size_t out = 1; out <= 9; out++) test_linear_case(type, out % 3 + 1, 512, out, 1);
    if (!type_is_super(type)) test_linear_case(type, 1, 96, 31, 1), test_linear_case(type, 40, 96, 31, 1);
  }
  return report("test_quant_k");
}
