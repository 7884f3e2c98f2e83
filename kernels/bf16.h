/*
 * bf16.h: packs operands of the units' bf16 products (units.h). Values are rounded to nearest even; what is
 * missing to a multiple of BF16_K along k, or of 16 columns, is filled with zeros.
 */
#ifndef GQA_BF16_H
#define GQA_BF16_H
#include "gemm.h"
#include "units.h"

/*
 * BF16_COLUMNS: n of a product is a multiple. BF16_PANEL: columns of a panel of b; BF16_RUN of its k stay in L1.
 * BF16_BLOCK: elements of a packed block of a, part of L2; BF16_DEPTH: its k at most. BF16_PACKED: elements of b
 * that are packed at once, about.
 */
enum { BF16_COLUMNS = 16, BF16_PANEL = 32, BF16_DEPTH = 4096, BF16_RUN = 576, BF16_BLOCK = 1 << 19, BF16_PACKED = 2 * GEMM_PACKED_FLOATS };

/* Whether a call of this precision uses the processor's unit. WASM has none: its build then has no such code. */
GQA_INLINE int bf16_wanted(int precision) {
#if defined(__wasm__)
  return 0;
#else
  return precision == GQA_BFLOAT16 && gqa_units.bf16;
#endif
}

GQA_INLINE size_t bf16_padded(size_t k) { return gqa_ceil(k, BF16_K) * BF16_K; }

/* Columns of the panel that begins at column `at` of n. */
GQA_INLINE size_t bf16_width(size_t n, size_t at) { return gqa_min(BF16_PANEL, gqa_ceil(n - at, BF16_COLUMNS) * BF16_COLUMNS); }

/* The elements between rows of a packed block of a: an odd number of cache lines, so that rows do not share sets. */
GQA_INLINE size_t bf16_stride(size_t k) { return (gqa_ceil(k, BF16_K) | 1) * BF16_K; }

/* Rows of a block of a, of `rows`. Smaller blocks where there are few: every tiling gives the same bits. */
GQA_INLINE size_t bf16_block_rows(size_t rows, size_t k) {
  enum { UNIT = 32, MOST = 256 };
  const size_t wanted = gqa_threads() > 1 ? 2 * (size_t)gqa_threads() : 1, fitting = gqa_min(MOST, BF16_BLOCK / gqa_min(BF16_DEPTH, bf16_padded(k)));
  return gqa_max(1, gqa_min(fitting, gqa_ceil(rows, wanted)) / UNIT) * UNIT;
}

/* The bits of v rounded to bf16, in the upper halves; the lower are not zero. */
GQA_INLINE vu bf16_upper(vf v) {
  const vu bits = (vu)v, nan = (vu)(v != v);
  return (nan & (bits | 0x400000)) | (~nan & (bits + 0x7fff + ((bits >> 16) & 1)));
}

/* Two values per lane: `even` in the lower half. */
GQA_INLINE vf bf16_pair(vf even, vf odd) { return (vf)((bf16_upper(even) >> 16) | (bf16_upper(odd) & 0xffff0000u)); }

GQA_INLINE void bf16_round(uint16_t *to, const float *from, size_t n) {
  size_t i = 0;
  for (; i + VL <= n; i += VL) vf_store_bf16(to + i, vf_load(from + i));
  for (; i < n; i++) to[i] = float_to_bfloat(from[i]);
}

/* Operand a: rows of k elements, ldf apart, ldt apart. */
GQA_INLINE void bf16_pack_rows(uint16_t *to, size_t ldt, const float *from, size_t ldf, size_t rows, size_t k) {
  const size_t padded = bf16_padded(k);
  for (size_t r = 0; r < rows; r++, to += ldt, from += ldf) {
    bf16_round(to, from, k);
    memset(to + k, 0, (padded - k) * sizeof *to);
  }
}

/*
 * Operand b from its rows: from [k][n], rows ldf apart, as pairs [k / 2][n][2], ldt pairs from one row of pairs
 * to the next.
 */
GQA_NOINLINE void bf16_pack_pairs(uint16_t *to, size_t ldt, const float *from, size_t ldf, size_t k, size_t n) {
  const size_t rows = bf16_padded(k), columns = gqa_ceil(n, BF16_COLUMNS) * BF16_COLUMNS;
  for (size_t r = 0; r < rows; r += 2, to += 2 * ldt, from += 2 * ldf)
    for (size_t c = 0; c < columns; c += VL) {
      const vf zero = vf_set(0.0f), even = r < k && c < n ? vf_load_upto(from + c, n - c) : zero, odd = r + 1 < k && c < n ? vf_load_upto(from + ldf + c, n - c) : zero;
      vf_store((float *)(void *)(to + 2 * c), bf16_pair(even, odd));
    }
}

/* Operand b from its columns: from [n][k], rows ldf apart, as bf16_pack_pairs. */
GQA_NOINLINE void bf16_pack_columns(uint16_t *to, size_t ldt, const float *from, size_t ldf, size_t n, size_t k) {
  enum { DEPTH = 128 };
  uint16_t rows[BF16_COLUMNS * DEPTH];
  for (size_t c = 0; c < n; c += BF16_COLUMNS)
    for (size_t k0 = 0; k0 < k; k0 += DEPTH) {
      const size_t have = gqa_min(BF16_COLUMNS, n - c), depth = gqa_min(DEPTH, k - k0), padded = bf16_padded(depth);
      bf16_pack_rows(rows, DEPTH, from + c * ldf + k0, ldf, have, depth);
      if (have < BF16_COLUMNS) memset(rows + have * DEPTH, 0, (BF16_COLUMNS - have) * DEPTH * sizeof *rows);
      /* A pair has the size of a float. */
      transpose_into((float *)(void *)(to + k0 * ldt) + c, ldt, (const float *)(const void *)rows, DEPTH / 2, BF16_COLUMNS, padded / 2);
    }
}

/* Operand a from its columns: from [k][m], rows ldf apart, as bf16_pack_rows. */
GQA_NOINLINE void bf16_pack_transposed(uint16_t *to, size_t ldt, const float *from, size_t ldf, size_t k, size_t m) {
  enum { ROWS = 16, DEPTH = 128 };
  float rows[ROWS * DEPTH];
  for (size_t r = 0; r < m; r += ROWS)
    for (size_t k0 = 0; k0 < k; k0 += DEPTH) {
      const size_t have = gqa_min(ROWS, m - r), depth = gqa_min(DEPTH, k - k0);
      transpose_into(rows, DEPTH, from + k0 * ldf + r, ldf, depth, have);
      bf16_pack_rows(to + r * ldt + k0, ldt, rows, DEPTH, have, depth);
    }
}

/*
 * c [m][n] (+)= a [m][k] times columns of b that begin at k0 of their panels: panels [depth / 2][width][2] one
 * after the other. tile: [m][BF16_PANEL] floats.
 */
GQA_INLINE void bf16_multiply(const uint16_t *a, size_t lda, size_t m, size_t k, const uint16_t *panels, size_t depth, size_t k0, int accumulate, size_t n, float *c, size_t ldc, float *tile) {
  const size_t run = bf16_padded(gqa_ceil(k, gqa_ceil(k, BF16_RUN)));
  for (size_t j = 0; j < n; j += BF16_PANEL) {
    const size_t width = bf16_width(n, j), have = gqa_min(width, n - j);
    const uint16_t *b = panels + j * depth + k0 * width;
    /* Sums of several runs are kept where they are close together. */
    const int direct = have == width && (run == k || ldc == BF16_PANEL);
    float *to = direct ? c + j : tile;
    const size_t ldt = direct ? ldc : BF16_PANEL;
    for (size_t i = 0; i < m && accumulate && !direct; i++) memcpy(tile + i * BF16_PANEL, c + i * ldc + j, have * sizeof(float));
    for (size_t r = 0; r < k; r += run)
      gqa_units.bf16->product(&(bf16_product){.a = a + r, .lda = lda, .b = b + r * width, .ldb = width, .c = to, .ldc = ldt, .m = m, .n = width, .k = gqa_min(run, k - r), .accumulate = accumulate || r > 0, .ahead = b + BF16_PANEL * depth + r * width});
    for (size_t i = 0; i < m && !direct; i++) memcpy(c + i * ldc + j, tile + i * BF16_PANEL, have * sizeof(float));
  }
}

#endif
