/*
 * test_experts.c: the choice of experts, their projections in both orders and the gradients, against plain
 * loops in double.
 */
#include "check.h"
#include "copy.c"
#include "linear.c"
#include "linear_backward.c"
#include "matmul.c"
#include "experts.c"

static int32_t *random_ids(size_t n, size_t experts) {
  int32_t *ids = new_bytes(n * sizeof(int32_t));
  for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(random_bits() % experts);
  return ids;
}

static void test_choose(size_t rows, size_t experts, size_t groups, size_t kept, size_t best, size_t k, int biased) {
  float *scores = random_floats(rows * experts), *bias = biased ? random_floats(experts) : 0, *values = new_floats(rows * k);
  int32_t *ids = new_bytes(rows * k * sizeof(int32_t));
  op_choose_experts((double[]){address(scores), (double)rows, (double)experts, address(bias), (double)groups, (double)kept, (double)best, (double)k, address(values), address(ids)});
  double *want = new_doubles(rows * k);
  int wrong = 0;
  for (size_t r = 0; r < rows; r++) {
    const size_t size = experts / groups;
    double judged[64];
    for (size_t g = 0; g < groups; g++) { /* the `best` largest, one after the other */
      double last = INFINITY;
      judged[g] = 0;
      for (size_t i = 0; i < best; i++) {
        double next = -INFINITY;
        for (size_t e = g * size; e < (g + 1) * size; e++) {
          const float choice = biased ? scores[r * experts + e] + bias[e] : scores[r * experts + e];
          if (choice < last && choice > next) next = choice;
        }
        judged[g] += last = next;
      }
    }
    for (size_t i = 0; i < k; i++) { /* the i-th is beaten by exactly i others of kept groups */
      const size_t e = (size_t)ids[r * k + i];
      want[r * k + i] = scores[r * experts + e];
      size_t better = 0, group_rank = 0;
      const float own = biased ? scores[r * experts + e] + bias[e] : scores[r * experts + e];
      for (size_t g = 0; g < groups; g++) group_rank += judged[g] > judged[e / size];
      for (size_t other = 0; other < experts; other++) {
        size_t rank = 0;
        for (size_t g = 0; g < groups; g++) rank += judged[g] > judged[other / size];
        const float choice = biased ? scores[r * experts + other] + bias[other] : scores[r * experts + other];
        better += rank < kept && choice > own;
      }
      wrong += better != i || group_rank >= kept;
    }
  }
  check_floats(values, want, rows * k, 0, "choose_experts rows=%zu experts=%zu groups=%zu", rows, experts, groups);
  check_floats((float[]){(float)wrong}, (double[]){0}, 1, 0, "choose_experts order rows=%zu experts=%zu groups=%zu", rows, experts, groups);
  free(scores), free(bias), free(values), free(ids), free(want);
}

static void test_expert_linear(size_t rows, size_t each, size_t shares, size_t K, size_t outs, size_t experts, int type, int transposed, int biased) {
  const size_t pairs = rows * each, count = shares ? each : 1;
  float *x = random_floats(pairs / count * K), *y[2] = {new_floats(pairs * outs), new_floats(pairs * outs)};
  int32_t *ids = random_ids(pairs, experts);
  const size_t length = 9 + 2 * (3 + 2 * experts);
  double *a = new_doubles(length), *at = a + 9;
  float **w[2] = {malloc(experts * sizeof(float *)), malloc(experts * sizeof(float *))}, **bias = malloc(experts * sizeof(float *));
  memcpy(a, (double[]){address(x), (double)pairs, (double)count, (double)K, address(ids), (double)experts, transposed, GQA_HIGHEST, 2}, 9 * sizeof(double));
  void **stored = malloc(2 * experts * sizeof(void *));
  for (int part = 0; part < 2; part++) {
    *at++ = type, *at++ = (double)outs, *at++ = address(y[part]);
    for (size_t e = 0; e < experts; e++) {
      w[part][e] = random_floats(K * outs);
      stored[part * experts + e] = new_bytes(stored_bytes(type, K * outs));
      op_convert((double[]){address(stored[part * experts + e]), type, 0, address(w[part][e]), GQA_F32, 0, (double)(K * outs)});
      op_convert((double[]){address(w[part][e]), GQA_F32, 0, address(stored[part * experts + e]), type, 0, (double)(K * outs)});
      if (part == 0) bias[e] = biased ? random_floats(outs) : 0;
      *at++ = address(stored[part * experts + e]), *at++ = address(bias[e]);
    }
  }
  op_expert_linear(a);
  double *want = new_doubles(pairs * outs);
  for (int part = 0; part < 2; part++) {
    for (size_t p = 0; p < pairs; p++)
      for (size_t o = 0; o < outs; o++) {
        double sum = biased ? bias[ids[p]][o] : 0;
        for (size_t k = 0; k < K; k++) sum += (double)x[p / count * K + k] * w[part][ids[p]][transposed ? k * outs + o : o * K + k];
        want[p * outs + o] = sum;
      }
    check_floats(y[part], want, pairs * outs, 2e-6, "expert_linear rows=%zu each=%zu shares=%zu K=%zu outs=%zu experts=%zu type=%d transposed=%d", rows, each, shares, K, outs, experts, type, transposed);
  }

  float *d_y = random_floats(pairs * outs);
  double *b = new_doubles(9 + 2 * experts);
  memcpy(b, (double[]){address(x), address(d_y), (double)pairs, (double)count, (double)K, (double)outs, address(ids), (double)experts, transposed}, 9 * sizeof(double));
  for (size_t e = 0; e < experts; e++) {
    w[0][e] = (free(w[0][e]), new_floats(K * outs));
    bias[e] = (free(bias[e]), new_floats(outs));
    b[9 + 2 * e] = address(w[0][e]), b[10 + 2 * e] = address(bias[e]);
  }
  op_expert_linear_backward(b);
  for (size_t e = 0; e < experts; e++) {
    double *d_w = calloc(K * outs + 1, sizeof(double)), *d_bias = calloc(outs + 1, sizeof(double));
    for (size_t p = 0; p < pairs; p++) {
      if ((size_t)ids[p] != e) continue;
      for (size_t o = 0; o < outs; o++) {
        d_bias[o] += d_y[p * outs + o];
        for (size_t k = 0; k < K; k++) d_w[transposed ? k * outs + o : o * K + k] += (double)d_y[p * outs + o] * x[p / count * K + k];
      }
    }
    check_floats(w[0][e], d_w, K * outs, 2e-6, "expert_linear_backward dW %zu pairs=%zu K=%zu outs=%zu transposed=%d", e, pairs, K, outs, transposed);
    check_floats(bias[e], d_bias, outs, 2e-6, "expert_linear_backward dBias %zu pairs=%zu", e, pairs);
    free(d_w), free(d_bias);
  }
  for (size_t e = 0; e < experts; e++) free(w[0][e]), free(w[1][e]), free(bias[e]), free(stored[e]), free(stored[experts + e]);
  free(w[0]), free(w[1]), free(bias), free(stored), free(x), free(y[0]), free(y[1]), free(ids), free(a), free(b), free(d_y), free(want);
}

int main(void) {
  for (int biased = 0; biased < 2; biased++) {
    test_choose(3, 7, 1, 1, 1, 7, biased);
    test_choose(70, 12, 4, 2, 1, 5, biased);
    test_choose(5, 64, 8, 3, 2, 6, biased);
    test_choose(1, 1, 1, 1, 1, 1, biased);
  }
  static const int types[] = {GQA_F32, GQA_BF16, GQA_F16, GQA_Q8_0};
  for (int t = 0; t < 4; t++)
    for (int transposed = 0; transposed < 2; transposed++)
      for (size_t shares = 0; shares < 2; shares++) {
        const int type = types[t], blocks = type == GQA_Q8_0;
        test_expert_linear(1, 3, shares, blocks ? 32 : 13, blocks ? 64 : 11, 5, type, transposed, 1);
        test_expert_linear(1, 1, shares, blocks ? 64 : 7, blocks ? 32 : 5, 2, type, transposed, 0);
        test_expert_linear(19, 2, shares, blocks ? 64 : 37, blocks ? 288 : 269, 3, type, transposed, (int)shares);
        test_expert_linear(0, 2, shares, 32, 32, 3, type, transposed, 1);
      }
  return report("test_experts");
}
