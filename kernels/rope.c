/*
 * rope.c: rotary position embedding of [tokens, heads, headDim] f32, in place or not.
 *
 * rope: [out, x, tokens, heads, headDim, cos, sin, half, interleaved, direction]
 *   cos and sin [tokens, half] f32
 * Rotates the pairs (i, i + half), or (2i, 2i + 1) when interleaved, for i < half; dims from 2 * half on are
 * copied. Direction -1 is the inverse rotation.
 *
 * Source: Su et al., RoFormer (arXiv 2104.09864); pairings as Hugging Face (halves) and Meta, GPT-J
 * (interleaved). Numerics: f32, two products and a sum per value.
 */
#include "simd.h"
#include "tasks.h"

typedef struct {
  float *out;
  const float *x, *cos, *sin;
  size_t tokens, heads, head_dim, half, tokens_per_task;
  int interleaved;
  float direction;
} rope_call;

static void rope_halves(const rope_call *c, float *out, const float *x, const float *cos, const float *sin) {
  const size_t half = c->half;
  for (size_t i = 0; i < half; i += VL) {
    const size_t left = half - i;
    const vf cs = vf_load_upto(cos + i, left), sn = vf_load_upto(sin + i, left) * c->direction;
    for (size_t h = 0; h < c->heads; h++) {
      const float *p = x + h * c->head_dim + i;
      float *q = out + h * c->head_dim + i;
      const vf a = vf_load_upto(p, left), b = vf_load_upto(p + half, left);
      vf_store_upto(q, a * cs - b * sn, left);
      vf_store_upto(q + half, b * cs + a * sn, left);
    }
  }
}

/* y = x * [c0 c0 c1 c1 …] + swapped pairs of x * [-s0 s0 -s1 s1 …] */
static void rope_interleaved(const rope_call *c, float *out, const float *x, const float *cos, const float *sin) {
  for (size_t i = 0; i < c->half; i += VL / 2) {
    const size_t left = 2 * (c->half - i);
    float pair_cos[VL] = {0}, pair_sin[VL] = {0};
    for (size_t j = 0; j < gqa_min(left, VL) / 2; j++) {
      pair_cos[2 * j] = pair_cos[2 * j + 1] = cos[i + j];
      pair_sin[2 * j + 1] = sin[i + j];
      pair_sin[2 * j] = -sin[i + j];
    }
    const vf cs = vf_load(pair_cos), sn = vf_load(pair_sin) * c->direction;
    for (size_t h = 0; h < c->heads; h++) {
      const float *p = x + h * c->head_dim + 2 * i;
      float *q = out + h * c->head_dim + 2 * i;
      const vf v = vf_load_upto(p, left);
      vf_store_upto(q, v * cs + vf_swap_pairs(v) * sn, left);
    }
  }
}

static void rope_task(void *context, int task, int worker) {
  const rope_call *c = context;
  const size_t end = gqa_min(((size_t)task + 1) * c->tokens_per_task, c->tokens), rotated = 2 * c->half;
  for (size_t t = (size_t)task * c->tokens_per_task; t < end; t++) {
    const size_t at = t * c->heads * c->head_dim;
    (c->interleaved ? rope_interleaved : rope_halves)(c, c->out + at, c->x + at, c->cos + t * c->half, c->sin + t * c->half);
    if (c->out != c->x && rotated < c->head_dim) {
      for (size_t h = 0; h < c->heads; h++)
        memcpy(c->out + at + h * c->head_dim + rotated, c->x + at + h * c->head_dim + rotated, (c->head_dim - rotated) * sizeof(float));
    }
  }
}

static void op_rope(const double *a) {
  rope_call c = {.out = gqa_pointer(a[0]), .x = gqa_pointer(a[1]), .tokens = (size_t)a[2], .heads = (size_t)a[3], .head_dim = (size_t)a[4],
                 .cos = gqa_pointer(a[5]), .sin = gqa_pointer(a[6]), .half = (size_t)a[7], .interleaved = (int)a[8], .direction = (float)a[9]};
  c.tokens_per_task = gqa_max(1, GQA_CHUNK / gqa_max(1, c.heads * c.head_dim));
  gqa_run(gqa_ceil(c.tokens, c.tokens_per_task), rope_task, &c, a[2] * a[3] * a[4]);
}
