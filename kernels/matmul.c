/*
 * matmul.c: batched f32 matrix products with either operand transposed.
 *
 * matmul: [out, a, b, batch, M, N, K, transposeA, transposeB, aBatchStride, bBatchStride, precision]
 * out [batch, M, N] = a [M, K] (or [K, M]) @ b [K, N] (or [N, K]); batch strides in elements, 0 = the same
 * matrix each time.
 *
 * b is packed into panels once (gemm.h), all threads helping; a task is a block of MC rows by BLOCK_COLUMNS
 * columns. With few rows packing costs more than it saves: then b is read in place, as dot products when it
 * is transposed.
 *
 * Numerics: gemm.h, dot.h; with bf16 operands as linear and its gradients.
 */
#include "dot.h"
#include "gemm.h"

/* MATMUL_COLUMNS is a multiple of GEMM_NR for every VL. */
enum { MATMUL_COLUMNS = 256, MATMUL_FEW_ROWS = 2 * GEMM_MR, MATMUL_DOT_ROWS = VL == 16 ? 8 : 4, MATMUL_DOT_COLUMNS = 64 };

typedef struct {
  float *out;
  const float *a, *b;
  size_t M, N, K, a_batch, b_batch, a_row, b_row; /* a_row, b_row: row strides as stored */
  int transpose_a, transpose_b;
  float *panels; /* NULL: b is read in place */
  size_t first_batch, first_column, columns; /* what `panels` holds: `columns` columns of each of some batch entries */
} matmul_call;

static void matmul_pack_task(void *context, int task, int worker) {
  const matmul_call *c = context;
  const size_t panels = gqa_ceil(c->columns, GEMM_NR), entry = (size_t)task / panels, at = (size_t)task % panels * GEMM_NR;
  const float *b = c->b + (c->first_batch + entry) * c->b_batch;
  const size_t padded = gqa_ceil(c->columns, VL) * VL;
  float *panel = c->panels + (entry * padded + at) * c->K;
  if (c->transpose_b) pack_panel_transposed(panel, b + c->first_column * c->b_row, c->b_row, c->columns, at, c->K);
  else pack_panel(panel, b + c->first_column, c->b_row, c->columns, at, c->K);
}

static void matmul_task(void *context, int task, int worker) {
  const matmul_call *c = context;
  const size_t row_blocks = gqa_ceil(c->M, GEMM_MC), column_blocks = gqa_ceil(c->columns, MATMUL_COLUMNS);
  const size_t entry = (size_t)task / (row_blocks * column_blocks), block = (size_t)task % (row_blocks * column_blocks);
  const size_t row = block / column_blocks * GEMM_MC, column = block % column_blocks * MATMUL_COLUMNS;
  const size_t m = gqa_min(GEMM_MC, c->M - row), n = gqa_min(MATMUL_COLUMNS, c->columns - column), batch = c->first_batch + entry;
  const float *a = c->a + batch * c->a_batch, *b = c->b + batch * c->b_batch + c->first_column + column;
  const float *panels = c->panels ? c->panels + ((c->b_batch ? entry : 0) * gqa_ceil(c->columns, VL) * VL + column) * c->K : 0;
  float *out = c->out + (batch * c->M + row) * c->N + c->first_column + column;
  float *a_block = gqa_scratch(worker, (GEMM_MC * GEMM_KC + GEMM_MC * GEMM_NR + GEMM_KC * GEMM_NR) * sizeof(float)), *tile = a_block + GEMM_MC * GEMM_KC, *edge = tile + GEMM_MC * GEMM_NR;
  if (c->K == 0)
    for (size_t i = 0; i < m; i++) memset(out + i * c->N, 0, n * sizeof(float));
  for (size_t k0 = 0, depth = gemm_depth(c->K); k0 < c->K; k0 += depth) {
    const size_t k = gqa_min(depth, c->K - k0);
    if (c->transpose_a) transpose_into(a_block, GEMM_KC, a + k0 * c->a_row + row, c->a_row, k, m);
    else gemm_pack(a_block, a + row * c->a_row + k0, c->a_row, m, k);
    for (size_t j = 0; j < n; j += GEMM_NR) {
      const int nv = panel_vectors(c->columns - column, j);
      const size_t width = (size_t)nv * VL, have = gqa_min(width, n - j);
      const float *panel = panels ? panels + j * c->K + k0 * width : b + k0 * c->b_row + j;
      size_t ldb = panels ? width : c->b_row;
      if (!panels && have < width) {
        pack_panel(edge, b + k0 * c->b_row, c->b_row, n, j, k);
        panel = edge;
        ldb = width;
      }
      gemm_ahead ahead = {panels ? gemm_walk_line(panel + GEMM_NR * c->K) : gemm_walk_rows(panel + GEMM_NR, GEMM_NR, c->b_row), gemm_walk_none(panel), gemm_walk_none(panel)};
      const gemm_product g = {.a = a_block, .lda = GEMM_KC, .b = panel, .ldb = ldb, .c = out + j, .ldc = c->N, .m = m, .k = k, .nv = nv, .accumulate = k0 > 0};
      gemm_panel_part(&g, have, tile, &ahead);
    }
  }
}

/* Few rows of a against rows of b: both lie along K. */
static void matmul_dot_task(void *context, int task, int worker) {
  const matmul_call *c = context;
  const size_t blocks = gqa_ceil(c->N, MATMUL_DOT_COLUMNS), batch = (size_t)task / blocks, at = (size_t)task % blocks * MATMUL_DOT_COLUMNS;
  const float *a = c->a + batch * c->a_batch, *b = c->b + batch * c->b_batch;
  const size_t end = gqa_min(at + MATMUL_DOT_COLUMNS, c->N);
  for (size_t j = at; j < end; j += DOT_W) {
    const float *w[DOT_W];
    const size_t n = gqa_min(DOT_W, end - j);
    for (size_t i = 0; i < DOT_W; i++) w[i] = b + gqa_min(j + i, end - 1) * c->b_row;
    for (size_t i = 0; i < c->M; i += DOT_X) {
      const size_t rows = gqa_min(DOT_X, c->M - i);
      float totals[DOT_X][DOT_W][VL];
      dot_ahead none = {(const uint8_t *)totals, 0}; /* a line that is already cached */
      dot_tile((int)rows, w, a + i * c->a_row, c->a_row, c->K, 1, &none, totals);
      for (size_t r = 0; r < rows; r++) dot_store_sums(totals[r], 0, n, c->out + (batch * c->M + i + r) * c->N + j);
    }
  }
}

/*
 * One product with bf16 operands is linear or one of its gradients. Returns 0, having done nothing, for other
 * calls: both operands transposed, more than one product, or so few rows, columns or terms that padding them
 * to BF16_K is slower than f32.
 */
static int matmul_bf16(const double *v) {
  const double out = v[0], a = v[1], b = v[2], M = v[4], N = v[5], K = v[6];
  const int transpose_a = (int)v[7], transpose_b = (int)v[8], precision = (int)v[11];
  if (!bf16_wanted(precision) || v[3] != 1 || M < BF16_K || N < BF16_K || K < BF16_K || (transpose_a && transpose_b)) return 0;
  if (transpose_a) op_linear_backward((double[]){0, b, K, N, precision, 1, 0, M, a, out});
  else if (transpose_b) op_linear((double[]){a, M, K, precision, 1, b, GQA_F32, N, 0, out});
  else op_linear_backward((double[]){out, 0, M, N, precision, 1, b, K, a, 0});
  return 1;
}

static void op_matmul(const double *v) {
  if (matmul_bf16(v)) return;
  matmul_call c = {.out = gqa_pointer(v[0]), .a = gqa_pointer(v[1]), .b = gqa_pointer(v[2]), .M = (size_t)v[4], .N = (size_t)v[5], .K = (size_t)v[6],
                   .transpose_a = (int)v[7], .transpose_b = (int)v[8], .a_batch = (size_t)v[9], .b_batch = (size_t)v[10]};
  size_t batch = (size_t)v[3];
  if (batch == 0 || c.M == 0 || c.N == 0) return;
  if (c.a_batch == c.M * c.K && c.b_batch == 0 && !c.transpose_a) { /* one tall product */
    c.M *= batch;
    batch = 1;
  }
  c.a_row = c.transpose_a ? c.M : c.K;
  c.b_row = c.transpose_b ? c.K : c.N;
  const double entry_work = (double)c.M * (double)c.N * (double)c.K / 16;
  if (c.transpose_b && !c.transpose_a && c.M < MATMUL_DOT_ROWS) {
    gqa_run(batch * gqa_ceil(c.N, MATMUL_DOT_COLUMNS), matmul_dot_task, &c, entry_work * (double)batch);
    return;
  }
  if (!c.transpose_b && c.M <= MATMUL_FEW_ROWS) {
    c.columns = c.N;
    gqa_run(batch * gqa_ceil(c.M, GEMM_MC) * gqa_ceil(c.N, MATMUL_COLUMNS), matmul_task, &c, entry_work * (double)batch);
    return;
  }
  const size_t columns_at_once = gqa_max(MATMUL_COLUMNS, GEMM_PACKED_FLOATS / gqa_max(1, c.K) / MATMUL_COLUMNS * MATMUL_COLUMNS);
  for (c.first_column = 0; c.first_column < c.N; c.first_column += c.columns) {
    c.columns = gqa_min(columns_at_once, c.N - c.first_column);
    const size_t floats = gqa_ceil(c.columns, VL) * VL * c.K;
    const size_t entries_at_once = c.b_batch ? gqa_max(1, GEMM_PACKED_FLOATS / gqa_max(1, floats)) : batch;
    for (c.first_batch = 0; c.first_batch < batch; c.first_batch += entries_at_once) {
      const size_t entries = gqa_min(entries_at_once, batch - c.first_batch), packed = c.b_batch ? entries : 1;
      c.panels = gqa_scratch(GQA_SHARED, packed * floats * sizeof(float) + 64);
      gqa_run(packed * gqa_ceil(c.columns, GEMM_NR), matmul_pack_task, &c, (double)packed * (double)floats);
      gqa_run(entries * gqa_ceil(c.M, GEMM_MC) * gqa_ceil(c.columns, MATMUL_COLUMNS), matmul_task, &c, (double)entries * entry_work);
    }
  }
}
