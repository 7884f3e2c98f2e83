/*
 * attention_level.h: the level of each row of scores: the largest bias among the keys that its query sees, or
 * the head's sink where that is larger (0 without a bias); -infinity when bias and mask hide every key.
 *
 * With a bias, scores are relative to the level: f32 would round away a score of 0.5 next to a bias of -1e9.
 * They are added in f64 (attn_adjust).
 */
#ifndef GQA_ATTENTION_LEVEL_H
#define GQA_ATTENTION_LEVEL_H
#include "attention.h"

/* The level of query t of head n. */
GQA_INLINE float attn_find_level(const attn *c, const attn_row *row, int b, int64_t t, int64_t n) {
  const int64_t *s = c->bias.strides, *x = c->mask.strides;
  const float *bias = c->bias.base ? (const float *)c->bias.base + attn_at(s, b, n, t) : 0;
  const uint8_t *mask = c->mask.base ? (const uint8_t *)c->mask.base + attn_at(x, b, n, t) : 0;
  float level = -__builtin_inff();
  int64_t j, high;
  attn_limits(c, row, t, &j, &high);
  if (!bias) {
    for (; j < high; j++)
      if (mask[j * x[3]]) return 0;
    return level;
  }
  if (s[3] == 1 && (!mask || x[3] == 1)) {
    const vf none = vf_set(level);
    vf top = none;
    for (; j + VL <= high; j += VL) {
      vf v = vf_load(bias + j);
      if (mask) v = vf_select(vi_load_u8(mask + j) != 0, v, none);
      top = vf_max(v, top);
    }
    level = vf_hmax(top);
  }
  for (; j < high; j++)
    if ((!mask || mask[j * x[3]]) && bias[j * s[3]] > level) level = bias[j * s[3]];
  return c->sinks && level > -__builtin_inff() && c->sinks[n] > level ? c->sinks[n] : level;
}

typedef struct {
  const attn *call;
  float *levels;
} attn_levels;

static void attn_level_task(void *context, int task, int worker) {
  const attn_levels *p = context;
  const attn *c = p->call;
  const int b = task / c->T;
  const attn_row row = attn_row_of(c, b);
  for (int n = 0; n < c->level_heads; n++) p->levels[(int64_t)task * c->level_heads + n] = attn_find_level(c, &row, b, task % c->T, n);
}

/*
 * Computes the levels of a call with bias or mask, once for all heads if they share it. Valid until the next
 * call.
 */
GQA_INLINE void attn_find_levels(attn *c) {
  if (!c->bias.base && !c->mask.base) return;
  c->level_heads = (c->bias.base && (c->bias.strides[1] || c->sinks)) || (c->mask.base && c->mask.strides[1]) ? c->N : 1;
  float *levels = gqa_scratch(GQA_SHARED2, (size_t)c->B * (size_t)c->T * (size_t)c->level_heads * sizeof(float));
  attn_levels p = {c, levels};
  gqa_parallel(c->B * c->T, attn_level_task, &p);
  c->levels = levels;
}
#endif
