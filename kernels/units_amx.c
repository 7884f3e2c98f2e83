/*
 * units_amx.c: bf16 products by Intel's AMX: up to 2 x 2 tiles of 16 x 16 sums, which stay in tile registers
 * while k runs. Tile registers 0 to 3 are c, 4 and 5 a, 6 and 7 b.
 *
 * The configuration of the tiles belongs to a thread, so each call sets it; it is released at the end, since
 * a thread with live tiles costs the operating system 8 KiB at each switch.
 */
#include "units.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#include <string.h>

#define AMX_INLINE static inline __attribute__((always_inline))

enum { AMX_ROWS = 16, AMX_COLUMNS = 16 }; /* of a tile of c */

typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} amx_config;

/* first, second: rows of the upper and the lower tiles of a and c; second may be 0. */
static void amx_configure(int first, int second) {
  amx_config config = {.palette = 1};
  for (int i = 0; i < 8; i++) {
    const int upper = i < 2 || i == 4, lower = i == 2 || i == 3 || i == 5;
    const int rows = upper ? first : lower ? second : BF16_K / 2;
    config.rows[i] = (uint8_t)rows;
    config.row_bytes[i] = rows ? 64 : 0;
  }
  /* The compiler does not see that the instruction reads all of it. */
  __asm__ volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

typedef struct {
  const char *at;
  size_t lines;
} amx_ahead;

/* Rows from i and columns from j on; `lower` and `right` are constants: whether there are two tiles that way. */
AMX_INLINE void amx_block(const bf16_product *p, amx_ahead *ahead, size_t i, size_t j, const int lower, const int right) {
  const uint16_t *a = p->a + i * p->lda;
  const uint32_t *b = (const uint32_t *)(const void *)p->b + j;
  float *c = p->c + i * p->ldc + j, *below = c + AMX_ROWS * p->ldc;
  const size_t lda = p->lda * sizeof *a, ldb = p->ldb * sizeof *b, ldc = p->ldc * sizeof *c, below_a = AMX_ROWS * p->lda;
  if (p->accumulate) {
    _tile_loadd(0, c, ldc);
    if (right) _tile_loadd(1, c + AMX_COLUMNS, ldc);
    if (lower) _tile_loadd(2, below, ldc);
    if (lower && right) _tile_loadd(3, below + AMX_COLUMNS, ldc);
  } else {
    _tile_zero(0);
    if (right) _tile_zero(1);
    if (lower) _tile_zero(2);
    if (lower && right) _tile_zero(3);
  }
  for (size_t k = 0; k < p->k; k += BF16_K, a += BF16_K, b += BF16_K / 2 * p->ldb) {
    _tile_loadd(6, b, ldb);
    _tile_stream_loadd(4, a, lda);
    _tile_dpbf16ps(0, 4, 6);
    if (right) {
      _tile_loadd(7, b + AMX_COLUMNS, ldb);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (lower) {
      _tile_stream_loadd(5, a + below_a, lda);
      _tile_dpbf16ps(2, 5, 6);
      if (right) _tile_dpbf16ps(3, 5, 7);
    }
    for (size_t line = 0; line < ahead->lines; line++, ahead->at += 64) __builtin_prefetch(ahead->at, 0, 2);
  }
  _tile_stored(0, c, ldc);
  if (right) _tile_stored(1, c + AMX_COLUMNS, ldc);
  if (lower) _tile_stored(2, below, ldc);
  if (lower && right) _tile_stored(3, below + AMX_COLUMNS, ldc);
}

static void amx_columns(const bf16_product *p, amx_ahead *ahead, size_t i, size_t rows) {
  size_t j = 0;
  if (rows > AMX_ROWS) {
    for (; j + 2 * AMX_COLUMNS <= p->n; j += 2 * AMX_COLUMNS) amx_block(p, ahead, i, j, 1, 1);
    if (j < p->n) amx_block(p, ahead, i, j, 1, 0);
  } else {
    for (; j + 2 * AMX_COLUMNS <= p->n; j += 2 * AMX_COLUMNS) amx_block(p, ahead, i, j, 0, 1);
    if (j < p->n) amx_block(p, ahead, i, j, 0, 0);
  }
}

static void amx_product(const bf16_product *p) {
  const size_t whole = p->m / (2 * AMX_ROWS) * (2 * AMX_ROWS), rest = p->m - whole;
  amx_ahead ahead = {(const char *)p->ahead, p->ahead ? (1024 + p->m - 1) / p->m : 0};
  if (whole) amx_configure(AMX_ROWS, AMX_ROWS);
  for (size_t i = 0; i < whole; i += 2 * AMX_ROWS) amx_columns(p, &ahead, i, 2 * AMX_ROWS);
  if (rest) {
    amx_configure(rest < AMX_ROWS ? (int)rest : AMX_ROWS, rest > AMX_ROWS ? (int)rest - AMX_ROWS : 0);
    amx_columns(p, &ahead, whole, rest);
  }
  _tile_release();
}

const bf16_unit gqa_bf16_amx = {amx_product};
#else
const bf16_unit gqa_bf16_amx = {0};
#endif
