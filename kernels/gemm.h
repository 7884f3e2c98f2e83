/*
 * gemm.h: the f32 matrix kernel that matmul.c and linear.c share.
 *
 * c[M][columns] (+)= a[M][k] * b[k][columns], where b is a panel: one or two vectors of columns per k. Up to
 * MR rows of c stay in registers while k runs; a's elements are broadcast. `b` is packed into panels of NR
 * columns first. `a` is read in place if possible; if it is transposed, decoded, or would map to few sets of
 * L1, it is packed into blocks of MC rows or more with the row stride KC. KC floats of a panel fill half of
 * L1, a block of `a` part of L2; more rows per block hide more of the panels' traffic.
 *
 * Numerics: one f32 accumulator per element, k in order, in runs of KC that are added up in order: the same
 * for every tiling.
 */
#ifndef GQA_GEMM_H
#define GQA_GEMM_H
#include "simd.h"
#include "tasks.h"

/* GEMM_PACKED_FLOATS: how much of b is packed at once, about. */
enum { GEMM_MR = VF_SUMS / 2, GEMM_NR = 2 * VL, GEMM_KC = 256, GEMM_MC = 96, GEMM_PACKED_FLOATS = 1 << 22 };

/* K is run in equal pieces of at most GEMM_KC, multiples of 32 but for the last. */
GQA_INLINE size_t gemm_depth(size_t K) { return gqa_ceil(gqa_ceil(gqa_max(1, K), gqa_ceil(gqa_max(1, K), GEMM_KC)), 32) * 32; }

/*
 * Prefetches into L2 during a panel's run, a line every few k so that no fetch waits for another: two walks
 * over `lines` lines of 16 floats, `jump` apart (memory that the hardware prefetcher does not predict: the
 * next panel, the rows packed next).
 */
typedef struct {
  const float *at;
  size_t lines, left;
  ptrdiff_t jump;
} gemm_walk;
typedef struct {
  gemm_walk first, second, target; /* target: will be written */
} gemm_ahead;

/* Rows of `columns` floats, `stride` apart. */
GQA_INLINE gemm_walk gemm_walk_rows(const float *at, size_t columns, size_t stride) {
  const size_t lines = gqa_max(1, columns / 16);
  return (gemm_walk){at, lines, lines, (ptrdiff_t)stride - 16 * (ptrdiff_t)lines};
}
GQA_INLINE gemm_walk gemm_walk_line(const float *at) { return gemm_walk_rows(at, (size_t)1 << 30, 0); }
/* Nothing to prefetch: one line that is already cached. */
GQA_INLINE gemm_walk gemm_walk_none(const float *at) { return gemm_walk_rows(at, 16, 0); }

GQA_INLINE void gemm_fetch(gemm_walk *walk, const int write) {
  if (write) __builtin_prefetch(walk->at, 1);
  else __builtin_prefetch(walk->at, 0, 2);
  walk->at += 16;
  if (--walk->left == 0) walk->left = walk->lines, walk->at += walk->jump;
}

/* acc += the products of one k: m broadcast elements of `a`, rows lda apart, and nv vectors of b. */
GQA_INLINE void gemm_step(const int m, const int nv, const float *a, size_t lda, const float *b, vf (*acc)[2]) {
  vf row[2];
  GQA_UNROLL(2)
  for (int j = 0; j < nv; j++) row[j] = vf_load(b + j * VL);
  GQA_UNROLL(12)
  for (int i = 0; i < m; i++) {
    vf x = vf_set(a[(size_t)i * lda]);
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) acc[i][j] = vf_fma(x, row[j], acc[i][j]);
  }
}

/*
 * c [m][nv vectors] (+)= a [m][k] * b [k][nv vectors], row strides lda, ldb and ldc; lda = GEMM_KC says that
 * `a` is packed.
 */
typedef struct {
  const float *a, *b;
  float *c;
  size_t lda, ldb, ldc, m, k;
  int nv, accumulate;
} gemm_product;

/* One register tile: m rows and nv vectors, both constants where this is inlined; from row i on. */
GQA_INLINE void gemm_tile(const int m, const int nv, const gemm_product g, size_t i0, gemm_ahead *ahead) {
  enum { GEMM_STEPS = 8 };
  const float *a = g.a + i0 * g.lda, *b = g.b;
  float *c = g.c + i0 * g.ldc;
  vf acc[GEMM_MR][2];
  GQA_UNROLL(12)
  for (int i = 0; i < m; i++) {
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) acc[i][j] = g.accumulate ? vf_load(c + (size_t)i * g.ldc + j * VL) : vf_set(0.0f);
  }
  gemm_walk first = ahead->first, second = ahead->second, target = ahead->target;
  size_t p = 0;
  for (; p + GEMM_STEPS <= g.k; p += GEMM_STEPS) {
    gemm_fetch(&first, 0);
    gemm_fetch(&first, 0);
    gemm_fetch(&second, 0);
    gemm_fetch(&target, 1);
    for (int i = 0; i < GEMM_STEPS; i++, a++, b += g.ldb) gemm_step(m, nv, a, g.lda, b, acc);
  }
  for (; p < g.k; p++, a++, b += g.ldb) gemm_step(m, nv, a, g.lda, b, acc);
  ahead->first = first, ahead->second = second, ahead->target = target;
  GQA_UNROLL(12)
  for (int i = 0; i < m; i++) {
    GQA_UNROLL(2)
    for (int j = 0; j < nv; j++) vf_store(c + (size_t)i * g.ldc + j * VL, acc[i][j]);
  }
}

GQA_INLINE void gemm_rows(const int nv, const gemm_product g, gemm_ahead *ahead) {
  size_t i = 0;
  for (; i + GEMM_MR <= g.m; i += GEMM_MR) gemm_tile(GEMM_MR, nv, g, i, ahead);
  for (; i + 4 <= g.m; i += 4) gemm_tile(4, nv, g, i, ahead);
  if (i + 2 <= g.m) {
    gemm_tile(2, nv, g, i, ahead);
    i += 2;
  }
  if (i < g.m) gemm_tile(1, nv, g, i, ahead);
}

/* `a` packed: its row stride is a constant. */
GQA_NOINLINE void gemm_panel_packed(const gemm_product *product, gemm_ahead *ahead) {
  gemm_product g = *product;
  g.lda = GEMM_KC;
  if (g.nv == 2) gemm_rows(2, g, ahead);
  else gemm_rows(1, g, ahead);
}
GQA_NOINLINE void gemm_panel_in_place(const gemm_product *product, gemm_ahead *ahead) {
  if (product->nv == 2) gemm_rows(2, *product, ahead);
  else gemm_rows(1, *product, ahead);
}

/* m rows of `a` against one panel, k <= GEMM_KC. */
GQA_INLINE void gemm_panel(const gemm_product *g, gemm_ahead *ahead) {
  if (g->lda == GEMM_KC) gemm_panel_packed(g, ahead);
  else gemm_panel_in_place(g, ahead);
}

/*
 * The same for `columns` of c's columns: where they are fewer than the panel has, through `tile`
 * [m][GEMM_NR].
 */
GQA_INLINE void gemm_panel_part(const gemm_product *g, size_t columns, float *tile, gemm_ahead *ahead) {
  if (columns == (size_t)g->nv * VL) {
    gemm_panel(g, ahead);
    return;
  }
  gemm_product part = *g;
  part.c = tile, part.ldc = GEMM_NR;
  for (size_t i = 0; i < g->m && g->accumulate; i++) memcpy(tile + i * GEMM_NR, g->c + i * g->ldc, columns * sizeof(float));
  gemm_panel(&part, ahead);
  for (size_t i = 0; i < g->m; i++) memcpy(g->c + i * g->ldc, tile + i * GEMM_NR, columns * sizeof(float));
}

/* Whether rows can be read in place: rows a multiple of 1 KiB apart map to few sets of L1. */
GQA_INLINE int gemm_in_place(size_t lda) { return lda % 256 != 0; }

/* Packs m rows of k elements. */
GQA_INLINE void gemm_pack(float *block, const float *a, size_t lda, size_t m, size_t k) {
  for (size_t i = 0; i < m; i++) memcpy(block + i * GEMM_KC, a + i * lda, k * sizeof(float));
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

/*
 * Packs rows at … of x [rows, k] (row stride ldx) as the columns of a panel [k][VL or GEMM_NR], missing ones
 * as zeros.
 */
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
    if (have == width) {
      vf_store(panel, vf_load(row));
      if (have == GEMM_NR) vf_store(panel + VL, vf_load(row + VL));
    } else {
      memset(panel, 0, width * sizeof(float));
      memcpy(panel, row, have * sizeof(float));
    }
  }
}

#endif
