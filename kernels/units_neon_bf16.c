/*
 * units_neon_bf16.c: bf16 products by arm64's BFMMLA, which adds to 2 x 2 sums the products of two rows and
 * two columns of four k: 4 rows by 8 columns of sums stay in registers while k runs.
 */
#include "units.h"

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <arm_neon.h>

#define MMLA_INLINE static inline __attribute__((always_inline))

enum { MMLA_ROWS = 4, MMLA_COLUMNS = 8 };

/* Two rows of four k, the second maybe missing. */
MMLA_INLINE bfloat16x8_t mmla_rows(const uint16_t *a, size_t lda, int two) {
  const uint16x4_t first = vld1_u16(a);
  return vreinterpretq_bf16_u16(vcombine_u16(first, two ? vld1_u16(a + lda) : vdup_n_u16(0)));
}

/* rows: 1 to MMLA_ROWS, a constant. */
MMLA_INLINE void mmla_tile(const int rows, const bf16_product *p, size_t i0, size_t j0) {
  const uint16_t *a = p->a + i0 * p->lda;
  const uint32_t *b = (const uint32_t *)(const void *)p->b + j0;
  float *c = p->c + i0 * p->ldc + j0;
  enum { PAIRS = MMLA_COLUMNS / 2 };
  float32x4_t sums[MMLA_ROWS / 2][PAIRS]; /* of rows 2i, 2i + 1 and columns 2j, 2j + 1 */
#pragma GCC unroll 2
  for (int i = 0; i < (rows + 1) / 2; i++)
#pragma GCC unroll 4
    for (int j = 0; j < PAIRS; j++) {
      const float *from = c + (size_t)(2 * i) * p->ldc + 2 * j;
      const float32x2_t upper = p->accumulate ? vld1_f32(from) : vdup_n_f32(0);
      sums[i][j] = vcombine_f32(upper, p->accumulate && 2 * i + 1 < rows ? vld1_f32(from + p->ldc) : vdup_n_f32(0));
    }
  for (size_t k = 0; k < p->k; k += 4, a += 4, b += 2 * p->ldb) {
    bfloat16x8_t columns[PAIRS];
#pragma GCC unroll 2
    for (int j = 0; j < PAIRS; j += 2) {
      const uint32x4_t even = vld1q_u32(b + 2 * j), odd = vld1q_u32(b + p->ldb + 2 * j);
      columns[j] = vreinterpretq_bf16_u32(vzip1q_u32(even, odd));
      columns[j + 1] = vreinterpretq_bf16_u32(vzip2q_u32(even, odd));
    }
#pragma GCC unroll 2
    for (int i = 0; i < (rows + 1) / 2; i++) {
      const bfloat16x8_t two = mmla_rows(a + (size_t)(2 * i) * p->lda, p->lda, 2 * i + 1 < rows);
#pragma GCC unroll 4
      for (int j = 0; j < PAIRS; j++) sums[i][j] = vbfmmlaq_f32(sums[i][j], two, columns[j]);
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < (rows + 1) / 2; i++)
#pragma GCC unroll 4
    for (int j = 0; j < PAIRS; j++) {
      float *to = c + (size_t)(2 * i) * p->ldc + 2 * j;
      vst1_f32(to, vget_low_f32(sums[i][j]));
      if (2 * i + 1 < rows) vst1_f32(to + p->ldc, vget_high_f32(sums[i][j]));
    }
}

static void mmla_product(const bf16_product *p) {
  for (size_t j = 0; j < p->n; j += MMLA_COLUMNS) {
    size_t i = 0;
    for (; i + MMLA_ROWS <= p->m; i += MMLA_ROWS) mmla_tile(MMLA_ROWS, p, i, j);
    switch (p->m - i) {
      case 3: mmla_tile(3, p, i, j); break;
      case 2: mmla_tile(2, p, i, j); break;
      case 1: mmla_tile(1, p, i, j); break;
      default: break;
    }
  }
}

const bf16_unit gqa_bf16_neon = {mmla_product};
#else
const bf16_unit gqa_bf16_neon = {0};
#endif
