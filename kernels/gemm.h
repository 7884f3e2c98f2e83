/*
 * gemm.h: the f32 matrix kernel that matmul.c and linear.c share.
 *
 * c[M][columns] (+)= a[M][k] * b[k][columns], where b is a panel: one or two vectors of columns per k. Up to MR rows of c stay in
 * registers while k runs; a's elements are broadcast. Everything is packed into such pieces first: `a` in blocks of MC rows with
 * the fixed row stride KC (zero-cost addressing, no set conflicts), `b` in panels of NR columns. KC floats of a panel fill half of L1.
 *
 * Numerics: one f32 accumulator per element, k in order, in runs of KC that are added up in order: the same for every tiling.
 */
#ifndef GQA_GEMM_H
#define GQA_GEMM_H
#include "simd.h"
#include "tasks.h"

enum { MR = VL == 16 ? 12 : 6, NR = 2 * VL, KC = 256, MC = 48 };

/* K is run in equal pieces of at most KC, multiples of 32 but for the last. */
GQA_INLINE size_t gemm_depth(size_t K) { return gqa_ceil(gqa_ceil(gqa_max(1, K), gqa_ceil(gqa_max(1, K), KC)), 32) * 32; }

/*
 * What a panel's run fetches into cache on the way, a line now and then so that no fetch waits for another: the panel after it (the
 * hardware does not see where one ends and the next begins), and where its result will go, 32 rows `stride` apart (NULL: nothing).
 */
typedef struct {
  const float *next, *target;
  size_t stride;
} gemm_ahead;

/* acc += the products of one k: m broadcast elements of `a` and nv vectors of b. */
GQA_INLINE void gemm_step(const int m, const int nv, const float *a, const float *b, vf (*acc)[2]) {
  vf row[2];
  GQA_UNROLL(2)
  for (int j = 0; j < nv; j++) row[j] = vf_load(b + j * VL);
  GQA_UNROLL(12)
  for (int i = 0; i < m; i++) {
    vf x = vf_set(a[i * KC]);
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) acc[i][j] = vf_fma(x, row[j], acc[i][j]);
  }
}

/* One register tile: m rows and nv vectors, both constants where this is inlined. */
GQA_INLINE void gemm_tile(const int m, const int nv, const float *a, const float *b, size_t ldb, float *c, size_t ldc, size_t k, int accumulate, gemm_ahead ahead) {
  enum { STEPS = 8 };
  const size_t targets = gqa_max(1, 32 * STEPS / gqa_max(1, k)); /* target rows per STEPS of k */
  vf acc[MR][2];
  GQA_UNROLL(12)
  for (int i = 0; i < m; i++) {
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) acc[i][j] = accumulate ? vf_load(c + (size_t)i * ldc + j * VL) : vf_set(0.0f);
  }
  size_t p = 0;
  for (; p + STEPS <= k; p += STEPS) {
    GQA_UNROLL(4)
    for (int i = 0; i < 4; i++) __builtin_prefetch(ahead.next + 16 * i, 0, 2);
    ahead.next += 64;
    for (size_t i = 0; i < targets && ahead.stride; i++, ahead.target += ahead.stride) __builtin_prefetch(ahead.target, 1);
    for (int i = 0; i < STEPS; i++, a++, b += ldb) gemm_step(m, nv, a, b, acc);
  }
  for (; p < k; p++, a++, b += ldb) gemm_step(m, nv, a, b, acc);
  GQA_UNROLL(12)
  for (int i = 0; i < m; i++) {
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) vf_store(c + (size_t)i * ldc + j * VL, acc[i][j]);
  }
}

GQA_INLINE void gemm_rows(const int nv, size_t m, const float *a, const float *b, size_t ldb, float *c, size_t ldc, size_t k, int accumulate, gemm_ahead ahead) {
  size_t i = 0;
  for (; i + MR <= m; i += MR) { /* each tile fetches a part of the next panel and one line of the target's rows */
    gemm_tile(MR, nv, a + i * KC, b, ldb, c + i * ldc, ldc, k, accumulate, ahead);
    ahead.next += 8 * k;
    ahead.target += ahead.stride ? 16 : 0;
  }
  for (; i + 4 <= m; i += 4) gemm_tile(4, nv, a + i * KC, b, ldb, c + i * ldc, ldc, k, accumulate, ahead);
  if (i + 2 <= m) {
    gemm_tile(2, nv, a + i * KC, b, ldb, c + i * ldc, ldc, k, accumulate, ahead);
    i += 2;
  }
  if (i < m) gemm_tile(1, nv, a + i * KC, b, ldb, c + i * ldc, ldc, k, accumulate, ahead);
}

/* m rows of `a` (stride KC) against one panel of nv vectors (row stride ldb), k <= KC. */
GQA_NOINLINE void gemm_panel(int nv, size_t m, const float *a, const float *b, size_t ldb, float *c, size_t ldc, size_t k, int accumulate, gemm_ahead ahead) {
  if (nv == 2) gemm_rows(2, m, a, b, ldb, c, ldc, k, accumulate, ahead);
  else gemm_rows(1, m, a, b, ldb, c, ldc, k, accumulate, ahead);
}

/* to[c][r] = from[r][c] for rows x columns elements with row strides ldt and ldf. */
GQA_NOINLINE void transpose_into(float *to, size_t ldt, const float *from, size_t ldf, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; r += VL) {
    const int nr = rows - r < VL ? (int)(rows - r) : VL;
    for (size_t c = 0; c < columns; c += VL) {
      const int nc = columns - c < VL ? (int)(columns - c) : VL;
      const float *source = from + r * ldf + c;
      float *target = to + c * ldt + r;
      vf v[VL];
      if (nr == VL && nc == VL) {
        GQA_UNROLL(16)
        for (int i = 0; i < VL; i++) v[i] = vf_load(source + (size_t)i * ldf);
        vf_transpose(v);
        GQA_UNROLL(16)
        for (int i = 0; i < VL; i++) vf_store(target + (size_t)i * ldt, v[i]);
      } else {
        for (int i = 0; i < VL; i++) v[i] = i < nr ? vf_load_n(source + (size_t)i * ldf, nc) : vf_set(0.0f);
        vf_transpose(v);
        for (int i = 0; i < nc; i++) vf_store_n(target + (size_t)i * ldt, v[i], nr);
      }
    }
  }
}

/* Vectors in the panel that holds columns at, at + 1, … of n: two, or one when at most VL are left. */
GQA_INLINE int panel_vectors(size_t n, size_t at) { return n - at > VL ? 2 : 1; }

/* Packs rows at … of x [rows, k] (row stride ldx) as the columns of a panel [k][VL or NR], missing ones as zeros. */
GQA_INLINE void pack_panel_transposed(float *panel, const float *x, size_t ldx, size_t rows, size_t at, size_t k) {
  const size_t width = (size_t)panel_vectors(rows, at) * VL, have = gqa_min(width, rows - at);
  if (have < width) memset(panel, 0, k * width * sizeof(float));
  transpose_into(panel, width, x + at * ldx, ldx, have, k);
}

/* The same for columns at … of b [k, n] (row stride ldb). */
GQA_INLINE void pack_panel(float *panel, const float *b, size_t ldb, size_t n, size_t at, size_t k) {
  const size_t width = (size_t)panel_vectors(n, at) * VL, have = gqa_min(width, n - at);
  for (size_t p = 0; p < k; p++, panel += width) {
    const float *row = b + p * ldb + at;
    if (have == NR) {
      vf_store(panel, vf_load(row));
      vf_store(panel + VL, vf_load(row + VL));
    } else {
      memset(panel, 0, width * sizeof(float));
      memcpy(panel, row, have * sizeof(float));
    }
  }
}

#endif
