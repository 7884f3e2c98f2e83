/*
 * matmul.c: batched f32 matrix products with either operand transposed.
 *
 * matmul: [out, a, b, batch, M, N, K, transposeA, transposeB, aBatchStride, bBatchStride]
 * out [batch, M, N] = a [M, K] (or [K, M]) @ b [K, N] (or [N, K]); batch strides in elements, 0 = the same matrix each time.
 *
 * b is packed into panels once (gemm.h), all threads helping; a task is a block of MC rows by BLOCK_COLUMNS columns. With few rows
 * packing costs more than it saves: then b is read in place, as dot products when it is transposed.
 *
 * Numerics: gemm.h, dot.h.
 */
#include "dot.h"
#include "gemm.h"

/* BLOCK_COLUMNS is a multiple of NR for every VL. */
enum { BLOCK_COLUMNS = 256, FEW_ROWS = 2 * MR, DOT_ROWS = VL == 16 ? 8 : 4, DOT_COLUMNS = 64 };

typedef struct {
  float *out;
  const float *a, *b;
  size_t M, N, K, aBatch, bBatch, aRow, bRow; /* aRow, bRow: row strides as stored */
  int transposeA, transposeB;
  float *panels; /* NULL: b is read in place */
  size_t firstBatch, firstColumn, columns; /* what `panels` holds: `columns` columns of each of some batch entries */
} matmul_call;

static void matmul_pack_task(void *context, int task, int worker) {
  const matmul_call *c = context;
  (void)worker;
  const size_t panels = gqa_ceil(c->columns, NR), entry = (size_t)task / panels, at = (size_t)task % panels * NR;
  const float *b = c->b + (c->firstBatch + entry) * c->bBatch;
  const size_t padded = gqa_ceil(c->columns, VL) * VL;
  float *panel = c->panels + (entry * padded + at) * c->K;
  if (c->transposeB) pack_panel_transposed(panel, b + c->firstColumn * c->bRow, c->bRow, c->columns, at, c->K);
  else pack_panel(panel, b + c->firstColumn, c->bRow, c->columns, at, c->K);
}

static void matmul_task(void *context, int task, int worker) {
  const matmul_call *c = context;
  const size_t rowBlocks = gqa_ceil(c->M, MC), columnBlocks = gqa_ceil(c->columns, BLOCK_COLUMNS);
  const size_t entry = (size_t)task / (rowBlocks * columnBlocks), block = (size_t)task % (rowBlocks * columnBlocks);
  const size_t row = block / columnBlocks * MC, column = block % columnBlocks * BLOCK_COLUMNS;
  const size_t m = gqa_min(MC, c->M - row), n = gqa_min(BLOCK_COLUMNS, c->columns - column), batch = c->firstBatch + entry;
  const float *a = c->a + batch * c->aBatch, *b = c->b + batch * c->bBatch + c->firstColumn + column;
  const float *panels = c->panels ? c->panels + ((c->bBatch ? entry : 0) * gqa_ceil(c->columns, VL) * VL + column) * c->K : 0;
  float *out = c->out + (batch * c->M + row) * c->N + c->firstColumn + column;
  float *aBlock = gqa_scratch(worker, (MC * KC + MC * NR + KC * NR) * sizeof(float)), *tile = aBlock + MC * KC, *edge = tile + MC * NR;
  if (c->K == 0)
    for (size_t i = 0; i < m; i++) memset(out + i * c->N, 0, n * sizeof(float));
  for (size_t k0 = 0, depth = gemm_depth(c->K); k0 < c->K; k0 += depth) {
    const size_t k = gqa_min(depth, c->K - k0);
    if (c->transposeA) transpose_into(aBlock, KC, a + k0 * c->aRow + row, c->aRow, k, m);
    else
      for (size_t i = 0; i < m; i++) memcpy(aBlock + i * KC, a + (row + i) * c->aRow + k0, k * sizeof(float));
    for (size_t j = 0; j < n; j += NR) {
      const int nv = panel_vectors(c->columns - column, j);
      const size_t width = (size_t)nv * VL, have = gqa_min(width, n - j);
      const float *panel = panels ? panels + j * c->K + k0 * width : b + k0 * c->bRow + j;
      size_t ldb = panels ? width : c->bRow;
      if (!panels && have < width) {
        pack_panel(edge, b + k0 * c->bRow, c->bRow, n, j, k);
        panel = edge;
        ldb = width;
      }
      gemm_ahead ahead = {panels ? gemm_walk_line(panel + NR * c->K) : gemm_walk_rows(panel + NR, NR, c->bRow), gemm_walk_none(panel), gemm_walk_none(panel)};
      gemm_panel_part(nv, m, aBlock, KC, panel, ldb, out + j, c->N, have, k, k0 > 0, tile, &ahead);
    }
  }
}

/* Few rows of a against rows of b: both lie along K. */
static void matmul_dot_task(void *context, int task, int worker) {
  const matmul_call *c = context;
  (void)worker;
  const size_t blocks = gqa_ceil(c->N, DOT_COLUMNS), batch = (size_t)task / blocks, at = (size_t)task % blocks * DOT_COLUMNS;
  const float *a = c->a + batch * c->aBatch, *b = c->b + batch * c->bBatch;
  const size_t end = gqa_min(at + DOT_COLUMNS, c->N);
  for (size_t j = at; j < end; j += DOT_W) {
    const float *w[DOT_W];
    const size_t n = gqa_min(DOT_W, end - j);
    for (size_t i = 0; i < DOT_W; i++) w[i] = b + gqa_min(j + i, end - 1) * c->bRow;
    for (size_t i = 0; i < c->M; i += DOT_X) {
      const size_t rows = gqa_min(DOT_X, c->M - i);
      float sums[DOT_X][DOT_W] = {{0}};
      dot_tile((int)rows, w, a + i * c->aRow, c->aRow, c->K, sums);
      for (size_t r = 0; r < rows; r++) memcpy(c->out + (batch * c->M + i + r) * c->N + j, sums[r], n * sizeof(float));
    }
  }
}

static void op_matmul(const double *v) {
  matmul_call c = {.out = gqa_pointer(v[0]), .a = gqa_pointer(v[1]), .b = gqa_pointer(v[2]), .M = (size_t)v[4], .N = (size_t)v[5], .K = (size_t)v[6],
                   .transposeA = (int)v[7], .transposeB = (int)v[8], .aBatch = (size_t)v[9], .bBatch = (size_t)v[10]};
  size_t batch = (size_t)v[3];
  if (batch == 0 || c.M == 0 || c.N == 0) return;
  if (c.aBatch == c.M * c.K && c.bBatch == 0 && !c.transposeA) { /* one tall product */
    c.M *= batch;
    batch = 1;
  }
  c.aRow = c.transposeA ? c.M : c.K;
  c.bRow = c.transposeB ? c.K : c.N;
  const double entryWork = (double)c.M * (double)c.N * (double)c.K / 16;
  if (c.transposeB && !c.transposeA && c.M < DOT_ROWS) {
    gqa_run(batch * gqa_ceil(c.N, DOT_COLUMNS), matmul_dot_task, &c, entryWork * (double)batch);
    return;
  }
  if (!c.transposeB && c.M <= FEW_ROWS) {
    c.columns = c.N;
    gqa_run(batch * gqa_ceil(c.M, MC) * gqa_ceil(c.N, BLOCK_COLUMNS), matmul_task, &c, entryWork * (double)batch);
    return;
  }
  const size_t columnsAtOnce = gqa_max(BLOCK_COLUMNS, PACKED_FLOATS / gqa_max(1, c.K) / BLOCK_COLUMNS * BLOCK_COLUMNS);
  for (c.firstColumn = 0; c.firstColumn < c.N; c.firstColumn += c.columns) {
    c.columns = gqa_min(columnsAtOnce, c.N - c.firstColumn);
    const size_t floats = gqa_ceil(c.columns, VL) * VL * c.K;
    const size_t entriesAtOnce = c.bBatch ? gqa_max(1, PACKED_FLOATS / gqa_max(1, floats)) : batch;
    for (c.firstBatch = 0; c.firstBatch < batch; c.firstBatch += entriesAtOnce) {
      const size_t entries = gqa_min(entriesAtOnce, batch - c.firstBatch), packed = c.bBatch ? entries : 1;
      c.panels = gqa_scratch(GQA_SHARED, packed * floats * sizeof(float) + 64);
      gqa_run(packed * gqa_ceil(c.columns, NR), matmul_pack_task, &c, (double)packed * (double)floats);
      gqa_run(entries * gqa_ceil(c.M, MC) * gqa_ceil(c.columns, BLOCK_COLUMNS), matmul_task, &c, (double)entries * entryWork);
    }
  }
}
