/*
 * linear_backward_bf16.h: the gradients of linear with bf16 operands and f32 sums (bf16.h), included by
 * linear_backward.c.
 *
 * d_x: the weights of all parts are packed into panels, and a task multiplies rows of the d_out side by side.
 * d_weight: x is packed into panels, some rows at once, and a task multiplies some columns of a d_out.
 *
 * Numerics: operands rounded to nearest even, f32 sums: a gradient is off by at most (2^-7 + (n + 3) 2^-23)
 * times the sum of the magnitudes of its n products.
 */

/* Columns of d_x or d_weight whose panels are packed at once, for k of `depth`. */
static size_t linear_back_bf16_columns(size_t depth) { return gqa_max(LINEAR_BACK_COLUMNS, BF16_PACKED / depth / BF16_PANEL * BF16_PANEL); }

/* --- d_x --- */

static void linear_back_bf16_weight_panel(void *context, int task, int worker) {
  const linear_back *c = context;
  const size_t at = (size_t)task * BF16_PANEL, width = bf16_width(c->columns, at), have = gqa_min(width, c->columns - at);
  uint16_t *panel = c->pairs + at * c->depth;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    bf16_pack_pairs(panel, width, p.weight + c->first_column + at, c->in_features, p.out_features, have);
    panel += bf16_padded(p.out_features) * width;
  }
}

/* Packs columns k0 … k0 + k of the d_out side by side, each padded, for m rows. */
static void linear_back_bf16_pack_outs(const linear_back *c, size_t row, size_t m, size_t k0, size_t k, uint16_t *to, size_t stride) {
  size_t start = 0;
  for (int i = 0; i < c->parts; i++) {
    const linear_back_part p = linear_back_at(c, i);
    const size_t padded = bf16_padded(p.out_features), first = gqa_max(k0, start), end = gqa_min(k0 + k, start + padded);
    if (first < end) {
      const size_t at = first - start, have = gqa_min(end - first, p.out_features - at);
      bf16_pack_rows(to + first - k0, stride, p.d_out + row * p.out_features + at, p.out_features, m, have);
    }
    start += padded;
  }
}

static void linear_back_bf16_rows_task(void *context, int task, int worker) {
  const linear_back *c = context;
  const size_t row = (size_t)task * c->block_rows, m = gqa_min(c->block_rows, c->rows - row), stride = bf16_stride(gqa_min(c->depth, BF16_DEPTH));
  uint16_t *block = gqa_scratch(worker, c->block_rows * (stride * sizeof(uint16_t) + BF16_PANEL * sizeof(float)));
  for (size_t k0 = 0; k0 < c->depth; k0 += BF16_DEPTH) {
    const size_t k = gqa_min(BF16_DEPTH, c->depth - k0);
    linear_back_bf16_pack_outs(c, row, m, k0, k, block, stride);
    bf16_multiply(block, stride, m, k, c->pairs, c->depth, k0, k0 > 0, c->columns, c->d_x + row * c->in_features + c->first_column, c->in_features, (float *)(void *)(block + c->block_rows * stride));
  }
}

static void linear_back_bf16_rows(linear_back *c) {
  c->depth = 0;
  for (int i = 0; i < c->parts; i++) c->depth += bf16_padded(linear_back_at(c, i).out_features);
  if (c->depth == 0) memset(c->d_x, 0, c->rows * c->in_features * sizeof(float));
  if (c->depth == 0) return;
  c->block_rows = bf16_block_rows(c->rows, c->depth);
  for (c->first_column = 0; c->first_column < c->in_features; c->first_column += c->columns) {
    c->columns = gqa_min(linear_back_bf16_columns(c->depth), c->in_features - c->first_column);
    const size_t panels = gqa_ceil(c->columns, BF16_PANEL), weights = panels * BF16_PANEL * c->depth;
    c->pairs = gqa_scratch(GQA_SHARED, weights * sizeof(uint16_t));
    gqa_run(panels, linear_back_bf16_weight_panel, c, (double)weights);
    gqa_run(gqa_ceil(c->rows, c->block_rows), linear_back_bf16_rows_task, c, (double)weights * (double)c->rows / 16);
  }
}

/* --- d_weight --- */

static void linear_back_bf16_x_panel(void *context, int task, int worker) {
  const linear_back *c = context;
  const size_t at = (size_t)task * BF16_PANEL, width = bf16_width(c->columns, at);
  bf16_pack_pairs(c->pairs + at * c->depth, width, c->x + c->first_row * c->in_features + c->first_column + at, c->in_features, c->rows, gqa_min(width, c->columns - at));
}

static size_t linear_back_bf16_part_tasks(const linear_back *c, const linear_back_part *p) { return p->d_weight ? gqa_ceil(p->out_features, c->block_rows) : 0; }

static void linear_back_bf16_weight_task(void *context, int number, int worker) {
  const linear_back *c = context;
  size_t task = (size_t)number, stride = bf16_stride(gqa_min(c->depth, BF16_DEPTH));
  const linear_back_part p = linear_back_find(c, &task, linear_back_bf16_part_tasks);
  const size_t row = task * c->block_rows, m = gqa_min(c->block_rows, p.out_features - row), first = c->first_row;
  uint16_t *block = gqa_scratch(worker, c->block_rows * (stride * sizeof(uint16_t) + BF16_PANEL * sizeof(float)));
  for (size_t k0 = 0; k0 < c->depth; k0 += BF16_DEPTH) {
    const size_t k = gqa_min(BF16_DEPTH, c->depth - k0);
    bf16_pack_transposed(block, stride, p.d_out + (first + k0) * p.out_features + row, p.out_features, gqa_min(k, c->rows - k0), m);
    bf16_multiply(block, stride, m, k, c->pairs, c->depth, k0, first + k0 > 0, c->columns, p.d_weight + row * c->in_features + c->first_column, c->in_features, (float *)(void *)(block + c->block_rows * stride));
  }
}

static void linear_back_bf16_weights(linear_back *c) {
  const size_t outs = linear_back_wanted(c);
  if (outs == 0) return;
  const size_t rows = c->rows, at_once = BF16_PACKED / LINEAR_BACK_COLUMNS / BF16_DEPTH * BF16_DEPTH;
  for (; c->first_row < rows; c->first_row += c->rows) {
    c->rows = gqa_min(at_once, rows - c->first_row);
    c->depth = bf16_padded(c->rows);
    c->block_rows = bf16_block_rows(outs, c->depth);
    for (c->first_column = 0; c->first_column < c->in_features; c->first_column += c->columns) {
      c->columns = gqa_min(linear_back_bf16_columns(c->depth), c->in_features - c->first_column);
      const size_t panels = gqa_ceil(c->columns, BF16_PANEL), elements = panels * BF16_PANEL * c->depth;
      c->pairs = gqa_scratch(GQA_SHARED, elements * sizeof(uint16_t));
      gqa_run(panels, linear_back_bf16_x_panel, c, (double)elements);
      gqa_run(linear_back_count(c, linear_back_bf16_part_tasks), linear_back_bf16_weight_task, c, (double)elements * (double)outs / 16);
    }
  }
}
