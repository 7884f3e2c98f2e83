/*
 * linear_bf16.h: linear with bf16 operands and f32 sums (bf16.h), included by linear.c.
 *
 * x is packed, BF16_PACKED elements at a time, into panels whose lanes are rows. A task multiplies some weight
 * rows, decoded to bf16 or in place, with all panels; the result, y^T, is transposed.
 *
 * Numerics: operands rounded to nearest even, f32 sums. With s the sum of |x w|, a result is off by at most
 * (2^-7 + (In + 3) 2^-23) s + 2^-24 |bias|; weights that bf16 holds exactly leave 2^-8 in place of 2^-7.
 */

/* Weights of a task: LINEAR_BF16_BYTES of them, part of L2. Up to IN_PLACE rows a copy costs more than it gains. */
enum { LINEAR_BF16_OUTS = 32, LINEAR_BF16_BYTES = 1 << 20, LINEAR_BF16_IN_PLACE = 256 };

static void linear_bf16_pack_task(void *context, int task, int worker) {
  const linear_call *c = context;
  const size_t at = (size_t)task * BF16_PANEL, width = bf16_width(c->rows, at);
  bf16_pack_columns(c->pairs + at * bf16_padded(c->K), width, c->x + at * c->K, c->K, gqa_min(width, c->rows - at), c->K);
}

/* n weight rows from row `at` on as bf16 rows, `stride` apart. */
static void linear_bf16_decode(const linear_part *p, size_t at, size_t n, size_t K, uint16_t *to, size_t stride) {
  enum { CHUNK = 512 };
  float values[CHUNK];
  for (size_t i = 0; i < n; i++, to += stride) {
    const uint8_t *row = p->weight + (at + i) * p->row_bytes;
    if (p->type == GQA_BF16) memcpy(to, row, K * sizeof *to);
    for (size_t k0 = 0; k0 < K && p->type != GQA_BF16; k0 += CHUNK) {
      const size_t k = gqa_min(CHUNK, K - k0);
      decode_elements(p->type, row + stored_bytes(p->type, k0), values, k);
      bf16_round(to + k0, values, k);
    }
    memset(to + K, 0, (bf16_padded(K) - K) * sizeof *to);
  }
}

static void linear_bf16_task(void *context, int number, int worker) {
  const linear_call *c = context;
  size_t task = (size_t)number;
  const linear_part p = linear_find_part(c, &task, c->unit);
  const size_t at = task * c->unit, m = gqa_min(c->unit, p.out_features - at), depth = bf16_padded(c->K);
  const int in_place = p.type == GQA_BF16 && depth == c->K && c->rows <= LINEAR_BF16_IN_PLACE;
  const size_t stride = in_place ? c->K : bf16_stride(c->K);
  float *result = gqa_scratch(worker, c->unit * (BF16_PANEL * sizeof(float) + bf16_stride(c->K) * sizeof(uint16_t)));
  uint16_t *decoded = (uint16_t *)(void *)(result + c->unit * BF16_PANEL);
  if (!in_place) linear_bf16_decode(&p, at, m, c->K, decoded, stride);
  const uint16_t *w = in_place ? (const uint16_t *)(const void *)p.weight + at * c->K : decoded;
  for (size_t r = 0; r < c->rows; r += BF16_PANEL) {
    const size_t width = bf16_width(c->rows, r);
    bf16_multiply(w, stride, m, depth, c->pairs + r * depth, depth, 0, 0, width, result, BF16_PANEL, result);
    for (size_t i = 0; i < m && p.bias; i++)
      for (size_t j = 0; j < width; j++) result[i * BF16_PANEL + j] += p.bias[at + i];
    transpose_into(p.y + (c->first_row + r) * p.out_features + at, p.out_features, result, BF16_PANEL, m, gqa_min(width, c->rows - r));
  }
}

static void linear_bf16(linear_call *c) {
  const size_t depth = bf16_padded(c->K), rows = c->rows, at_once = gqa_max(1, BF16_PACKED / depth / BF16_PANEL) * BF16_PANEL, wanted = gqa_threads() > 1 ? 2 * (size_t)gqa_threads() : 1;
  c->unit = gqa_max(1, LINEAR_BF16_BYTES / (bf16_stride(c->K) * sizeof(uint16_t)) / LINEAR_BF16_OUTS) * LINEAR_BF16_OUTS;
  /* Smaller units where there are few: every tiling gives the same bits. */
  while (c->unit > LINEAR_BF16_OUTS && linear_count_tasks(c, c->unit) < wanted) c->unit -= LINEAR_BF16_OUTS;
  for (; c->first_row < rows; c->first_row += c->rows, c->x += c->rows * c->K) {
    c->rows = gqa_min(at_once, rows - c->first_row);
    const size_t panels = gqa_ceil(c->rows, BF16_PANEL);
    c->pairs = gqa_scratch(GQA_SHARED, panels * BF16_PANEL * depth * sizeof(uint16_t));
    gqa_run(panels, linear_bf16_pack_task, c, (double)c->rows * (double)c->K);
    gqa_run(linear_count_tasks(c, c->unit), linear_bf16_task, c, linear_count_weights(c) * (double)c->rows / 16);
  }
}
