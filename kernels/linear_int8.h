/*
 * linear_int8.h: linear with 8-bit activations (int8.h), where every weight is block-quantized. Arguments and
 * parts as in linear.c.
 *
 * - up to LINEAR_FEW rows: four weight rows at a time are decoded into L1 and multiplied with every row of x,
 *   lanes along k. A row of x and a row of weights are summed in one order, group after group.
 * - more: rows of x are packed into panels whose lanes are rows; a task decodes a block of weight rows, whose
 *   codes are the broadcast operand, and runs it over all panels. The block's result is y^T.
 */
#ifndef GQA_LINEAR_INT8_H
#define GQA_LINEAR_INT8_H
#include "gemm.h"
#include "int8_dot.h"
#include "linear_parts.h"

/* Rows of x in panels at a time; rows of a micro kernel; a task's weight rows, and how deep they are decoded. */
enum { INT8_SLAB = 512, INT8_MR = VL == 16 || INT8_DOT ? 6 : 4, INT8_BLOCK = 48, INT8_KC = 1024 };

/* --- a few rows --- */

typedef struct {
  const linear_call *call;
  float *x;      /* int8_row_at of all rows */
  float *spread; /* and their scales, spread */
} linear_int8_call;

GQA_INLINE int8_row linear_int8_row(const linear_int8_call *c, size_t r) {
  int8_row x = int8_row_at(c->x, c->call->rows, c->call->K, r);
  x.scales = c->spread + r * int8_spread_words(c->call->K / GQA_GROUP);
  return x;
}

static void linear_int8_row_task(void *context, int row, int worker) {
  const linear_int8_call *c = context;
  const size_t K = c->call->K, r = (size_t)row;
  const int8_row x = int8_row_at(c->x, c->call->rows, K, r);
  int8_quantise(c->call->x + r * K, K, x);
  int8_spread_scales(x.scales, K / GQA_GROUP, linear_int8_row(c, r).scales);
}

/* n <= INT8_W rows of a part from row o on: their scales and minimums are at `w`. */
typedef struct {
  const linear_int8_call *call;
  linear_part part;
  size_t o, n, groups;
  int8_weights w;
  float *memory;
} linear_int8_rows;

GQA_INLINE void linear_int8_store(const linear_int8_rows *a, size_t r, const float (*totals)[VL]) { dot_store_sums(totals, a->part.bias ? a->part.bias + a->o : 0, a->n, a->part.y + r * a->part.out_features + a->o); }

/* One row of x: weight rows one after the other, so that memory is read in one stream. */
static void linear_int8_stored(const linear_int8_rows *a) {
  const int8_row x = linear_int8_row(a->call, 0);
  float totals[INT8_W][VL] = {{0}};
  for (size_t j = 0; j < a->n; j++) {
    const uint8_t *row = a->part.weight + (a->o + j) * a->part.row_bytes;
    const size_t at = j * a->groups;
    const int8_weights w = {0, {a->w.scales[0] + at, a->w.scales[1] + at}, a->w.minimums + at};
    /* The scales of the next row, which may be NaN, are 0 meanwhile. */
    const vf next[2] = {vf_load(w.scales[0] + a->groups), vf_load(w.scales[1] + a->groups)};
    for (int h = 0; h < 2; h++) vf_store(w.scales[h] + a->groups, vf_set(0.0f));
    GQA_SPECIALISE(INT8_TYPES, a->part.type, vf_store(totals[j], int8_stored_dot(GQA_VALUE, row, a->groups, w, x)))
    for (int h = 0; h < 2; h++) vf_store(w.scales[h] + a->groups, next[h]);
  }
  linear_int8_store(a, 0, totals);
}

/* Several rows of x: the weight rows are decoded first. */
static void linear_int8_decoded(const linear_int8_rows *a) {
  const size_t K = a->call->call->K, words = int8_words(K), spread = int8_spread_words(a->groups), padded = int8_groups(K);
  const int kind = int8_kind(a->part.type);
  int8_weights w[INT8_W];
  for (size_t j = 0; j < INT8_W; j++) {
    /* Missing rows repeat the last. */
    const size_t row = gqa_min(j, a->n - 1), at = row * a->groups;
    float *memory = a->memory + row * (words + 2 * spread + padded), *scales = memory + words;
    w[j] = (int8_weights){(int8_code *)memory, {scales, scales + spread}, scales + 2 * spread};
    if (j >= a->n) continue;
    int8_decode_codes(a->part.type, a->part.weight + (a->o + j) * a->part.row_bytes, a->groups, w[j].codes);
    for (int h = 0; h <= (kind == INT8_HALVES); h++) int8_spread_scales(a->w.scales[h] + at, a->groups, w[j].scales[h]);
    for (size_t g = 0; g < a->groups && kind == INT8_MINIMUM; g += VL) vf_store(w[j].minimums + g, int8_minimums(a->w.minimums + at, g, a->groups));
  }
  GQA_SPECIALISE(INT8_KINDS, kind, {
    for (size_t r = 0; r < a->call->call->rows; r++) {
      float totals[INT8_W][VL];
      int8_decoded_dots(GQA_VALUE, w, a->groups, linear_int8_row(a->call, r), totals);
      linear_int8_store(a, r, totals);
    }
  })
}

static void linear_int8_few_task(void *context, int number, int worker) {
  const linear_int8_call *c = context;
  const size_t K = c->call->K, groups = K / GQA_GROUP, scales = INT8_W * groups + 2 * VL; /* of INT8_W rows, and a vector past them */
  size_t task = (size_t)number;
  linear_int8_rows a = {.call = c, .part = linear_find_part(c->call, &task, 0), .groups = groups};
  const size_t at = task * linear_task_rows(&a.part), end = gqa_min(at + linear_task_rows(&a.part), a.part.out_features);
  float *memory = gqa_scratch(worker, (3 * scales + INT8_W * (int8_words(K) + 2 * int8_spread_words(groups) + int8_groups(K))) * sizeof(float));
  a.w = (int8_weights){0, {memory, memory + scales}, memory + 2 * scales};
  a.memory = memory + 3 * scales;
  for (a.o = at; a.o < end; a.o += INT8_W) {
    a.n = gqa_min(INT8_W, end - a.o);
    int8_decode_scales(a.part.type, a.part.weight + a.o * a.part.row_bytes, a.n * groups, a.w);
    if (c->call->rows == 1) linear_int8_stored(&a);
    else linear_int8_decoded(&a);
  }
}

static void linear_int8_few(const linear_call *call) {
  const size_t words = call->rows * int8_row_words(call->K);
  float *memory = gqa_scratch(GQA_SHARED, (words + call->rows * int8_spread_words(call->K / GQA_GROUP)) * sizeof(float) + 64);
  linear_int8_call c = {call, memory, memory + words};
  gqa_run(call->rows, linear_int8_row_task, &c, (double)call->rows * (double)call->K);
  gqa_run(linear_count_tasks(call, 0), linear_int8_few_task, &c, linear_count_weights(call) / 8);
}

/* --- many rows --- */

/*
 * A panel of `width` rows of x: words of codes, scales and sums per group, with INT8_OFFSET starts per half group,
 * each for all rows.
 */
typedef struct {
  const int32_t *codes, *starts;
  const float *scales, *sums;
  size_t width;
} int8_panel;

typedef struct {
  const linear_call *call;
  size_t row, rows; /* of x, in panels */
  float *panels;
} linear_int8_slab;

GQA_INLINE size_t int8_panel_words(size_t k) { return int8_row_words(k) + (INT8_OFFSET ? 2 * int8_groups(k) : 0); }
GQA_INLINE int8_panel int8_panel_at(const linear_int8_slab *s, size_t row) {
  const size_t width = (size_t)panel_vectors(s->rows, row) * VL, groups = int8_groups(s->call->K);
  const float *codes = s->panels + row * int8_panel_words(s->call->K), *scales = codes + width * int8_words(s->call->K);
  return (int8_panel){(const int32_t *)codes, (const int32_t *)(scales + 2 * width * groups), scales, scales + width * groups, width};
}

/* sum += INT8_STEP products per lane: a word of weights with a vector of x's words. */
GQA_INLINE vi int8_step(vi sum, int32_t w, vi x) {
#if INT8_VNNI && VL == 16
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(w), (__m512i)x);
#elif INT8_VNNI
  return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, _mm256_set1_epi32(w), (__m256i)x);
#elif INT8_DOT
  return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)vdupq_n_s32(w), (int8x16_t)x);
#elif defined(__wasm__)
  return sum + (vi)wasm_i32x4_dot_i16x8(wasm_i32x4_splat(w), (v128_t)x);
#elif defined(__SSE2__) && VL == 4
  return sum + (vi)_mm_madd_epi16(_mm_set1_epi32(w), (__m128i)x);
#endif
}

static void linear_int8_pack_task(void *context, int number, int worker) {
  const linear_int8_slab *s = context;
  const size_t K = s->call->K, row = (size_t)number * GEMM_NR, width = (size_t)panel_vectors(s->rows, row) * VL, have = gqa_min(width, s->rows - row);
  const size_t words = int8_words(K), groups = int8_groups(K);
  float *rows = gqa_scratch(worker, width * int8_row_words(K) * sizeof(float)), *panel = s->panels + row * int8_panel_words(K);
  for (size_t r = 0; r < have; r++) int8_quantise(s->call->x + (s->row + row + r) * K, K, int8_row_at(rows, width, K, r));
  if (have < width) memset(panel, 0, width * int8_panel_words(K) * sizeof(float));
  const size_t columns[] = {words, groups, groups};
  for (size_t part = 0, at = 0; part < 3; at += width * columns[part++]) transpose_into(panel + at, width, rows + at, columns[part], have, columns[part]);
  for (size_t half = 0; half < 2 * (K / GQA_GROUP) && INT8_OFFSET; half++)
    for (size_t j = 0; j < width; j += VL) {
      const int32_t *codes = (const int32_t *)panel + int8_word(half / 2, (int)(half & 1)) * width + j;
      vi sum = vi_set(0);
      for (int step = 0; step < INT8_WORDS; step++) sum = int8_step(sum, (int32_t)(INT8_OFFSET * 0x01010101u), vi_load(codes + (size_t)step * width));
      *(vi_u *)(panel + (words + 2 * groups + half) * width + j) = -sum;
    }
}

/* Decoded weights of a block: for each row the same space. */
enum { INT8_KC_GROUPS = INT8_KC / GQA_GROUP, INT8_BLOCK_WORDS = INT8_KC / INT8_STEP + 3 * INT8_KC_GROUPS };

GQA_INLINE int8_weights int8_block_row(float *block, size_t i) {
  float *row = block + i * INT8_BLOCK_WORDS, *scales = row + INT8_KC / INT8_STEP;
  return (int8_weights){(int8_code *)row, {scales, scales + INT8_KC_GROUPS}, scales + 2 * INT8_KC_GROUPS};
}

/* c[INT8_MR][nv * VL] += `groups` groups of INT8_MR rows of a block times those of a panel from `first` on. */
GQA_INLINE void int8_tile(const int nv, const int kind, const float *block, const int8_panel *x, size_t first, size_t groups, float *c, size_t ldc) {
  const size_t width = (size_t)nv * VL;
  const float *w_scales = block + INT8_KC / INT8_STEP, *w_minimums = w_scales + 2 * INT8_KC_GROUPS;
  vf acc[INT8_MR][2];
  GQA_UNROLL(8)
  for (int i = 0; i < INT8_MR; i++)
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) acc[i][j] = vf_load(c + (size_t)i * ldc + (size_t)(j * VL));
  for (size_t g = 0; g < groups; g++) {
    const float *x_scales = x->scales + (first + g) * width, *x_sums = x->sums + (first + g) * width;
    vi sum[INT8_MR][2];
    GQA_UNROLL(2)
    for (int h = 0; h < 2; h++) {
      const int starts_here = h == 0 || kind == INT8_HALVES, ends_here = h == 1 || kind == INT8_HALVES;
      GQA_UNROLL(2)
      for (int j = 0; j < nv && starts_here; j++) {
        vi start = vi_set(0);
        if (INT8_OFFSET && kind != INT8_MINIMUM) {
          const int32_t *starts = x->starts + (2 * (first + g) + (size_t)h) * width + (size_t)(j * VL);
          start = kind == INT8_HALVES ? vi_load(starts) : vi_load(starts) + vi_load(starts + width);
        }
        GQA_UNROLL(8)
        for (int i = 0; i < INT8_MR; i++) sum[i][j] = start;
      }
      const int32_t *codes = x->codes + int8_word(first + g, h) * width;
      const float *words = block + int8_word(g, h);
      GQA_UNROLL(8)
      for (int step = 0; step < INT8_WORDS; step++) {
        vi v[2];
        GQA_UNROLL(2)
        for (int j = 0; j < nv; j++) v[j] = vi_load(codes + (size_t)step * width + (size_t)(j * VL));
        GQA_UNROLL(8)
        for (int i = 0; i < INT8_MR; i++) {
          int32_t word;
          memcpy(&word, words + i * INT8_BLOCK_WORDS + step, 4);
          GQA_UNROLL(2)
          for (int j = 0; j < nv; j++) sum[i][j] = int8_step(sum[i][j], word, v[j]);
        }
      }
      GQA_UNROLL(2)
      for (int j = 0; j < nv && ends_here; j++) {
        const vf x_scale = vf_load(x_scales + j * VL);
        GQA_UNROLL(8)
        for (int i = 0; i < INT8_MR; i++) {
          const float scale = w_scales[(size_t)i * INT8_BLOCK_WORDS + g + (kind == INT8_HALVES ? h * INT8_KC_GROUPS : 0)];
          acc[i][j] = vf_fma(__builtin_convertvector(sum[i][j], vf) * x_scale, vf_set(scale), acc[i][j]);
        }
      }
    }
    GQA_UNROLL(2)
    for (int j = 0; j < nv && kind == INT8_MINIMUM; j++) {
      const vf x_sum = vf_load(x_sums + j * VL);
      GQA_UNROLL(8)
      for (int i = 0; i < INT8_MR; i++) acc[i][j] = vf_fma(x_sum, vf_set(w_minimums[(size_t)i * INT8_BLOCK_WORDS + g]), acc[i][j]);
    }
  }
  GQA_UNROLL(8)
  for (int i = 0; i < INT8_MR; i++)
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) vf_store(c + (size_t)i * ldc + (size_t)(j * VL), acc[i][j]);
}

GQA_NOINLINE void int8_tiles(int kind, const float *block, size_t rows, const int8_panel *x, size_t first, size_t groups, float *c, size_t ldc) {
  GQA_SPECIALISE(INT8_KINDS, kind, {
    for (size_t i = 0; i < rows; i += INT8_MR) {
      if (x->width == GEMM_NR) int8_tile(2, GQA_VALUE, block + i * INT8_BLOCK_WORDS, x, first, groups, c + i * ldc, ldc);
      else int8_tile(1, GQA_VALUE, block + i * INT8_BLOCK_WORDS, x, first, groups, c + i * ldc, ldc);
    }
  })
}

static void linear_int8_block_task(void *context, int number, int worker) {
  const linear_int8_slab *s = context;
  const size_t K = s->call->K, ldc = gqa_ceil(s->rows, VL) * VL + VL;
  size_t task = (size_t)number;
  const linear_part p = linear_find_part(s->call, &task, INT8_BLOCK);
  const size_t at = task * INT8_BLOCK, n = gqa_min(INT8_BLOCK, p.out_features - at), rows = gqa_ceil(n, INT8_MR) * INT8_MR;
  const int kind = int8_kind(p.type);
  float *block = gqa_scratch(worker, INT8_BLOCK * (INT8_BLOCK_WORDS + ldc) * sizeof(float)), *result = block + INT8_BLOCK * INT8_BLOCK_WORDS;
  for (size_t i = 0; i < rows; i++)
    for (size_t r = 0; r < ldc; r++) result[i * ldc + r] = p.bias && i < n ? p.bias[at + i] : 0.0f;
  for (size_t k0 = 0; k0 < K; k0 += INT8_KC) {
    const size_t k = gqa_min(INT8_KC, K - k0);
    /* Missing rows repeat the last. */
    for (size_t i = 0; i < rows; i++) {
      const int8_weights w = int8_block_row(block, i);
      const uint8_t *stored = p.weight + (at + gqa_min(i, n - 1)) * p.row_bytes + stored_bytes(p.type, k0);
      int8_decode_scales(p.type, stored, k / GQA_GROUP, w);
      int8_decode_codes(p.type, stored, k / GQA_GROUP, w.codes);
    }
    for (size_t r = 0; r < s->rows; r += GEMM_NR) {
      const int8_panel panel = int8_panel_at(s, r);
      int8_tiles(kind, block, rows, &panel, k0 / GQA_GROUP, k / GQA_GROUP, result + r, ldc);
    }
  }
  transpose_into(p.y + s->row * p.out_features + at, p.out_features, result, ldc, n, s->rows);
}

static void linear_int8_many(const linear_call *call) {
  for (size_t row = 0; row < call->rows; row += INT8_SLAB) {
    linear_int8_slab s = {call, row, gqa_min(INT8_SLAB, call->rows - row), 0};
    s.panels = gqa_scratch(GQA_SHARED, gqa_ceil(s.rows, VL) * VL * int8_panel_words(call->K) * sizeof(float));
    gqa_run(gqa_ceil(s.rows, GEMM_NR), linear_int8_pack_task, &s, (double)s.rows * (double)call->K);
    gqa_run(linear_count_tasks(call, INT8_BLOCK), linear_int8_block_task, &s, linear_count_weights(call) * (double)s.rows / 16);
  }
}

static void linear_int8(const double *arguments) {
  const linear_call call = linear_call_of(arguments);
  if (call.rows <= LINEAR_FEW) linear_int8_few(&call);
  else linear_int8_many(&call);
}

#endif
