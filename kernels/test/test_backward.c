/*
 * test_backward.c: the backward kernels against plain loops in double, for random shapes and options, in
 * buffers of exactly the needed size, so that the address sanitizer reports any access past an end. The bits
 * must be the same for any number of threads.
 */
#include "check.h"
#include "attention.c"
#include "attention_backward.c"
#include "copy.c"
#include "loss.c"
#include "norm.c"
#include "optimizer.c"

static uint32_t below(uint32_t n) { return random_bits() % n; }
static int pick(const int *values, int count) { return values[below((uint32_t)count)]; }

/* One output of a call, of exactly its size and NaN before, and the expected sums in double. */
typedef struct {
  float *got;
  double *want;
  size_t n;
} result;

static result new_result(size_t n) {
  result r = {new_floats(n), new_doubles(n), n};
  for (size_t i = 0; i < n; i++) r.want[i] = 0;
  return r;
}

static void attention_case(int number) {
  static const int lengths[] = {1, 2, 3, 5, 7, 8, 13, 17, 33, 50, 97, 200}, dims[] = {1, 3, 4, 8, 13, 16, 17, 31, 32, 33, 48, 64, 65, 80, 128}, groups[] = {1, 1, 2, 3, 4, 7};
  int B = 1 + (int)below(2), T = pick(lengths, 12), S = pick(lengths, 12), K = 1 + (int)below(3), G = pick(groups, 6), N = K * G, H = pick(dims, 15), Hv = below(3) ? H : pick(dims, 15);
  if ((double)B * T * N * S * (H + Hv) > 1e7) T = 5, G = 2, N = K * G;
  int causal = (int)below(2), windowed = below(4) == 0, with_mask = below(3) == 0, with_bias = below(3) == 0, with_sinks = below(3) == 0, with_lse = (int)below(2), repeats = (int)below(4);
  float cap = below(4) == 0 ? 3.0f : 0.0f, scale = 1.0f / sqrtf((float)H);
  int64_t left = windowed ? below(30) : 1 << 30, right = causal ? 0 : windowed ? below(30) : 1 << 30, chunk = below(4) == 0 ? 1 + below(40) : 0;
  size_t queries = (size_t)B * T * N;
  float *q = random_floats(queries * H), *k = random_floats((size_t)B * S * K * H), *v = random_floats((size_t)B * S * K * Hv), *out = new_floats(queries * Hv), *lse = new_floats(queries), *rest = new_floats(queries);
  float *d_out = random_floats(queries * Hv), *d_lse = random_floats(queries), *sinks = random_floats((size_t)N);
  /* The bias repeats along some axes. */
  int64_t bn = repeats & 1 ? 0 : T * S, bt = repeats & 2 ? 0 : S, bb = repeats & 1 ? 0 : (int64_t)N * T * S;
  size_t biases = (size_t)(bb ? B * N * T * S : T * S);
  float *bias = random_floats(biases);
  /* A bias common to all keys must not cost precision of the gradients. */
  static const float commons[] = {-1e3f, -1e6f, -1e9f, 1e9f, -3.4e38f, -0x1.fffffep+127f};
  const float common = with_bias && below(3) == 0 ? commons[below(6)] : 0;
  for (size_t i = 0; i < biases; i++) bias[i] += common;
  uint8_t *mask = new_bytes((size_t)T * S);
  for (int i = 0; i < T * S; i++) mask[i] = below(4) != 0;
  result dq = new_result(queries * H), dk = new_result((size_t)B * S * K * H), dv = new_result((size_t)B * S * K * Hv), db = new_result(biases), ds = new_result((size_t)N);
  double args[10 + 64 + 2 * 5 + 2 * 3];
  int n = 0, query_length[2], key_length[2], offset[2];
#define PUT(x) args[n++] = (double)(x)
  PUT(address(d_out)), PUT(with_lse ? address(d_lse) : 0), PUT(address(dq.got)), PUT(address(dk.got)), PUT(address(dv.got)), PUT(with_bias ? address(db.got) : 0), PUT(with_sinks ? address(ds.got) : 0);
  PUT(S * K * H), PUT(S * K * Hv), PUT(biases);
  PUT(address(out)), PUT(T * N * Hv), PUT(N * Hv), PUT(Hv), PUT(address(q)), PUT(T * N * H), PUT(N * H), PUT(H);
  PUT(B), PUT(T), PUT(N), PUT(K), PUT(H), PUT(Hv), PUT(GQA_F32), PUT(K * H), PUT(H), PUT(GQA_F32), PUT(K * Hv), PUT(Hv);
  PUT(GQA_HIGHEST), PUT(scale), PUT(cap), PUT(left), PUT(right), PUT(chunk);
  PUT(with_mask ? address(mask) : 0), PUT(0), PUT(0), PUT(S), PUT(1);
  PUT(with_bias ? address(bias) : 0), PUT(bb), PUT(bn), PUT(bt), PUT(1);
  PUT(with_sinks ? address(sinks) : 0), PUT(address(lse)), PUT(address(rest)), PUT(T * N), PUT(N), PUT(1), PUT(0), PUT(0), PUT(0), PUT(0);
  for (int b = 0; b < B; b++) {
    key_length[b] = below(2) ? S : (int)below((uint32_t)S + 1), query_length[b] = below(2) ? T : (int)below((uint32_t)T + 1);
    offset[b] = below(2) ? key_length[b] - query_length[b] : (int)below(20);
    PUT(query_length[b]), PUT(offset[b]), PUT(offset[b]), PUT(key_length[b]), PUT(b);
  }
  for (int b = 0; b < B; b++) PUT(address(k + (size_t)b * S * K * H)), PUT(address(v + (size_t)b * S * K * Hv)), PUT(S);
  op_attention(args + 10);
  op_attention_backward(args);
  double *p = new_doubles((size_t)S), *capped = new_doubles((size_t)S);
  for (int b = 0; b < B; b++)
    for (int t = 0; t < T && t < query_length[b]; t++)
      for (int h = 0; h < N; h++) {
        size_t row = (size_t)(b * T + t) * N + h;
        double top = with_sinks ? sinks[h] : -INFINITY, sum = 0, delta = with_lse ? -d_lse[row] : 0;
        for (int j = 0; j < S; j++) {
          int64_t position = t + offset[b];
          p[j] = -INFINITY;
          if (chunk && floor((double)j / (double)chunk) != floor((double)position / (double)chunk)) continue;
          if (j >= key_length[b] || j < position - left || j > position + right || (with_mask && !mask[t * S + j])) continue;
          double x = 0;
          for (int d = 0; d < H; d++) x += (double)q[row * H + d] * k[((size_t)(b * S + j) * K + h / G) * H + d];
          x *= scale;
          capped[j] = cap != 0 ? cap * tanh(x / cap) : x;
          p[j] = capped[j] + (with_bias ? bias[b * bb + h * bn + t * bt + j] : 0);
          if (p[j] > top) top = p[j];
        }
        if (top == -INFINITY) continue;
        if (with_sinks) sum = exp(sinks[h] - top);
        for (int j = 0; j < S; j++) p[j] = p[j] == -INFINITY ? 0 : exp(p[j] - top), sum += p[j];
        for (int j = 0; j < S; j++) p[j] /= sum;
        for (int d = 0; d < Hv; d++) {
          double o = 0;
          for (int j = 0; j < S; j++) o += p[j] * v[((size_t)(b * S + j) * K + h / G) * Hv + d];
          delta += o * d_out[row * Hv + d];
        }
        if (with_sinks) ds.want[h] -= exp(sinks[h] - top) / sum * delta;
        for (int j = 0; j < S; j++) {
          if (p[j] == 0) continue;
          size_t key = (size_t)(b * S + j) * K + h / G;
          double change = 0;
          for (int d = 0; d < Hv; d++) change += (double)d_out[row * Hv + d] * v[key * Hv + d], dv.want[key * Hv + d] += p[j] * d_out[row * Hv + d];
          change = p[j] * (change - delta);
          db.want[b * bb + h * bn + t * bt + j] += change;
          if (cap != 0) change *= 1 - capped[j] / cap * (capped[j] / cap);
          for (int d = 0; d < H; d++) dq.want[row * H + d] += scale * change * k[key * H + d], dk.want[key * H + d] += scale * change * q[row * H + d];
        }
      }
  const struct {
    const char *name;
    result *r;
    int there;
  } all[] = {{"dQuery", &dq, 1}, {"dKey", &dk, 1}, {"dValue", &dv, 1}, {"dBias", &db, with_bias}, {"dSinks", &ds, with_sinks}};
  for (int i = 0; i < 5; i++) {
    if (all[i].there)
      check_floats(all[i].r->got, all[i].r->want, all[i].r->n, 2e-5, "%s case %d: B%d T%d S%d N%d K%d H%d Hv%d causal %d window %d chunk %d mask %d bias %d sinks %d cap %g", all[i].name, number, B, T, S, N, K, H, Hv, causal, windowed, (int)chunk, with_mask, with_bias, with_sinks, cap);
    free(all[i].r->got), free(all[i].r->want);
  }
  free(q), free(k), free(v), free(out), free(lse), free(rest), free(d_out), free(d_lse), free(sinks), free(bias), free(mask), free(p), free(capped);
}

/* One (batch, KV head): its rows are cut into chunks that are added up afterwards. */
static void test_threads(void) {
  enum { T = 700, N = 2, H = 40 };
  float *q = random_floats(T * N * H), *k = random_floats(T * H), *v = random_floats(T * H), *out = new_floats(T * N * H), *lse = new_floats(T * N), *rest = new_floats(T * N), *d_out = random_floats(T * N * H);
  float *grads[2];
  for (int run = 0; run < 2; run++) {
    grads[run] = new_floats(T * N * H + 2 * T * H);
    float *dk = grads[run] + T * N * H;
    double args[] = {address(d_out), 0, address(grads[run]), address(dk), address(dk + T * H), 0, 0, T * H, T * H, 0,
                     address(out), T * N * H, N * H, H, address(q), T * N * H, N * H, H, 1, T, N, 1, H, H, GQA_F32, H, H, GQA_F32, H, H, GQA_HIGHEST, 0.2, 0, 1 << 30, 0, 0,
                     0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, address(lse), address(rest), T * N, N, 1, 0, 0, 0, 0, T, 0, 0, T, 0, address(k), address(v), T};
    gqa_set_threads(run ? 3 : 1);
    op_attention(args + 10);
    op_attention_backward(args);
  }
  check_bytes(grads[1], grads[0], (T * N * H + 2 * T * H) * sizeof(float), "attention_backward on 1 and 3 threads");
  free(q), free(k), free(v), free(out), free(lse), free(rest), free(d_out), free(grads[0]), free(grads[1]);
}

static void norm_case(size_t rows, size_t n, int centred) {
  float *x = random_floats(rows * n), *g = random_floats(rows * n), *w = random_floats(n);
  result dx = new_result(rows * n), dw = new_result(n), db = new_result(n);
  op_norm_backward((double[]){centred, address(g), address(x), (double)rows, (double)n, address(w), 1e-5, 0.5, address(dx.got), address(dw.got), address(db.got)});
  for (size_t r = 0; r < rows; r++) {
    double mean = 0, squares = 0, sum = 0, dot = 0;
    for (size_t i = 0; i < n && centred; i++) mean += x[r * n + i] / (double)n;
    for (size_t i = 0; i < n; i++) squares += (x[r * n + i] - mean) * (x[r * n + i] - mean) / (double)n;
    double factor = 1 / sqrt(squares + 1e-5);
    for (size_t i = 0; i < n; i++) {
      double u = (x[r * n + i] - mean) * factor, h = g[r * n + i] * (w[i] + 0.5);
      sum += centred ? h / (double)n : 0, dot += h * u / (double)n;
      dw.want[i] += g[r * n + i] * u, db.want[i] += g[r * n + i];
    }
    for (size_t i = 0; i < n; i++) dx.want[r * n + i] = factor * (g[r * n + i] * (w[i] + 0.5) - sum - (x[r * n + i] - mean) * factor * dot);
  }
  check_floats(dx.got, dx.want, dx.n, 1e-3, "norm_backward dX rows %zu n %zu centred %d", rows, n, centred);
  check_floats(dw.got, dw.want, n, 1e-4, "norm_backward dWeight rows %zu n %zu centred %d", rows, n, centred);
  check_floats(db.got, db.want, n, 1e-5, "norm_backward dBias rows %zu n %zu", rows, n);
  free(x), free(g), free(w), free(dx.got), free(dx.want), free(dw.got), free(dw.want), free(db.got), free(db.want);
}

static void loss_case(size_t rows, size_t n) {
  float *x = random_floats(rows * n), *g = random_floats(rows), *loss = new_floats(rows), *sums = new_floats(2 * rows);
  int32_t *labels = new_bytes(rows * sizeof(int32_t));
  result dx = new_result(rows * n);
  double *want = new_doubles(rows);
  /* A large number is added to all logits. */
  const float common = below(2) ? 0 : below(2) ? 1e7f : -1e7f;
  for (size_t i = 0; i < rows * n && common != 0; i++) x[i] = common + (float)((int)below(9) - 4);
  for (size_t r = 0; r < rows; r++) {
    labels[r] = below(5) ? (int32_t)below((uint32_t)n) : -1;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)x[r * n + i] - common);
    want[r] = labels[r] < 0 ? 0 : log(sum) - ((double)x[r * n + (size_t)labels[r]] - common);
    for (size_t i = 0; i < n; i++) dx.want[r * n + i] = labels[r] < 0 ? 0 : g[r] * (exp((double)x[r * n + i] - common) / sum - ((int32_t)i == labels[r]));
  }
  op_cross_entropy((double[]){address(loss), address(sums), address(x), address(labels), (double)rows, (double)n});
  op_cross_entropy_backward((double[]){address(dx.got), address(x), address(sums), address(labels), address(g), (double)rows, (double)n});
  check_floats(loss, want, rows, 1e-6, "cross_entropy rows %zu n %zu", rows, n);
  check_floats(dx.got, dx.want, dx.n, 1e-6, "cross_entropy_backward rows %zu n %zu", rows, n);
  free(x), free(g), free(loss), free(sums), free(labels), free(dx.got), free(dx.want), free(want);
}

static void embedding_case(size_t V, size_t D, size_t n) {
  float *g = random_floats(n * D);
  int32_t *ids = new_bytes(n * sizeof(int32_t));
  result table = new_result(V * D);
  for (size_t i = 0; i < n; i++) {
    ids[i] = (int32_t)below((uint32_t)V);
    for (size_t d = 0; d < D; d++) table.want[(size_t)ids[i] * D + d] += g[i * D + d];
  }
  op_embedding_backward((double[]){address(table.got), (double)V, (double)D, address(ids), (double)n, address(g)});
  check_floats(table.got, table.want, V * D, 1e-5, "embedding_backward V %zu D %zu n %zu", V, D, n);
  free(g), free(ids), free(table.got), free(table.want);
}

/* Two parameters, of n and 3 elements, the second without decay. */
static void adamw_case(size_t n) {
  enum { MORE = 3 };
  const size_t all = n + MORE;
  float *p = random_floats(all), *g = random_floats(all), *m = new_floats(all), *v = new_floats(all), factor = 0.5f, squares;
  double *want = new_doubles(all), *wm = new_doubles(all), *wv = new_doubles(all), sum = 0;
  for (size_t i = 0; i < all; i++) want[i] = p[i], wm[i] = wv[i] = 0, m[i] = v[i] = 0, sum += (double)g[i] * g[i];
  op_sum_of_squares((double[]){address(&squares), 2, address(g), (double)n, address(g + n), MORE});
  check_floats(&squares, &sum, 1, 1e-6, "sum_of_squares n %zu", n);
  for (int step = 1; step <= 3; step++) {
    double c1 = 1 - pow(0.9, step), c2 = 1 - pow(0.99, step);
    op_adamw((double[]){address(&factor), 0.01, 0.9, 0.99, 1e-8, c1, c2, 2, address(p), (double)n, address(g), address(m), address(v), 0.1,
                        address(p + n), MORE, address(g + n), address(m + n), address(v + n), 0});
    for (size_t i = 0; i < all; i++) {
      double gradient = 0.5 * g[i];
      wm[i] = 0.9 * wm[i] + 0.1 * gradient, wv[i] = 0.99 * wv[i] + 0.01 * gradient * gradient;
      want[i] -= 0.01 * (wm[i] / c1 / (sqrt(wv[i] / c2) + 1e-8) + (i < n ? 0.1 * want[i] : 0));
    }
  }
  check_floats(p, want, all, 1e-6, "adamw n %zu", n);
  free(p), free(g), free(m), free(v), free(want), free(wm), free(wv);
}

int main(void) {
  for (int i = 0; i < 400; i++) attention_case(i);
  test_threads();
  static const size_t sizes[] = {1, 3, 7, 16, 17, 33, 64, 101};
  for (size_t i = 0; i < 8; i++) {
    for (int centred = 0; centred < 2; centred++) norm_case(5, sizes[i], centred), norm_case(400, sizes[i], centred);
    loss_case(1, sizes[i]), loss_case(700, sizes[i]);
    embedding_case(13, sizes[i], 29), embedding_case(5, sizes[i], 1000);
    adamw_case(sizes[i]);
  }
  adamw_case(40000);
  return report("test_backward");
}
