/*
 * bf16.h: packs operands of the units' bf16 products (units.h). Values are rounded to nearest even; what is
 * missing to a multiple of BF16_K along k, or of 16 columns, is filled with zeros.
 */
#ifndef GQA_BF16_H
#define GQA_BF16_H
#include "gemm.h"
#include "units.h"

enum { BF16_COLUMNS = 16 }; /* n of a product is a multiple */

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

/* Operand a: rows of k elements, ldf apart, as rows of gqa_ceil(k, BF16_K) * BF16_K, ldt apart. */
GQA_INLINE void bf16_pack_rows(uint16_t *to, size_t ldt, const float *from, size_t ldf, size_t rows, size_t k) {
  const size_t padded = gqa_ceil(k, BF16_K) * BF16_K;
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
  const size_t rows = gqa_ceil(k, BF16_K) * BF16_K, columns = gqa_ceil(n, BF16_COLUMNS) * BF16_COLUMNS;
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
      const size_t have = gqa_min(BF16_COLUMNS, n - c), depth = gqa_min(DEPTH, k - k0), padded = gqa_ceil(depth, BF16_K) * BF16_K;
      bf16_pack_rows(rows, DEPTH, from + c * ldf + k0, ldf, have, depth);
      if (have < BF16_COLUMNS) memset(rows + have * DEPTH, 0, (BF16_COLUMNS - have) * DEPTH * sizeof *rows);
      /* A pair has the size of a float. */
      transpose_into((float *)(void *)(to + k0 * ldt) + c, ldt, (const float *)(const void *)rows, DEPTH / 2, BF16_COLUMNS, padded / 2);
    }
}

#endif
