/*
 * test_attention.c: attention against plain loops in double, for random shapes and every option, in buffers
 * of exactly the needed size, so that the address sanitizer reports any access past an end. Masked keys and
 * values are NaN, which must not reach a result.
 */
#include "check.h"
#include "attention.c"
#include "units_here.h"

static uint32_t below(uint32_t n) { return random_bits() % n; }
static float uniform(void) { return random_float(); }
/* x rounded to bf16. */
static double bfloat(float x) {
  const uint32_t bits = (uint32_t)float_to_bfloat(x) << 16;
  memcpy(&x, &bits, 4);
  return x;
}
static int pick(const int *values, int count) { return values[below((uint32_t)count)]; }

/* A unit in plain loops, so that the bf16 form runs everywhere. */
static void loops(const bf16_product *p) {
  for (size_t i = 0; i < p->m; i++)
    for (size_t j = 0; j < p->n; j++) {
      float sum = p->accumulate ? p->c[i * p->ldc + j] : 0;
      for (size_t k = 0; k < p->k; k++) {
        const uint32_t bits[2] = {(uint32_t)p->a[i * p->lda + k] << 16, (uint32_t)p->b[(k / 2 * p->ldb + j) * 2 + k % 2] << 16};
        float x[2];
        memcpy(x, bits, sizeof x);
        sum += x[0] * x[1];
      }
      p->c[i * p->ldc + j] = sum;
    }
}

static const int TYPES[] = {GQA_F32, GQA_F16, GQA_BF16, GQA_Q8_0};

/* Elements from one head to the next: q8_0 pads a head to whole blocks. */
static int head_stride(int type, int H) { return type == GQA_Q8_0 ? (H + 31) / 32 * 32 : H; }
static size_t stored_size(int type, size_t heads, int H) { return heads * (size_t)attn_bytes(type, head_stride(type, H)); }

/*
 * Stored heads of H dims of one segment; returns the buffer and the doubles that the stored bits stand for.
 */
static void *store_segment(int type, size_t heads, int H, double *exact) {
  uint8_t *bytes = new_bytes(stored_size(type, heads, H));
  if (type == GQA_Q8_0) {
    for (size_t h = 0; h < heads; h++)
      for (int d = 0; d < head_stride(type, H); d += 32) {
        uint8_t *block = bytes + (h * (size_t)head_stride(type, H) + (size_t)d) / 32 * 34;
        uint16_t scale = float_to_half((1.0f + uniform()) / 127.0f);
        memcpy(block, &scale, 2);
        for (int i = 0; i < 32; i++) {
          int8_t code = (int8_t)(d + i < H ? (int)below(255) - 127 : 99); /* padding must not count */
          block[2 + i] = (uint8_t)code;
          if (d + i < H) exact[h * (size_t)H + (size_t)(d + i)] = (double)half_to_float(scale) * code;
        }
      }
    return bytes;
  }
  for (size_t i = 0; i < heads * (size_t)H; i++) {
    float x = uniform();
    if (type == GQA_F32) ((float *)bytes)[i] = x, exact[i] = x;
    else if (type == GQA_F16) ((uint16_t *)bytes)[i] = float_to_half(x), exact[i] = half_to_float(((uint16_t *)bytes)[i]);
    else {
      uint16_t h = float_to_bfloat(x);
      uint32_t bits = (uint32_t)h << 16;
      memcpy(&x, &bits, 4);
      ((uint16_t *)bytes)[i] = h, exact[i] = x;
    }
  }
  return bytes;
}

/* Makes the values of a token NaN. */
static void poison(int type, void *bytes, size_t token, int K, int H) {
  uint8_t *at = (uint8_t *)bytes + stored_size(type, token * (size_t)K, H);
  size_t size = stored_size(type, (size_t)K, H);
  for (size_t i = 0; i < size; i += type == GQA_F32 ? 4 : type == GQA_Q8_0 ? 34 : 2) {
    uint16_t half = type == GQA_BF16 ? 0x7fc0 : 0x7e00;
    float nan = NAN;
    if (type == GQA_F32) memcpy(at + i, &nan, 4);
    else memcpy(at + i, &half, 2);
  }
}

static void random_case(int number) {
  static const int lengths[] = {1, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 33, 50, 97}, key_lengths[] = {0, 1, 2, 5, 15, 16, 17, 31, 33, 64, 100, 129, 257, 300, 600, 1100};
  static const int dims[] = {1, 2, 3, 4, 7, 8, 13, 16, 17, 19, 31, 32, 33, 48, 64, 65, 80, 96, 128, 130}, groups[] = {1, 1, 2, 3, 4, 5, 7, 9, 13, 33};
  int B = 1 + (int)below(2), T = pick(lengths, 15), K = 1 + (int)below(3), G = pick(groups, 10), N = K * G, S = pick(key_lengths, 16);
  int H = pick(dims, 20), Hv = below(3) ? H : pick(dims, 20), kt = TYPES[below(4)], vt = TYPES[below(4)];
  /* The values are the first dims of the keys, in the same memory. */
  int latent = below(4) == 0;
  if (latent && Hv > H) Hv = H;
  if (latent) vt = kt;
  int value_head = head_stride(vt, latent ? H : Hv);
  if ((double)B * T * N * S * (H + Hv) > 4e7) T = 2, G = 3, N = K * G;
  int causal = (int)below(2), windowed = below(4) == 0, with_mask = below(3) == 0, with_bias = below(3) == 0, with_sinks = below(3) == 0, with_lse = below(2), with_rest = with_lse && below(2), heads_first = below(2);
  float cap = below(4) == 0 ? 5.0f : 0.0f, scale = 1.0f / sqrtf((float)H);
  int64_t left = windowed ? below(40) : 1 << 30, right = causal ? 0 : windowed ? below(40) : 1 << 30, chunk = below(4) == 0 ? 1 + below(60) : 0;
  /* Products in bf16 where the call may have them: `want` is then computed from rounded operands. */
  const int precision = below(3) ? GQA_HIGHEST : GQA_BFLOAT16, narrow = ATTN_NR % BF16_COLUMNS == 0 && precision == GQA_BFLOAT16 && T > ATTN_FEW_QUERIES && !with_rest && H >= ATTN_BF16_LEAST && T * G >= ATTN_BF16_LEAST;
  float *q = new_floats((size_t)B * T * N * H), *out = new_floats((size_t)B * T * N * Hv), *lse = new_floats((size_t)B * T * N), *sinks = new_floats((size_t)N), *rest = new_floats((size_t)B * T * N);
  double *want = new_doubles((size_t)B * T * N * Hv), *want_lse = new_doubles((size_t)B * T * N);
  for (int i = 0; i < B * T * N * H; i++) q[i] = 2 * uniform();
  for (int i = 0; i < N; i++) sinks[i] = uniform();
  /* Mask and bias broadcast over B and N at random. */
  int mb = (int)below(2), mn = (int)below(2), bb = (int)below(2), bn = (int)below(2);
  size_t masks = (size_t)(mb ? B : 1) * (mn ? N : 1) * T * S, biases = (size_t)(bb ? B : 1) * (bn ? N : 1) * T * S;
  uint8_t *mask = new_bytes(masks);
  float *bias = new_floats(biases);
  int hidden = with_mask && S ? (int)below((uint32_t)S) : -1; /* from every query */
  for (size_t i = 0; i < masks; i++) mask[i] = below(4) != 0 && (int)(i % (size_t)S) != hidden;
  for (size_t i = 0; i < biases; i++) bias[i] = below(8) ? uniform() : -INFINITY;
  /* Scores grow from tile to tile, so that each row's reference must change. */
  if (S <= 300 && below(2))
    for (size_t i = 0; i < biases; i++) bias[i] += 0.15f * (float)(i % (size_t)S);
  /* A bias common to all keys must not cost precision of the scores. */
  static const float commons[] = {-1e3f, -1e6f, -1e9f, 1e9f, -3.4e38f, -0x1.fffffep+127f};
  float common = with_bias && below(3) == 0 ? commons[below(6)] : 0;
  for (size_t i = 0; i < biases; i++) bias[i] += common;
  double args[64 + 2 * 5 + 2 * 3 * 8];
  int n = 0;
#define PUT(x) args[n++] = (double)(x)
  int64_t qs[3] = {(int64_t)T * N * H, heads_first ? H : N * H, heads_first ? T * H : H}, os[3] = {(int64_t)T * N * Hv, heads_first ? Hv : N * Hv, heads_first ? T * Hv : Hv};
  PUT(address(out)), PUT(os[0]), PUT(os[1]), PUT(os[2]), PUT(address(q)), PUT(qs[0]), PUT(qs[1]), PUT(qs[2]);
  PUT(B), PUT(T), PUT(N), PUT(K), PUT(H), PUT(Hv), PUT(kt), PUT(K * head_stride(kt, H)), PUT(head_stride(kt, H)), PUT(vt), PUT(K * value_head), PUT(value_head);
  PUT(precision), PUT(scale), PUT(cap), PUT(left), PUT(right), PUT(chunk);
  int64_t ms[4] = {mb ? (int64_t)(mn ? N : 1) * T * S : 0, mn ? (int64_t)T * S : 0, S, 1}, bs[4] = {bb ? (int64_t)(bn ? N : 1) * T * S : 0, bn ? (int64_t)T * S : 0, S, 1};
  PUT(with_mask ? address(mask) : 0), PUT(ms[0]), PUT(ms[1]), PUT(ms[2]), PUT(ms[3]);
  PUT(with_bias ? address(bias) : 0), PUT(bs[0]), PUT(bs[1]), PUT(bs[2]), PUT(bs[3]);
  PUT(with_sinks ? address(sinks) : 0), PUT(with_lse ? address(lse) : 0), PUT(with_rest ? address(rest) : 0), PUT(T * N), PUT(N), PUT(1);
  PUT(0), PUT(0), PUT(0), PUT(0);
  const int n_fixed = n;
  int segments[2], query_length[2], key_length[2], offset[2], start[2], at = n + 5 * B, count = 0;
  void *buffers[2 * 8 * 2];
  int used = 0;
  double *ks[2], *vs[2];
  for (int b = 0; b < B; b++) {
    key_length[b] = below(2) ? S : (int)below((uint32_t)S + 1);
    query_length[b] = below(2) ? T : (int)below((uint32_t)T + 1);
    offset[b] = below(2) ? key_length[b] - query_length[b] : (int)below(20);
    segments[b] = 1 + (int)below(4);
    /* Position in the sequence: elsewhere than among the keys where its first keys are gone. */
    start[b] = offset[b] + (below(2) ? 0 : (int)below(50));
    PUT(query_length[b]), PUT(offset[b]), PUT(start[b]), PUT(key_length[b]), PUT(count);
    ks[b] = new_doubles((size_t)S * K * H), vs[b] = new_doubles((size_t)S * K * Hv);
    int done = 0;
    for (int s = 0; s < segments[b]; s++) {
      int length = s == segments[b] - 1 ? S - done : (int)below((uint32_t)(S - done) + 1);
      void *key = store_segment(kt, (size_t)length * K, H, ks[b] + (size_t)done * K * H), *value = latent ? key : store_segment(vt, (size_t)length * K, Hv, vs[b] + (size_t)done * K * Hv);
      if (latent)
        for (int j = 0; j < length * K; j++) memcpy(vs[b] + ((size_t)done * K + (size_t)j) * Hv, ks[b] + ((size_t)done * K + (size_t)j) * H, (size_t)Hv * sizeof(double));
      for (int j = 0; j < length; j++)
        if (done + j == hidden || done + j >= key_length[b] || done + j > query_length[b] - 1 + offset[b] + right) {
          poison(kt, key, (size_t)j, K, H);
          /* Beside a NaN among the values a unit runs in f32. */
          if (!latent && (!narrow || number % 2)) poison(vt, value, (size_t)j, K, Hv);
        }
      buffers[used++] = key;
      if (!latent) buffers[used++] = value;
      args[at++] = address(key), args[at++] = address(value), args[at++] = length;
      count++, done += length;
    }
  }
  op_attention(args);
  /* A few queries have the same bits as each alone, on one thread. */
  const int threads = gqa_threads();
  gqa_set_threads(1);
  for (int b = 0; b < B && number % 4 == 0 && T <= ATTN_FEW_QUERIES && !with_rest; b++)
    for (int t = 0; t < T; t++) {
      float *alone = new_floats((size_t)N * Hv);
      double call[64 + 5 + 3 * 8];
      memcpy(call, args, (size_t)n_fixed * sizeof(double));
      call[0] = address(alone), call[2] = 0, call[3] = Hv, call[4] = address(q + b * qs[0] + t * qs[1]), call[8] = 1, call[9] = 1;
      if (with_mask) call[26] = address(mask + b * ms[0] + t * ms[2]);
      if (with_bias) call[31] = address(bias + b * bs[0] + t * bs[2]);
      call[37] = 0;
      memcpy(call + n_fixed, ((double[]){t < query_length[b], offset[b] + t, start[b] + t, key_length[b], 0}), 5 * sizeof(double));
      memcpy(call + n_fixed + 5, args + n_fixed + 5 * B + 3 * (size_t)args[n_fixed + 5 * b + 4], (size_t)segments[b] * 3 * sizeof(double));
      op_attention(call);
      for (int h = 0; h < N; h++) check_bytes(out + b * os[0] + t * os[1] + h * os[2], alone + (size_t)h * Hv, (size_t)Hv * sizeof(float), "attention %d: query %d of row %d alone, T %d G %d S %d H %d", number, t, b, T, G, S, H);
      free(alone);
    }
  gqa_set_threads(threads);
  double *p = new_doubles((size_t)S), largest = 1;
  for (int b = 0; b < B; b++)
    for (int t = 0; t < T; t++)
      for (int h = 0; h < N; h++) {
        double top = -INFINITY, sum = 0;
        for (int j = 0; j < S; j++) {
          int64_t position = t + offset[b];
          int seen = t < query_length[b] && j < key_length[b] && j >= position - left && j <= position + right;
          if (chunk) seen &= floor((double)(j - position + start[b] + t) / (double)chunk) == floor((double)(start[b] + t) / (double)chunk);
          if (with_mask) seen &= mask[b * ms[0] + h * ms[1] + t * ms[2] + j] != 0;
          p[j] = -INFINITY;
          if (!seen) continue;
          double x = 0;
          for (int d = 0; d < H; d++) {
            const double key = ks[b][((size_t)j * K + h / G) * H + d];
            const float query = q[b * qs[0] + t * qs[1] + h * qs[2] + d];
            x += narrow ? bfloat(query * scale) * bfloat((float)key) : (double)query * key * scale;
          }
          if (cap != 0) x = cap * tanh(x / cap);
          if (with_bias) x += bias[b * bs[0] + h * bs[1] + t * bs[2] + j];
          p[j] = x;
          if (x > top) top = x;
        }
        int live = t < query_length[b];
        if (with_sinks && live && sinks[h] > top) top = sinks[h];
        for (int j = 0; j < S; j++) p[j] = p[j] == -INFINITY ? 0 : exp(p[j] - top), sum += p[j];
        if (with_sinks && live) sum += exp(sinks[h] - top);
        want_lse[(b * T + t) * N + h] = sum > 0 ? top + log(sum) : -INFINITY;
        for (int d = 0; d < Hv; d++) {
          double x = 0;
          for (int j = 0; j < S; j++)
            if (p[j] != 0) {
              const double value = vs[b][((size_t)j * K + h / G) * Hv + d];
              x += p[j] * (narrow ? bfloat((float)value) : value);
              if (fabs(value) > largest) largest = fabs(value);
            }
          want[b * os[0] + t * os[1] + h * os[2] + d] = sum > 0 ? x / sum : 0;
        }
      }
  /*
   * Weights are rounded to bf16, each by at most 2^-8 of it; the errors partly cancel: 2^-9 of the largest
   * value. Where a unit may have run in f32, all operands' roundings count.
   */
  const double tolerance = !narrow ? 1e-5 : hidden < 0 ? 0x1.1p-9 * largest : 0.05 * largest, lse_tolerance = !narrow || hidden < 0 ? 1e-5 : 0.05;
  check_floats(out, want, (size_t)B * T * N * Hv, tolerance, "attention case %d: B%d T%d S%d N%d K%d H%d Hv%d types %d %d causal %d window %d chunk %d mask %d bias %d sinks %d cap %g", number, B, T, S, N, K, H, Hv, kt, vt, causal, windowed, (int)chunk, with_mask, with_bias, with_sinks, cap);
  if (with_lse) check_floats(lse, want_lse, (size_t)B * T * N, lse_tolerance, "log-sum-exp case %d", number);
  if (with_rest) {
    double error = 0;
    for (int i = 0; i < B * T * N; i++)
      if (isfinite(want_lse[i])) error = fmax(error, fabs(want_lse[i] - lse[i] - rest[i]) / fmax(1, fabs(want_lse[i]) * 1e-10));
    check_floats((float[]){(float)error}, (double[]){0}, 1, 1e-5, "rest of the log-sum-exp, case %d common %g", number, common);
  }
  for (int i = 0; i < used; i++) free(buffers[i]);
  for (int b = 0; b < B; b++) free(ks[b]), free(vs[b]);
  free(q), free(out), free(lse), free(rest), free(sinks), free(want), free(want_lse), free(mask), free(bias), free(p);
}

/*
 * Numbers at the ends of f32: scores q * key of S keys, key[last] the largest; all values are `value`, the
 * last is `last`.
 */
static void end_case(const char *name, int precision, int T, int S, float q, float key, float top, float value, float last, double scale, double cap, float bias, float sink, double want) {
  enum { H = 32 };
  float *qs = new_floats((size_t)T * H), *ks = new_floats((size_t)S * H), *vs = new_floats((size_t)S * H), *out = new_floats((size_t)T * H), *lse = new_floats((size_t)T);
  double *wants = new_doubles((size_t)T * H);
  for (int i = 0; i < T * H; i++) qs[i] = i % H ? 0 : q, wants[i] = want;
  for (int i = 0; i < S * H; i++) ks[i] = i % H ? 0 : i / H == S - 1 ? top : key, vs[i] = i / H == S - 1 ? last : value;
  op_attention((double[]){address(out), T * H, H, H, address(qs), T * H, H, H, 1, T, 1, 1, H, H, GQA_F32, H, H, GQA_F32, H, H, precision, scale, cap, 1 << 30, 1 << 30, 0,
                          0, 0, 0, 0, 0, bias == 0 ? 0 : address(&bias), 0, 0, 0, 0, sink == 0 ? 0 : address(&sink), address(lse), 0, T, 1, 1, 0, 0, 0, 0, T, 0, 0, S, 0, address(ks), address(vs), S});
  check_floats(out, wants, (size_t)T * H, precision == GQA_BFLOAT16 ? 0x1.1p-8 : 1e-6, "%s, precision %d T %d S %d", name, precision, T, S);
  free(qs), free(ks), free(vs), free(out), free(lse), free(wants);
}

/* The decode form, the panel form, and keys split into chunks. */
static void end_cases(void) {
  static const int shapes[][3] = {{GQA_HIGHEST, 1, 2}, {GQA_HIGHEST, 1, 3000}, {GQA_HIGHEST, 40, 2}, {GQA_HIGHEST, 40, 3000}, {GQA_BFLOAT16, 40, 2}, {GQA_BFLOAT16, 40, 3000}};
  const float lowest = -0x1.fffffep+127f;
  for (int i = 0; i < 6; i++) {
    const int p = shapes[i][0], T = shapes[i][1], S = shapes[i][2];
    const double mean = (3.0 + (S - 1)) / S;
    end_case("scores of 3.2e38", p, T, S, 1.8e19f, 1e19f, 1.8e19f, 1, 3, 1, 0, 0, 0, 3);
    end_case("scores of -3.2e38", p, T, S, 1.8e19f, -1.8e19f, -1e19f, 1, 3, 1, 0, 0, 0, 3);
    end_case("equal scores of -3.2e38", p, T, S, 1.8e19f, -1.8e19f, -1.8e19f, 1, 3, 1, 0, 0, 0, mean);
    end_case("scores beyond f32", p, T, S, 1e20f, 1e19f, 1e20f, 1, 3, 1, 0, 0, 0, 3);
    end_case("equal scores below f32", p, T, S, 1e20f, -1e20f, -1e20f, 1, 3, 1, 0, 0, 0, mean);
    end_case("values of 3e38", p, T, S, 1, 1, 1, 3e38f, 3e38f, 1, 0, 0, 0, 3e38f);
    end_case("the lowest bias", p, T, S, 1, 1, 1, 1, 3, 1, 0, lowest, 0, mean);
    end_case("the lowest bias, low scores", p, T, S, 1.8e19f, -1.8e19f, -1.8e19f, 1, 3, 1, 0, lowest, 0, mean);
    end_case("the largest bias", p, T, S, 1, 1, 1, 1, 3, 1, 0, -lowest, 0, mean);
    end_case("a masking bias", p, T, S, 1, 1, 1, 1, 3, 1, 0, -INFINITY, 0, 0);
    end_case("a cap beyond f32", p, T, S, 1, 0, 30, 1, 3, 1, 1e39, 0, 0, 3);
    end_case("a cap below f32", p, T, S, 1, 1, 30, 1, 3, 1, 1e-46, 0, 0, mean);
    end_case("a sink of 3e38", p, T, S, 1, 1, 1, 1, 3, 1, 0, 0, 3e38f, 0);
    end_case("a sink of -3e38", p, T, S, 1, 1, 1, 1, 3, 1, 0, 0, -3e38f, mean);
    end_case("a sink of 3e38, the lowest bias", p, T, S, 1, 1, 1, 1, 3, 1, 0, lowest, 3e38f, 0);
    end_case("a scale beyond f32", p, T, S, 1, 0, 1, 1, 3, 1e39, 0, 0, 0, 3);
    end_case("a scale below f32", p, T, S, 1e19f, 0, 1e19f, 1, 3, 1e-46, 0, 0, 0, mean);
    end_case("NaN", p, T, S, 1, 1, NAN, 1, 3, 1, 0, 0, 0, NAN);
  }
}

int main(void) {
  const bf16_unit plain = {loops};
  gqa_units.bf16 = &plain;
  for (int i = 0; i < 1500; i++) random_case(i);
  end_cases();
#if VL == 16 || defined(__aarch64__) /* the kernels that are used with units */
  const bf16_unit *units[MOST_UNITS];
  const char *names[MOST_UNITS];
  for (int u = 0; u < bf16_units_here(units, names); u++) {
    printf("%s\n", names[u]);
    gqa_units.bf16 = units[u];
    for (int i = 0; i < 300; i++) random_case(i);
    end_cases();
  }
#endif
  return report("test_attention");
}
