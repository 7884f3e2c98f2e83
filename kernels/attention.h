/*
 * attention.h: shared by both forms of attention: the call's arguments, the keys a query may see, the
 * adjustment of raw scores (soft cap, bias, mask, dropout), reading K and V of any storage type, and the
 * merge of partial results.
 *
 * Rows of a (batch, KV head) pair are r = t * G + g, so that the G query heads of a group share every read of
 * K and V. Scores are in base e; with a bias they are relative to the row's level (attention_level.h), so
 * that a bias common to all keys loses no precision. A key is masked, with a score of -infinity, if it is
 * outside the lengths or the window, hidden by the mask, or has a bias of -infinity. A running maximum starts
 * at the lowest f32, so that it is never infinite and every finite score counts.
 *
 * Numerics: f32; sums of products in vector lanes; exp2 within 1 ulp of f32. Against f64 the output differs
 * by about 1e-6 of the largest value. A row whose result is not finite is recomputed in f64
 * (attention_exact.h). NaN in a masked key or value never reaches the result.
 */
#ifndef GQA_ATTENTION_H
#define GQA_ATTENTION_H
#include "gqa.h"
#include "simd.h"
#include "threefry.h"

#define ATTN_LOG2E 1.44269504088896341f
#define ATTN_LN2 0.69314718055994531
#define ATTN_FLOAT_MAX 0x1.fffffep+127f
#define ATTN_FLOAT_MIN 0x1p-126f
#define ATTN_ROW_EMPTY -ATTN_FLOAT_MAX

typedef struct {
  const char *key, *value;
  int64_t length;
} attn_segment;

typedef struct {
  int64_t query_length, offset, position, key_length;
  int first_segment;
} attn_row;

/* Rows [first, first + count) of KV head k of batch row b. */
typedef struct {
  int b, k, count;
  int64_t first;
} attn_rows;

/* A position in the segments of a batch row: `skip` tokens into segment `index`. */
typedef struct {
  attn_segment segment;
  int64_t skip;
  int index;
} attn_cursor;

/*
 * An unnormalised row: Hv weighted sums of values, the maximum, the sum of weights, and whether the sums are
 * finite.
 */
typedef struct {
  const float *acc;
  float m, l;
  int finite;
} attn_result;

/*
 * Partial results when the keys are split into chunks: [rows][Hv] sums, [rows] maxima, [rows] sums of
 * weights; `row` is the index of the first. NULL = not split.
 */
typedef struct {
  float *at;
  int64_t row, rows;
} attn_partial;

typedef struct {
  const char *base;
  int64_t strides[4]; /* batch, query head, query, key; elements */
} attn_score_operand;

typedef struct {
  float *out;
  const float *query;
  int64_t out_strides[3], query_strides[3]; /* batch, query, head */
  int B, T, N, K, G, H, Hv;
  int key_type, value_type;
  int64_t key_token, key_head, value_token, value_head; /* strides in elements */
  int precision;
  float scale, soft_cap;
  double exact_scale, exact_cap; /* as the caller gave them */
  int ordinary;                  /* whether f32 can hold the scale */
  int64_t left, right, chunk; /* chunk 0: none */
  attn_score_operand mask, bias;
  const float *levels; /* [B][T][level_heads], NULL without bias and mask: attention_level.h */
  int level_heads;
  const float *sinks;
  float *lse, *lse_rest;
  int64_t lse_strides[3];
  float dropout;
  uint32_t dropout_key[2];
  int dropout_broadcast;
  const double *rows;     /* 5 per batch row */
  const double *segments; /* 3 per segment */
} attn;

/*
 * attention: out, 3 strides (batch, query, head), query, 3 strides, B, T, N, K, H, Hv, key type, key token
 * and head strides, value type, value token and head strides, precision, scale, soft cap (0 none), window left,
 * window right, chunk (0 none), mask (u8) and 4 strides, bias (f32) and 4 strides, sinks, log-sum-exp, its rest
 * and 3 strides, dropout rate, key words 0 and 1, broadcast; then per batch row: query length, offset, position,
 * key length, first segment; then per segment: key address, value address, length.
 *
 * The log-sum-exp is f32; its rest (0 = not computed) is the f32 rounding error. The backward pass needs the
 * sum of both.
 */
GQA_INLINE attn attn_parse(const double *a) {
  attn c;
  int i = 0;
#define ATTN_NEXT a[i++]
#define ATTN_NEXT_STRIDES(to, n) \
  for (int s = 0; s < n; s++) (to)[s] = (int64_t)ATTN_NEXT
  c.out = gqa_pointer(ATTN_NEXT);
  ATTN_NEXT_STRIDES(c.out_strides, 3);
  c.query = gqa_pointer(ATTN_NEXT);
  ATTN_NEXT_STRIDES(c.query_strides, 3);
  c.B = (int)ATTN_NEXT, c.T = (int)ATTN_NEXT, c.N = (int)ATTN_NEXT, c.K = (int)ATTN_NEXT, c.H = (int)ATTN_NEXT, c.Hv = (int)ATTN_NEXT;
  c.G = c.K ? c.N / c.K : 0;
  c.key_type = (int)ATTN_NEXT, c.key_token = (int64_t)ATTN_NEXT, c.key_head = (int64_t)ATTN_NEXT;
  c.value_type = (int)ATTN_NEXT, c.value_token = (int64_t)ATTN_NEXT, c.value_head = (int64_t)ATTN_NEXT;
  c.precision = (int)ATTN_NEXT;
  c.exact_scale = ATTN_NEXT, c.exact_cap = ATTN_NEXT;
  c.scale = (float)c.exact_scale;
  const float size = c.scale < 0 ? -c.scale : c.scale;
  c.ordinary = c.exact_scale == 0 || (size >= ATTN_FLOAT_MIN && size <= ATTN_FLOAT_MAX);
  /* A cap outside the range of f32 is clamped to it: the weights are the same. */
  c.soft_cap = c.exact_cap == 0 ? 0 : c.exact_cap > ATTN_FLOAT_MAX ? ATTN_FLOAT_MAX : c.exact_cap < ATTN_FLOAT_MIN ? ATTN_FLOAT_MIN : (float)c.exact_cap;
  c.left = (int64_t)ATTN_NEXT, c.right = (int64_t)ATTN_NEXT, c.chunk = (int64_t)ATTN_NEXT;
  c.mask.base = gqa_pointer(ATTN_NEXT);
  ATTN_NEXT_STRIDES(c.mask.strides, 4);
  c.bias.base = gqa_pointer(ATTN_NEXT);
  ATTN_NEXT_STRIDES(c.bias.strides, 4);
  c.sinks = gqa_pointer(ATTN_NEXT), c.lse = gqa_pointer(ATTN_NEXT), c.lse_rest = gqa_pointer(ATTN_NEXT);
  ATTN_NEXT_STRIDES(c.lse_strides, 3);
  c.dropout = (float)ATTN_NEXT, c.dropout_key[0] = (uint32_t)ATTN_NEXT, c.dropout_key[1] = (uint32_t)ATTN_NEXT;
  c.dropout_broadcast = (int)ATTN_NEXT;
  c.levels = 0, c.level_heads = 0;
  c.rows = a + i, c.segments = a + i + 5 * c.B;
  return c;
#undef ATTN_NEXT
#undef ATTN_NEXT_STRIDES
}

GQA_INLINE attn_row attn_row_of(const attn *c, int b) {
  const double *r = c->rows + 5 * b;
  return (attn_row){(int64_t)r[0], (int64_t)r[1], (int64_t)r[2], (int64_t)r[3], (int)r[4]};
}
GQA_INLINE attn_segment attn_segment_of(const attn *c, int index) {
  const double *s = c->segments + 3 * index;
  return (attn_segment){gqa_pointer(s[0]), gqa_pointer(s[1]), (int64_t)s[2]};
}

/*
 * The offset of (b, i, j) by these strides: batch row, query, head; for mask and bias batch row, head, query.
 */
GQA_INLINE int64_t attn_at(const int64_t *strides, int b, int64_t i, int64_t j) { return b * strides[0] + i * strides[1] + j * strides[2]; }

/* The cursor at key `low` of a row; without a segment when there are no keys before `high`. */
GQA_INLINE attn_cursor attn_cursor_at(const attn *c, const attn_row *row, int64_t low, int64_t high) {
  attn_cursor at = {{0, 0, 0}, low < high ? low : 0, row->first_segment};
  if (low < high) at.segment = attn_segment_of(c, at.index);
  return at;
}
/* Moves a cursor at the end of a segment to the next one. */
GQA_INLINE void attn_settle(const attn *c, attn_cursor *at) {
  while (at->skip >= at->segment.length) at->skip -= at->segment.length, at->segment = attn_segment_of(c, ++at->index);
}

/* The keys [low, high) that query t of a row may see; empty past the row's queries. */
GQA_INLINE void attn_limits(const attn *c, const attn_row *row, int64_t t, int64_t *low, int64_t *high) {
  int64_t position = t + row->offset, from = position - c->left, to = position + c->right + 1;
  if (c->chunk) {
    int64_t since = (t + row->position) % c->chunk; /* keys of the chunk before the query */
    if (since < 0) since += c->chunk;
    if (from < position - since) from = position - since;
    if (to > position - since + c->chunk) to = position - since + c->chunk;
  }
  *low = from < 0 ? 0 : from;
  *high = to > row->key_length ? row->key_length : to;
  if (t >= row->query_length || *high < *low) *low = *high = 0;
}

/* True when raw scores become weights without soft cap, bias or mask. */
GQA_INLINE int attn_plain(const attn *c) { return c->soft_cap == 0 && !c->mask.base && !c->bias.base; }
/* A row's entry in the table of attention_level.h; -infinity when bias or mask hide every key. */
GQA_INLINE float attn_level_entry(const attn *c, int b, int64_t t, int64_t n) { return c->levels ? c->levels[(b * (int64_t)c->T + t) * c->level_heads + (c->level_heads > 1 ? n : 0)] : 0; }
/* The level that the row's scores are relative to. */
GQA_INLINE double attn_level(const attn *c, int b, int64_t t, int64_t n) {
  const float level = attn_level_entry(c, b, t, n);
  return level == -__builtin_inff() ? 0 : level;
}

/* 2^x for x <= 0 (and slightly above): relative error 2e-7; below -126 zero; NaN stays NaN. */
GQA_INLINE vf vf_exp2(vf x) {
#if VL == 16
  /* p(f) * 2^floor(x), f = x - floor(x); the polynomial has the least relative error on [0, 1]. */
  __m512 v = (__m512)x;
  __mmask16 live = _mm512_cmp_ps_mask(v, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  vf f = (vf)_mm512_reduce_ps(v, 1);
  vf p = vf_set(0x1.ec320ep-10f);
  p = vf_fma(p, f, vf_set(0x1.26900ep-7f));
  p = vf_fma(p, f, vf_set(0x1.c95446p-5f));
  p = vf_fma(p, f, vf_set(0x1.ebd5a8p-3f));
  p = vf_fma(p, f, vf_set(0x1.62e4f4p-1f));
  p = vf_fma(p, f, vf_set(0x1.fffffep-1f));
  return (vf)_mm512_maskz_scalef_ps(live, (__m512)p, v);
#else
  vf magic = vf_set(12582912.0f);
  vf t = vf_max(x, vf_set(-127.0f)) + magic;
  vf f = x - (t - magic);
  vf p = vf_set(0x1.5c08e2p-10f);
  p = vf_fma(p, f, vf_set(0x1.3d0c52p-7f));
  p = vf_fma(p, f, vf_set(0x1.c6b6e6p-5f));
  p = vf_fma(p, f, vf_set(0x1.ebf918p-3f));
  p = vf_fma(p, f, vf_set(0x1.62e428p-1f));
  p = vf_fma(p, f, vf_set(0x1.000002p+0f));
  vf r = (vf)((vi)p + ((vi)t << 23));
  r = vf_select(x < vf_set(-126.0f), vf_set(0.0f), r);
  return vf_select(x == x, r, x);
#endif
}
/* e^x in the same range. */
GQA_INLINE vf attn_exp(vf x) { return vf_exp2(x * ATTN_LOG2E); }
GQA_INLINE float attn_exp_scalar(float x) { return attn_exp(vf_set(x))[0]; }

/* ln of a positive float: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), log m by the atanh series. */
GQA_INLINE double log_scalar(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  int exponent = (int)(bits >> 23) - 127;
  bits = (bits & 0x7fffff) | 0x3f800000;
  float m;
  memcpy(&m, &bits, 4);
  if (m > 1.41421356f) m *= 0.5f, exponent++;
  double z = ((double)m - 1) / ((double)m + 1), z2 = z * z;
  double series = z * (2 + z2 * (2.0 / 3 + z2 * (2.0 / 5 + z2 * (2.0 / 7 + z2 * (2.0 / 9 + z2 * 2.0 / 11)))));
  return exponent * ATTN_LN2 + series;
}

/*
 * Applies soft cap, bias and mask to a block of raw scores, which are then relative to the row's level. The
 * score of row i and key j0 + j is s[i * row_stride + j * key_stride].
 */
GQA_NOINLINE void attn_adjust(const attn *c, attn_rows rows, int64_t j0, int keys, float *s, int row_stride, int key_stride) {
  const int b = rows.b;
  for (int i = 0; i < rows.count; i++) {
    int64_t t = (rows.first + i) / c->G, n = rows.k * c->G + (rows.first + i) % c->G;
    const uint8_t *mask = 0;
    const float *bias = 0;
    if (c->mask.base) {
      const int64_t *m = c->mask.strides;
      mask = (const uint8_t *)c->mask.base + attn_at(m, b, n, t) + j0 * m[3];
    }
    if (c->bias.base) {
      const int64_t *m = c->bias.strides;
      bias = (const float *)c->bias.base + attn_at(m, b, n, t) + j0 * m[3];
    }
    const double level = attn_level(c, b, t, n);
    float *row = s + (int64_t)i * row_stride;
    for (int j = 0; j < keys; j += VL) {
      int count = keys - j < VL ? keys - j : VL;
      float x[VL] = {0};
      for (int l = 0; l < count; l++) x[l] = row[(int64_t)(j + l) * key_stride];
      vf v = vf_load(x);
      if (c->soft_cap != 0) v = vf_tanh(v * (1.0f / c->soft_cap)) * c->soft_cap;
      vf_store(x, v);
      for (int l = 0; l < count; l++) {
        float score = x[l];
        if (bias) {
          float add = bias[(j + l) * c->bias.strides[3]];
          score = add == -__builtin_inff() ? add : (float)((double)score + add - level);
        }
        if (mask && !mask[(j + l) * c->mask.strides[3]]) score = -__builtin_inff();
        row[(int64_t)(j + l) * key_stride] = score;
      }
    }
  }
}

/*
 * Applies dropout to a block of weights, laid out as for attn_adjust. The mask is JAX's bernoulli(key, 1 -
 * rate) over [B, N, T, S] or [1, 1, T, S].
 */
GQA_NOINLINE void attn_drop(const attn *c, attn_rows rows, int64_t j0, int keys, float *p, int row_stride, int key_stride) {
  int64_t S = 0;
  int first = attn_row_of(c, 0).first_segment;
  int end = c->B > 1 ? attn_row_of(c, 1).first_segment : first + 1;
  for (int i = first; i < end; i++) S += attn_segment_of(c, i).length;
  float keep = 1.0f - c->dropout;
  for (int i = 0; i < rows.count; i++) {
    int64_t t = (rows.first + i) / c->G, n = rows.k * c->G + (rows.first + i) % c->G;
    uint64_t base = (uint64_t)((c->dropout_broadcast ? t : ((int64_t)rows.b * c->N + n) * c->T + t) * S + j0);
    for (int j = 0; j < keys; j += VL) {
      uint32_t high[VL], low[VL];
      for (int l = 0; l < VL; l++) high[l] = (uint32_t)((base + j + l) >> 32), low[l] = (uint32_t)(base + j + l);
      vu h, w;
      memcpy(&h, high, sizeof h), memcpy(&w, low, sizeof w);
      float u[VL];
      vf_store(u, vf_uniform(vu_threefry_bits(c->dropout_key[0], c->dropout_key[1], h, w)));
      for (int l = 0; l < VL && j + l < keys; l++) {
        float *x = p + (int64_t)i * row_stride + (int64_t)(j + l) * key_stride;
        *x = u[l] < keep ? *x / keep : 0.0f;
      }
    }
  }
}

/*
 * q8_0: 34 bytes hold 32 values, an f16 scale and 32 int8. Heads take whole blocks, so x is a multiple of 32
 * at a head's first dim and of VL everywhere.
 */
GQA_INLINE const char *attn_block(const char *base, int64_t x) { return base + (x >> 5) * 34; }
GQA_INLINE vf attn_block_scale(const char *block) {
  uint16_t scale;
  memcpy(&scale, block, 2);
  return vf_set(half_to_float(scale));
}
GQA_INLINE vf attn_block_codes(const char *block, int64_t x) { return vf_load_i8((const int8_t *)block + 2 + (x & 31)); }

/* VL (or the first n) consecutive stored values as f32; x counts elements. */
GQA_INLINE vf attn_load(const char *base, int type, int64_t x) {
  if (type == GQA_Q8_0) {
    const char *block = attn_block(base, x);
    return attn_block_codes(block, x) * attn_block_scale(block);
  }
  if (type == GQA_F32) return vf_load((const float *)base + x);
  if (type == GQA_F16) return vf_load_f16((const uint16_t *)base + x);
  return vf_load_bf16((const uint16_t *)base + x);
}
GQA_INLINE vf attn_load_n(const char *base, int type, int64_t x, int n) {
  if (type == GQA_Q8_0) {
    /* The whole block is readable; its padding is ignored. */
    float lanes[VL];
    vf_store(lanes, attn_load(base, type, x));
    return vf_load_n(lanes, n);
  }
  if (type == GQA_F32) return vf_load_n((const float *)base + x, n);
  uint16_t narrow[VL] = {0};
  memcpy(narrow, (const uint16_t *)base + x, (size_t)n * 2);
  return attn_load((const char *)narrow, type, 0);
}
/* The types of keys and values. */
#define ATTN_TYPES(X, ...) X(GQA_F32, __VA_ARGS__) X(GQA_F16, __VA_ARGS__) X(GQA_BF16, __VA_ARGS__) X(GQA_Q8_0, __VA_ARGS__)
/* Bytes of n elements, whole blocks of q8_0. */
GQA_INLINE int64_t attn_bytes(int type, int64_t n) { return type == GQA_F32 ? 4 * n : type == GQA_Q8_0 ? (n + 31) / 32 * 34 : 2 * n; }

/* Writes a row's log-sum-exp, top + log_sum, as an f32 and its rounding error. */
GQA_INLINE void attn_write_lse(const attn *c, int b, int64_t t, int64_t n, double top, double log_sum) {
  if (!c->lse) return;
  const int64_t at = attn_at(c->lse_strides, b, t, n);
  const float sum = (float)(top + log_sum);
  c->lse[at] = sum;
  if (c->lse_rest) c->lse_rest[at] = sum - sum == 0 ? (float)((top - sum) + log_sum) : 0;
}

#include "attention_exact.h"

/* Whether n floats are all finite. */
GQA_INLINE int attn_finite(const float *x, int n) {
  vf bad = vf_set(0);
  int d = 0;
  for (; d + VL <= n; d += VL) bad = vf_fma(vf_load(x + d), vf_set(0), bad);
  if (d < n) bad = vf_fma(vf_load_n(x + d, n - d), vf_set(0), bad);
  return vf_sum(bad) == 0;
}

/* Finishes a row: adds the sink, divides by the sum, writes the output and the log-sum-exp. */
GQA_INLINE void attn_finish(const attn *c, int b, int k, int64_t r, attn_result x) {
  int64_t t = r / c->G, n = k * c->G + r % c->G;
  float *out = c->out + attn_at(c->out_strides, b, t, n), m = x.m, l = x.l;
  const double level = attn_level(c, b, t, n);
  float weight = 1.0f;
  if (c->sinks && t < attn_row_of(c, b).query_length) {
    float sink = (float)(c->sinks[n] - level), top = sink > m ? sink : m;
    weight = attn_exp_scalar(m - top);
    l = l * weight + attn_exp_scalar(sink - top);
    m = top;
  }
  float inverse = weight / l;
  int d = 0;
  for (; d + VL <= c->Hv; d += VL) vf_store(out + d, vf_load(x.acc + d) * inverse);
  if (d < c->Hv) vf_store_n(out + d, vf_load_n(x.acc + d, c->Hv - d) * inverse, c->Hv - d);
  if (l > 0 && l <= ATTN_FLOAT_MAX && x.finite && c->ordinary) attn_write_lse(c, b, t, n, level + m, log_scalar(l));
  else if (l == 0 && attn_level_entry(c, b, t, n) == -__builtin_inff()) {
    for (d = 0; d < c->Hv; d++) out[d] = 0;
    attn_write_lse(c, b, t, n, -__builtin_inf(), 0);
  } else attn_exact_row(c, b, k, r);
}

/* Writes a unit's result to the output, or to a partial record that attn_merge merges later. */
GQA_INLINE void attn_emit(const attn *c, int b, int k, int64_t r, attn_result x, attn_partial p) {
  if (!p.at) {
    attn_finish(c, b, k, r, x);
    return;
  }
  memcpy(p.at + p.row * c->Hv, x.acc, (size_t)c->Hv * sizeof(float));
  p.at[p.rows * c->Hv + p.row] = x.m;
  p.at[p.rows * c->Hv + p.rows + p.row] = x.l;
}

/*
 * Merges one row's `chunks` partial records, `stride` floats apart, into the output. acc: scratch of Hv
 * floats.
 */
GQA_INLINE void attn_merge(const attn *c, int b, int k, int64_t r, attn_partial p, int64_t stride, int chunks, float *acc) {
  const int64_t rows = p.rows;
  float m = ATTN_ROW_EMPTY, l = 0;
  for (int i = 0; i < chunks; i++) {
    float mi = p.at[i * stride + rows * c->Hv + p.row];
    if (mi > m || mi != mi) m = mi;
  }
  memset(acc, 0, (size_t)c->Hv * sizeof(float));
  for (int i = 0; i < chunks; i++) {
    const float *from = p.at + i * stride;
    float li = from[rows * c->Hv + rows + p.row];
    if (li == 0) continue;
    const float mi = from[rows * c->Hv + p.row], w = mi == m ? 1.0f : attn_exp_scalar(mi - m);
    l += li * w;
    for (int d = 0; d < c->Hv; d++) acc[d] += from[p.row * c->Hv + d] * w;
  }
  attn_finish(c, b, k, r, (attn_result){acc, m, l, attn_finite(acc, c->Hv)});
}

#endif
