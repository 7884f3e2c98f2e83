/*
 * copy.c: moving elements: fill, conversion between storage types, strided copies, embedding rows.
 *
 * fill:         [out, dtype, count, value]
 * convert:      [out, outDtype, outOffset, x, xDtype, xOffset, count]   offsets in elements, whole blocks for block types (to f32, from f32 to q8_0)
 * copy_strided: [out, outOffset, x, xOffset, elementBytes, rank, dims[rank], outStrides[rank], xStrides[rank]]   strides in elements
 * embedding:    [out, table, tableDtype, D, ids, n]                     ids i32, out [n, D] f32
 * embedding_backward: [dTable, V, D, ids, n, dOut]                      dTable [V, D] = rows of dOut [n, D] added up by id, in their order
 *
 * Numerics: f16 and bf16 are rounded to nearest even, once, from f64 and integers too. Numbers to integers truncate and wrap as JavaScript's ToInt32 does
 * (NaN and infinities give 0); to bool, nonzero and NaN give 1.
 */
#include "quant.h"
#include "tasks.h"

GQA_INLINE size_t element_bytes(int dtype) {
  switch (dtype) {
    case GQA_F16:
    case GQA_BF16: return 2;
    case GQA_U8:
    case GQA_BOOL: return 1;
    default: return 4;
  }
}

GQA_INLINE double read_element(int dtype, const void *x, size_t i) {
  switch (dtype) {
    case GQA_F16: return half_to_float(((const uint16_t *)x)[i]);
    case GQA_BF16: {
      uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
      float f;
      memcpy(&f, &bits, 4);
      return f;
    }
    case GQA_I32: return ((const int32_t *)x)[i];
    case GQA_U32: return ((const uint32_t *)x)[i];
    case GQA_U8:
    case GQA_BOOL: return ((const uint8_t *)x)[i];
    default: return ((const float *)x)[i];
  }
}

/* ToInt32 for numbers that f32, i32 and u32 can hold: past 2^63 every f32 is a multiple of 2^32. */
GQA_INLINE uint32_t wrap_integer(double value) { return value > -0x1p63 && value < 0x1p63 ? (uint32_t)(uint64_t)(int64_t)value : 0; }

/* f64 to f32, the last bit set when digits were cut off: what is rounded from this to f16 or bf16 is rounded once. */
GQA_INLINE float round_to_odd(double value) {
  float rounded = (float)value;
  if (rounded == value || value != value) return rounded;
  uint32_t bits;
  memcpy(&bits, &rounded, 4);
  bits -= __builtin_fabs(rounded) > __builtin_fabs(value);
  bits |= 1;
  memcpy(&rounded, &bits, 4);
  return rounded;
}

GQA_INLINE void write_element(int dtype, void *out, size_t i, double value) {
  switch (dtype) {
    case GQA_F16: ((uint16_t *)out)[i] = float_to_half(round_to_odd(value)); break;
    case GQA_BF16: ((uint16_t *)out)[i] = float_to_bfloat(round_to_odd(value)); break;
    case GQA_I32:
    case GQA_U32: ((uint32_t *)out)[i] = wrap_integer(value); break;
    case GQA_U8: ((uint8_t *)out)[i] = (uint8_t)wrap_integer(value); break;
    case GQA_BOOL: ((uint8_t *)out)[i] = value != 0; break;
    default: ((float *)out)[i] = (float)value; break;
  }
}

typedef struct {
  uint8_t *out;
  const uint8_t *x;
  int out_dtype, x_dtype;
  size_t count;
} convert_call;

static void narrow_run(int dtype, uint16_t *out, const float *x, size_t n) {
  size_t i = 0;
  if (dtype == GQA_F16) {
    for (; i + VL <= n; i += VL) vf_store_f16(out + i, vf_load(x + i));
  } else {
    for (; i + VL <= n; i += VL) vf_store_bf16(out + i, vf_load(x + i));
  }
  for (; i < n; i++) out[i] = dtype == GQA_F16 ? float_to_half(x[i]) : float_to_bfloat(x[i]);
}

static void convert_task(void *context, int task, int worker) {
  const convert_call *c = context;
  (void)worker;
  const int from = c->x_dtype, to = c->out_dtype;
  size_t at = (size_t)task * GQA_CHUNK, n = gqa_min(GQA_CHUNK, c->count - at);
  if (from == to) {
    size_t bytes = type_is_block(from) ? 1 : element_bytes(from);
    if (type_is_block(from)) memcpy(c->out + stored_bytes(from, at), c->x + stored_bytes(from, at), stored_bytes(from, n));
    else memcpy(c->out + at * bytes, c->x + at * bytes, n * bytes);
  } else if (to == GQA_F32 && (from == GQA_F16 || from == GQA_BF16 || type_is_block(from))) {
    decode_elements(from, c->x + stored_bytes(from, at), (float *)c->out + at, n);
  } else if (from == GQA_F32 && (to == GQA_F16 || to == GQA_BF16)) {
    narrow_run(to, (uint16_t *)c->out + at, (const float *)c->x + at, n);
  } else if (from == GQA_F32 && to == GQA_Q8_0) {
    encode_q8_0((const float *)c->x + at, c->out + stored_bytes(to, at), n);
  } else {
    for (size_t i = at; i < at + n; i++) write_element(to, c->out, i, read_element(from, c->x, i));
  }
}

static void op_convert(const double *a) {
  convert_call c = {.out_dtype = (int)a[1], .x_dtype = (int)a[4], .count = (size_t)a[6]};
  const size_t out_offset = (size_t)a[2], x_offset = (size_t)a[5];
  c.out = (uint8_t *)gqa_pointer(a[0]) + (type_is_block(c.out_dtype) ? stored_bytes(c.out_dtype, out_offset) : out_offset * element_bytes(c.out_dtype));
  c.x = (const uint8_t *)gqa_pointer(a[3]) + (type_is_block(c.x_dtype) ? stored_bytes(c.x_dtype, x_offset) : x_offset * element_bytes(c.x_dtype));
  gqa_run(gqa_ceil(c.count, GQA_CHUNK), convert_task, &c, (double)c.count);
}

/* One element of 1, 2 or 4 bytes, count times. */
static void repeat_element(uint8_t *out, const void *element, size_t size, size_t count) {
  uint8_t pattern[256];
  for (size_t i = 0; i < sizeof pattern; i += size) memcpy(pattern + i, element, size);
  size_t at = 0, bytes = count * size;
  for (; at + sizeof pattern <= bytes; at += sizeof pattern) memcpy(out + at, pattern, sizeof pattern);
  memcpy(out + at, pattern, bytes - at);
}

static void op_fill(const double *a) {
  uint32_t element = 0;
  write_element((int)a[1], &element, 0, a[3]);
  if (a[2] > 0) repeat_element(gqa_pointer(a[0]), &element, element_bytes((int)a[1]), (size_t)a[2]);
}

/* --- strided copies --- */

enum { GQA_MAX_RANK = 6, COPY_TILE = 16 };

typedef struct {
  uint8_t *out;
  const uint8_t *x;
  size_t size;
  int rank, tile_dim; /* tile_dim: the dim along which x is contiguous when the last one is not; -1 when there is none */
  ptrdiff_t dims[GQA_MAX_RANK], out_strides[GQA_MAX_RANK], x_strides[GQA_MAX_RANK];
  size_t rows; /* product of all dims but the last (and but tile_dim, counted in tiles) */
} copy_call;

/* rows x columns elements; `size` is a constant where this is inlined. */
GQA_INLINE void copy_tile(size_t size, uint8_t *out, const uint8_t *x, ptrdiff_t rows, ptrdiff_t out_row, ptrdiff_t x_row, ptrdiff_t columns, ptrdiff_t out_column, ptrdiff_t x_column) {
  for (ptrdiff_t r = 0; r < rows; r++)
    for (ptrdiff_t c = 0; c < columns; c++)
      memcpy(out + (r * out_row + c * out_column) * (ptrdiff_t)size, x + (r * x_row + c * x_column) * (ptrdiff_t)size, size);
}

static void copy_task(void *context, int task, int worker) {
  const copy_call *c = context;
  (void)worker;
  const int last = c->rank - 1;
  const ptrdiff_t n = c->dims[last], size = (ptrdiff_t)c->size;
  ptrdiff_t out = 0, x = 0, rest = task, tile = 0;
  for (int d = last - 1; d >= 0; d--) {
    ptrdiff_t extent = d == c->tile_dim ? (c->dims[d] + COPY_TILE - 1) / COPY_TILE : c->dims[d];
    ptrdiff_t index = rest % extent;
    rest /= extent;
    if (d == c->tile_dim) {
      index *= COPY_TILE;
      tile = c->dims[d] - index < COPY_TILE ? c->dims[d] - index : COPY_TILE;
    }
    out += index * c->out_strides[d];
    x += index * c->x_strides[d];
  }
  uint8_t *to = c->out + out * size;
  const uint8_t *from = c->x + x * size;
  const ptrdiff_t so = c->out_strides[last], sx = c->x_strides[last];
  if (c->tile_dim < 0 && so == 1 && sx == 1) {
    memcpy(to, from, (size_t)(n * size));
    return;
  }
  if (c->tile_dim < 0 && so == 1 && sx == 0 && c->size <= 4) {
    repeat_element(to, from, c->size, (size_t)n);
    return;
  }
  ptrdiff_t rows = 1, out_row = 0, x_row = 0;
  if (c->tile_dim >= 0) {
    rows = tile;
    out_row = c->out_strides[c->tile_dim];
    x_row = c->x_strides[c->tile_dim];
  }
  for (ptrdiff_t i = 0; i < n; i += COPY_TILE) {
    ptrdiff_t columns = n - i < COPY_TILE ? n - i : COPY_TILE;
    uint8_t *o = to + i * so * size;
    const uint8_t *p = from + i * sx * size;
    if (size == 4) copy_tile(4, o, p, rows, out_row, x_row, columns, so, sx);
    else if (size == 2) copy_tile(2, o, p, rows, out_row, x_row, columns, so, sx);
    else if (size == 1) copy_tile(1, o, p, rows, out_row, x_row, columns, so, sx);
    else copy_tile(c->size, o, p, rows, out_row, x_row, columns, so, sx);
  }
}

static void op_copy_strided(const double *a) {
  copy_call c = {.size = (size_t)a[4], .rows = 1, .tile_dim = -1};
  c.out = (uint8_t *)gqa_pointer(a[0]) + (size_t)a[1] * c.size;
  c.x = (const uint8_t *)gqa_pointer(a[2]) + (size_t)a[3] * c.size;
  const int rank = (int)a[5];
  const double *dims = a + 6, *out_strides = dims + rank, *x_strides = out_strides + rank;
  double count = 1;
  for (int d = 0; d < rank; d++) {
    ptrdiff_t n = (ptrdiff_t)dims[d], so = (ptrdiff_t)out_strides[d], sx = (ptrdiff_t)x_strides[d];
    count *= dims[d];
    if (n == 1) continue;
    int p = c.rank - 1;
    if (p >= 0 && c.out_strides[p] == n * so && c.x_strides[p] == n * sx) {
      c.dims[p] *= n;
    } else {
      p = c.rank++;
      c.dims[p] = n;
    }
    c.out_strides[p] = so;
    c.x_strides[p] = sx;
  }
  if (count == 0) return;
  if (c.rank == 0) {
    c.rank = 1;
    c.dims[0] = c.out_strides[0] = c.x_strides[0] = 1;
  }
  if (c.rank == 1 && c.dims[0] >= 2 * GQA_CHUNK) {
    /* One long row: the end that is no whole chunk, then chunks as rows. */
    const ptrdiff_t n = c.dims[0], chunks = n / GQA_CHUNK, so = c.out_strides[0], sx = c.x_strides[0];
    copy_call rest = c;
    rest.out += chunks * GQA_CHUNK * so * (ptrdiff_t)c.size, rest.x += chunks * GQA_CHUNK * sx * (ptrdiff_t)c.size;
    rest.dims[0] = n % GQA_CHUNK;
    copy_task(&rest, 0, 0);
    c.rank = 2;
    c.dims[0] = chunks, c.out_strides[0] = GQA_CHUNK * so, c.x_strides[0] = GQA_CHUNK * sx;
    c.dims[1] = GQA_CHUNK, c.out_strides[1] = so, c.x_strides[1] = sx;
  }
  const int last = c.rank - 1;
  for (int d = 0; d < last; d++)
    if (c.x_strides[d] == 1 && c.x_strides[last] != 1) c.tile_dim = d;
  for (int d = 0; d < last; d++) c.rows *= (size_t)(d == c.tile_dim ? (c.dims[d] + COPY_TILE - 1) / COPY_TILE : c.dims[d]);
  gqa_run(c.rows, copy_task, &c, count);
}

/* --- embedding --- */

typedef struct {
  float *out;
  const uint8_t *table;
  const int32_t *ids;
  int dtype;
  size_t width;
} embedding_call;

static void embedding_task(void *context, int task, int worker) {
  const embedding_call *c = context;
  (void)worker;
  decode_elements(c->dtype, c->table + (size_t)c->ids[task] * stored_bytes(c->dtype, c->width), c->out + (size_t)task * c->width, c->width);
}

static void op_embedding(const double *a) {
  embedding_call c = {.out = gqa_pointer(a[0]), .table = gqa_pointer(a[1]), .dtype = (int)a[2], .width = (size_t)a[3], .ids = gqa_pointer(a[4])};
  gqa_run((size_t)a[5], embedding_task, &c, a[3] * a[5]);
}

typedef struct {
  float *table;
  const float *d_out;
  const int32_t *ids;
  size_t rows, width, count;
} embedding_backward_call;

enum { EMBEDDING_COLUMNS = 64 };

/* A strip of columns of the whole table: no two tasks meet, and each element is added to in the order of the ids. */
static void embedding_backward_task(void *context, int task, int worker) {
  const embedding_backward_call *c = context;
  (void)worker;
  const size_t at = (size_t)task * EMBEDDING_COLUMNS, n = gqa_min(EMBEDDING_COLUMNS, c->width - at);
  for (size_t r = 0; r < c->rows; r++) memset(c->table + r * c->width + at, 0, n * sizeof(float));
  for (size_t i = 0; i < c->count; i++) {
    if (c->ids[i] < 0 || (size_t)c->ids[i] >= c->rows) continue; /* changed since the op checked them */
    float *to = c->table + (size_t)c->ids[i] * c->width + at;
    const float *from = c->d_out + i * c->width + at;
    for (size_t j = 0; j < n; j++) to[j] += from[j];
  }
}

static void op_embedding_backward(const double *a) {
  embedding_backward_call c = {.table = gqa_pointer(a[0]), .rows = (size_t)a[1], .width = (size_t)a[2], .ids = gqa_pointer(a[3]), .count = (size_t)a[4], .d_out = gqa_pointer(a[5])};
  gqa_run(gqa_ceil(c.width, EMBEDDING_COLUMNS), embedding_backward_task, &c, a[2] * (a[1] + a[4]));
}
