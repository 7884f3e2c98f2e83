/*
 * copy.c: fill, conversion between storage types, strided copies, embedding lookup.
 *
 * fill:         [out, dtype, count, value]
 * convert:      [out, outDtype, outOffset, x, xDtype, xOffset, count]
 *   offsets in elements, whole blocks for block types (to f32, from f32 to q8_0)
 * copy_strided: [out, outOffset, x, xOffset, elementBytes, rank, dims[rank], outStrides[rank], xStrides[rank]]
 *   strides in elements
 * embedding:    [out, table, tableDtype, D, ids, n]                     ids i32, out [n, D] f32
 * embedding_backward: [dTable, V, D, ids, n, dOut]
 *   dTable [V, D] = rows of dOut [n, D] added up by id, in their order
 * select:       [out, condition, x, y, elementBytes, count]             condition bool; x where it is 1, else y
 *
 * Numerics: f16 and bf16 are rounded to nearest even, once, from f64 and integers too. Numbers to integers
 * truncate and wrap as JavaScript's ToInt32 does (NaN and infinities give 0); to bool, nonzero and NaN give
 * 1.
 */
#include "quant.h"
#include "strides.h"
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

/*
 * f64 to f32, rounded to odd (the last bit is set when digits were lost), so that rounding the result to f16
 * or bf16 rounds only once.
 */
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

/* --- select --- */

typedef struct {
  void *out;
  const uint8_t *condition;
  const void *x, *y;
  int bytes;
  size_t count;
} select_call;

#define SELECT_RUN(type) \
  for (size_t i = at; i < end; i++) ((type *)c->out)[i] = c->condition[i] ? ((const type *)c->x)[i] : ((const type *)c->y)[i]

static void select_task(void *context, int task, int worker) {
  const select_call *c = context;
  const size_t at = (size_t)task * GQA_CHUNK, end = gqa_min(at + GQA_CHUNK, c->count);
  if (c->bytes == 4) SELECT_RUN(uint32_t);
  else if (c->bytes == 2) SELECT_RUN(uint16_t);
  else SELECT_RUN(uint8_t);
}

static void op_select(const double *a) {
  select_call c = {.out = gqa_pointer(a[0]), .condition = gqa_pointer(a[1]), .x = gqa_pointer(a[2]), .y = gqa_pointer(a[3]), .bytes = (int)a[4], .count = (size_t)a[5]};
  gqa_run(gqa_ceil(c.count, GQA_CHUNK), select_task, &c, (double)c.count);
}

/* --- strided copies --- */

enum { COPY_TILE = 16 };

typedef struct {
  uint8_t *out;
  const uint8_t *x;
  size_t size;         /* bytes of an element */
  gqa_strides strides; /* of out and x */
  int tile_dim;        /* the dim along which x is contiguous when the last one is not; -1 when there is none */
} copy_call;

/* A block of elements; row and column strides in elements. */
typedef struct {
  ptrdiff_t rows, out_row, x_row, columns, out_column, x_column;
} copy_block;

/* `size` is a constant where this is inlined. */
GQA_INLINE void copy_elements(size_t size, uint8_t *out, const uint8_t *x, copy_block b) {
  for (ptrdiff_t r = 0; r < b.rows; r++)
    for (ptrdiff_t c = 0; c < b.columns; c++)
      memcpy(out + (r * b.out_row + c * b.out_column) * (ptrdiff_t)size, x + (r * b.x_row + c * b.x_column) * (ptrdiff_t)size, size);
}

/* Indices along a dim that is split among tasks: tiles of tile_dim. */
static ptrdiff_t copy_extent(const copy_call *c, int d) { return d == c->tile_dim ? (c->strides.dims[d] + COPY_TILE - 1) / COPY_TILE : c->strides.dims[d]; }

static void copy_task(void *context, int task, int worker) {
  const copy_call *c = context;
  const gqa_strides *s = &c->strides;
  const int last = s->rank - 1;
  const ptrdiff_t n = s->dims[last], size = (ptrdiff_t)c->size;
  ptrdiff_t out = 0, x = 0, rest = task;
  copy_block block = {.rows = 1, .out_column = s->first[last], .x_column = s->second[last]};
  for (int d = last - 1; d >= 0; d--) {
    ptrdiff_t extent = copy_extent(c, d), index = rest % extent;
    rest /= extent;
    if (d == c->tile_dim) {
      index *= COPY_TILE;
      block.rows = s->dims[d] - index < COPY_TILE ? s->dims[d] - index : COPY_TILE;
      block.out_row = s->first[d], block.x_row = s->second[d];
    }
    out += index * s->first[d];
    x += index * s->second[d];
  }
  uint8_t *to = c->out + out * size;
  const uint8_t *from = c->x + x * size;
  if (c->tile_dim < 0 && block.out_column == 1 && block.x_column == 1) {
    memcpy(to, from, (size_t)(n * size));
    return;
  }
  if (c->tile_dim < 0 && block.out_column == 1 && block.x_column == 0 && c->size <= 4) {
    repeat_element(to, from, c->size, (size_t)n);
    return;
  }
  for (ptrdiff_t i = 0; i < n; i += COPY_TILE) {
    block.columns = n - i < COPY_TILE ? n - i : COPY_TILE;
    uint8_t *o = to + i * block.out_column * size;
    const uint8_t *p = from + i * block.x_column * size;
    if (size == 4) copy_elements(4, o, p, block);
    else if (size == 2) copy_elements(2, o, p, block);
    else if (size == 1) copy_elements(1, o, p, block);
    else copy_elements(c->size, o, p, block);
  }
}

static void op_copy_strided(const double *a) {
  copy_call c = {.size = (size_t)a[4], .strides = gqa_merged_strides(a + 5), .tile_dim = -1};
  gqa_strides *s = &c.strides;
  c.out = (uint8_t *)gqa_pointer(a[0]) + (size_t)a[1] * c.size;
  c.x = (const uint8_t *)gqa_pointer(a[2]) + (size_t)a[3] * c.size;
  if (s->count == 0) return;
  if (s->rank == 1 && s->dims[0] >= 2 * GQA_CHUNK) {
    /* One long row: the remainder first, then whole chunks as rows. */
    const ptrdiff_t n = s->dims[0], chunks = n / GQA_CHUNK, first = s->first[0], second = s->second[0];
    copy_call rest = c;
    rest.out += chunks * GQA_CHUNK * first * (ptrdiff_t)c.size, rest.x += chunks * GQA_CHUNK * second * (ptrdiff_t)c.size;
    rest.strides.dims[0] = n % GQA_CHUNK;
    copy_task(&rest, 0, 0);
    *s = (gqa_strides){s->count, 2, {chunks, GQA_CHUNK}, {GQA_CHUNK * first, first}, {GQA_CHUNK * second, second}};
  }
  size_t tasks = 1;
  for (int d = 0; d < s->rank - 1; d++)
    if (s->second[d] == 1 && s->second[s->rank - 1] != 1) c.tile_dim = d;
  for (int d = 0; d < s->rank - 1; d++) tasks *= (size_t)copy_extent(&c, d);
  gqa_run(tasks, copy_task, &c, (double)s->count);
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

/*
 * Each task owns a strip of columns of the whole table, so each element accumulates in the order of the ids.
 */
static void embedding_backward_task(void *context, int task, int worker) {
  const embedding_backward_call *c = context;
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
