/*
 * units.h: matrix units of the processor for narrow operands. dispatch.c chooses them with the table of
 * kernels; a kernel uses what gqa_units has, and f32 where it has none.
 *
 * Each units_<name>.c is compiled with flags of its own (scripts/native-units.mjs). Where the compiler has no
 * such flags its functions are NULL, and dispatch.c leaves out the rows that need them.
 */
#ifndef GQA_UNITS_H
#define GQA_UNITS_H
#include <stddef.h>
#include <stdint.h>

/*
 * c [m][n] (+)= a [m][k] b [k][n], bf16 operands, f32 sums.
 *
 * a: rows, lda elements apart. b: pairs along k, [k / 2][n][2], ldb pairs from one row of pairs to the next.
 * c: rows ldc apart. n is a multiple of 16, k of BF16_K; who packs shorter operands fills both with zeros.
 * Any m, any alignment.
 *
 * Numerics: subnormal operands and products count as zero. The order of the sums depends on the unit and on
 * k, not on m and n.
 */
typedef struct {
  const uint16_t *a, *b;
  float *c;
  size_t lda, ldb, ldc, m, n, k;
  int accumulate;
  const uint16_t *ahead; /* k * n elements that are needed next, to be prefetched into L2; 0 = none */
} bf16_product;

enum { BF16_K = 32 };

typedef struct {
  void (*product)(const bf16_product *p); /* NULL: not compiled */
} bf16_unit;

extern const bf16_unit gqa_bf16_amx, gqa_bf16_avx512, gqa_bf16_neon;

/* linear (linear.c) with 8-bit activations, for calls whose weights are all block-quantized. */
typedef struct {
  void (*linear)(const double *arguments); /* NULL: not compiled */
} int8_unit;

extern const int8_unit gqa_int8_avx512, gqa_int8_avx2, gqa_int8_neon, gqa_int8_wasm;

typedef struct {
  const bf16_unit *bf16; /* NULL: none */
  const int8_unit *int8;
} gqa_unit_set;

/* What the running call may use; the host sets it before a call. */
extern gqa_unit_set gqa_units;

#endif
