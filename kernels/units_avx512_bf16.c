/*
 * units_avx512_bf16.c: bf16 products by AVX512-BF16 (VDPBF16PS): up to 12 rows by 2 vectors of sums stay in
 * registers while k runs; pairs of a are broadcast.
 */
#include "units.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#include <string.h>

#define DP_INLINE static inline __attribute__((always_inline))

enum { DP_ROWS = 12, DP_LANES = 16 };

/* One pair of k: rows and nv are constants. */
DP_INLINE void dp_step(const int rows, const int nv, const uint16_t *a, size_t lda, const uint32_t *b, __m512 (*sums)[2]) {
  __m512bh pairs[2];
#pragma GCC unroll 2
  for (int j = 0; j < nv; j++) pairs[j] = (__m512bh)_mm512_loadu_si512(b + j * DP_LANES);
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++) {
    int32_t pair;
    memcpy(&pair, a + (size_t)i * lda, sizeof pair);
    const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
    for (int j = 0; j < nv; j++) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], x, pairs[j]);
  }
}

DP_INLINE void dp_tile(const int rows, const int nv, const bf16_product *p, size_t i0, size_t j0) {
  const uint16_t *a = p->a + i0 * p->lda;
  const uint32_t *b = (const uint32_t *)(const void *)p->b + j0;
  const size_t lda = p->lda, ldb = p->ldb;
  float *c = p->c + i0 * p->ldc + j0;
  __m512 sums[DP_ROWS][2];
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < nv; j++) sums[i][j] = p->accumulate ? _mm512_loadu_ps(c + (size_t)i * p->ldc + j * DP_LANES) : _mm512_setzero_ps();
  }
  for (size_t k = 0; k < p->k; k += 2, a += 2, b += ldb) dp_step(rows, nv, a, lda, b, sums);
#pragma GCC unroll 12
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int j = 0; j < nv; j++) _mm512_storeu_ps(c + (size_t)i * p->ldc + j * DP_LANES, sums[i][j]);
  }
}

DP_INLINE void dp_columns(const int nv, const bf16_product *p, size_t j) {
  size_t i = 0;
  for (; i + DP_ROWS <= p->m; i += DP_ROWS) dp_tile(DP_ROWS, nv, p, i, j);
  for (; i + 4 <= p->m; i += 4) dp_tile(4, nv, p, i, j);
  for (; i < p->m; i++) dp_tile(1, nv, p, i, j);
}

static void dp_product(const bf16_product *p) {
  size_t j = 0;
  for (; j + 2 * DP_LANES <= p->n; j += 2 * DP_LANES) dp_columns(2, p, j);
  if (j < p->n) dp_columns(1, p, j);
}

const bf16_unit gqa_bf16_avx512 = {dp_product};
#else
const bf16_unit gqa_bf16_avx512 = {0};
#endif
