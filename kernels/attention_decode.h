/*
 * attention_decode.h: attention for one query (a decoded token). Bound by reading K and V, so each stored
 * row is read once for its whole group, directly from the cache, and widened in registers.
 *
 * A unit is a range of keys for a range of KV heads of one query; per block of DECODE_KEYS keys all heads
 * are processed in turn, so that memory is read in storage order. Blocks are counted from the unit's first
 * key, across segments. Scores: VL dot products (rows x keys) accumulate in VL registers and are reduced by
 * one transpose.
 */
#ifndef GQA_ATTENTION_DECODE_H
#define GQA_ATTENTION_DECODE_H
#include "attention.h"

#define DECODE_ROWS 12 /* most rows (G) of the decode form */
#define DECODE_KEYS 16

/* Lane i of the result is the sum of v[i]'s lanes. Destroys v. */
GQA_INLINE vf vf_transpose_sum(vf *v) {
#if VL == 16
  GQA_UNROLL(16)
  for (int i = 0; i < 8; i++) {
    __m512 a = (__m512)v[2 * i], b = (__m512)v[2 * i + 1];
    v[i] = (vf)(_mm512_unpacklo_ps(a, b) + _mm512_unpackhi_ps(a, b));
  }
  GQA_UNROLL(16)
  for (int i = 0; i < 4; i++) {
    __m512d a = (__m512d)v[2 * i], b = (__m512d)v[2 * i + 1];
    v[i] = (vf)_mm512_unpacklo_pd(a, b) + (vf)_mm512_unpackhi_pd(a, b);
  }
  GQA_UNROLL(16)
  for (int step = 0; step < 2; step++)
    GQA_UNROLL(16)
    for (int i = 0; i < 2 - step; i++) {
      __m512 a = (__m512)v[2 * i], b = (__m512)v[2 * i + 1];
      v[i] = (vf)(_mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd));
    }
  return v[0];
#elif VL == 8
  for (int i = 0; i < 4; i++) {
    __m256 a = (__m256)v[2 * i], b = (__m256)v[2 * i + 1];
    v[i] = (vf)(_mm256_unpacklo_ps(a, b) + _mm256_unpackhi_ps(a, b));
  }
  for (int i = 0; i < 2; i++) {
    __m256d a = (__m256d)v[2 * i], b = (__m256d)v[2 * i + 1];
    v[i] = (vf)_mm256_unpacklo_pd(a, b) + (vf)_mm256_unpackhi_pd(a, b);
  }
  __m256 a = (__m256)v[0], b = (__m256)v[1];
  return (vf)(_mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31));
#else
  vf ab = VF_SHUFFLE(v[0], v[1], 0, 4, 1, 5) + VF_SHUFFLE(v[0], v[1], 2, 6, 3, 7);
  vf cd = VF_SHUFFLE(v[2], v[3], 0, 4, 1, 5) + VF_SHUFFLE(v[2], v[3], 2, 6, 3, 7);
  return VF_SHUFFLE(ab, cd, 0, 1, 4, 5) + VF_SHUFFLE(ab, cd, 2, 3, 6, 7);
#endif
}

/* n contiguous keys or values of one head, from element `at` on. */
typedef struct {
  const char *base;
  int64_t at;
  int n;
} decode_span;

/*
 * Memory to prefetch for the next run, key by key: `bytes` every `step` from `at` on, which may be any
 * address; NULL = none.
 */
typedef struct {
  const char *at;
  int64_t step, bytes;
} decode_next;

/* From its key j on, or nothing. */
GQA_INLINE decode_next decode_next_from(decode_next next, int j, int wanted) { return (decode_next){wanted ? next.at + j * next.step : 0, next.step, next.bytes}; }
GQA_INLINE void decode_prefetch(decode_next next, int j) {
  for (int64_t i = 0; i < next.bytes; i += 64) __builtin_prefetch(next.at + j * next.step + i, 0, 3);
}

#define DECODE_BLOCKS 8 /* of q8_0, of which the scales are converted at a time */

/*
 * acc[r * key_block + j] += the products of the codes of key j and row r, times their scales, over the whole
 * blocks of H; returns the dims done. Scales are converted ahead, a vector at a time: a broadcast from memory
 * is free, one from a register is not. Rows of 136 bytes are consumed faster than L1 can fetch them, so the
 * next rows are prefetched into L2, between the products (measured: 3.2 ms against 5.0 ms with bursts into
 * L1, S4096 K32 on one thread).
 */
GQA_INLINE int decode_block_dots(const float *q, int H, const char *key, const int64_t *at, vf *acc, decode_next next, const int row_block) {
  const int key_block = VL / row_block;
  int whole = H / 32 * 32;
  for (int d0 = 0; d0 < whole; d0 += DECODE_BLOCKS * 32) {
    int blocks = whole - d0 < DECODE_BLOCKS * 32 ? (whole - d0) / 32 : DECODE_BLOCKS;
    uint16_t halves[DECODE_BLOCKS][VL] = {{0}};
    float scales[DECODE_BLOCKS][VL];
    for (int j = 0; j < key_block; j++) {
      const char *block = attn_block(key, at[j] + d0);
      for (int b = 0; b < blocks; b++) memcpy(&halves[b][j], block + b * 34, 2);
    }
    for (int b = 0; b < blocks; b++) vf_store(scales[b], vf_load_f16(halves[b]));
    for (int b = 0; b < blocks; b++)
      GQA_UNROLL(16)
      for (int j = 0; j < key_block; j++) {
        const char *block = attn_block(key, at[j] + d0) + b * 34;
        if (next.at) __builtin_prefetch(next.at + j * next.step + (d0 / 32 + b) * 48, 0, 2);
        vf scale = vf_set(scales[b][j]), codes[32 / VL];
        GQA_UNROLL(8)
        for (int i = 0; i < 32 / VL; i++) codes[i] = attn_block_codes(block, i * VL);
        GQA_UNROLL(16)
        for (int r = 0; r < row_block; r++) {
          const float *x = q + (int64_t)r * H + d0 + b * 32;
          vf sum = vf_load(x) * codes[0];
          GQA_UNROLL(8)
          for (int i = 1; i < 32 / VL; i++) sum = vf_fma(vf_load(x + i * VL), codes[i], sum);
          acc[r * key_block + j] = vf_fma(scale, sum, acc[r * key_block + j]);
        }
      }
  }
  return whole;
}

/*
 * scores[r * DECODE_KEYS + j] for row_block rows and the first n of VL / row_block keys: q rows are H apart,
 * key row j starts at element at[j].
 */
GQA_INLINE void decode_dots(const attn *c, const float *q, const char *key, const int64_t *at, int n, float *scores, decode_next next, const int row_block, const int type) {
  const int key_block = VL / row_block;
  int H = c->H, d = 0;
  vf acc[VL];
  GQA_UNROLL(16)
  for (int i = 0; i < VL; i++) acc[i] = vf_set(0);
  if (type == GQA_Q8_0) d = decode_block_dots(q, H, key, at, acc, next, row_block);
  for (; d + VL <= H; d += VL) {
    vf k[VL];
    GQA_UNROLL(16)
    for (int j = 0; j < key_block; j++) k[j] = attn_load(key, type, at[j] + d);
    GQA_UNROLL(16)
    for (int r = 0; r < row_block; r++) {
      vf x = vf_load(q + (int64_t)r * H + d);
      GQA_UNROLL(16)
      for (int j = 0; j < key_block; j++) acc[r * key_block + j] = vf_fma(x, k[j], acc[r * key_block + j]);
    }
  }
  if (d < H)
    for (int j = 0; j < key_block; j++) {
      vf k = attn_load_n(key, type, at[j] + d, H - d);
      for (int r = 0; r < row_block; r++) acc[r * key_block + j] = vf_fma(vf_load_n(q + (int64_t)r * H + d, H - d), k, acc[r * key_block + j]);
    }
  float sums[VL];
  vf_store(sums, vf_transpose_sum(acc));
  for (int r = 0; r < row_block; r++) {
    if (n >= key_block) memcpy(scores + r * DECODE_KEYS, sums + r * key_block, (size_t)key_block * sizeof(float));
    else memcpy(scores + r * DECODE_KEYS, sums + r * key_block, (size_t)n * sizeof(float));
  }
}

/*
 * acc[r][0 … nv * VL) += p[r][j] * V[j] over the values, which begin at the dim that acc begins at, for
 * row_block rows.
 */
GQA_INLINE void decode_accumulate(const attn *c, const float *p, decode_span v0, float *acc, decode_next next, const int row_block, const int nv, const int type) {
  const char *value = v0.base;
  int64_t at = v0.at;
  const int n = v0.n;
  vf o[4][8];
  GQA_UNROLL(16)
  for (int r = 0; r < row_block; r++)
    GQA_UNROLL(16)
    for (int x = 0; x < nv; x++) o[r][x] = vf_load(acc + (int64_t)r * c->Hv + x * VL);
  /* q8_0: the nv vectors are a part of one block, or whole blocks. */
  float weights[4][4][DECODE_KEYS]; /* [row][block][key]: p times the block's scale */
  const char *codes = attn_block(value, at) + 2 + (at & 31);
  int64_t codes_step = c->value_token / 32 * 34;
  if (type == GQA_Q8_0)
    for (int b = 0; b < (nv * VL + 31) / 32; b++) {
      uint16_t halves[DECODE_KEYS] = {0};
      for (int j = 0; j < n; j++) memcpy(&halves[j], attn_block(value, at + j * c->value_token + b * 32), 2);
      for (int j = 0; j < n; j += VL) {
        vf scale = vf_load_f16(halves + j);
        for (int r = 0; r < row_block; r++) vf_store(&weights[r][b][j], vf_load(p + r * DECODE_KEYS + j) * scale);
      }
    }
  for (int j = 0; j < n; j++) {
    vf v[8];
    if (next.at && type != GQA_Q8_0) decode_prefetch(next, j);
    if (type == GQA_Q8_0) {
      for (int64_t i = 0; next.at && i < next.bytes; i += 64) __builtin_prefetch(next.at + j * next.step + i, 0, 2);
      GQA_UNROLL(16)
      for (int x = 0; x < nv; x++) v[x] = vf_load_i8((const int8_t *)codes + x * VL / 32 * 34 + x * VL % 32);
      codes += codes_step;
      GQA_UNROLL(16)
      for (int r = 0; r < row_block; r++)
        GQA_UNROLL(16)
        for (int x = 0; x < nv; x++) o[r][x] = vf_fma(vf_set(weights[r][x * VL / 32][j]), v[x], o[r][x]);
      continue;
    }
    GQA_UNROLL(16)
    for (int x = 0; x < nv; x++) v[x] = attn_load(value, type, at + x * VL);
    at += c->value_token;
    GQA_UNROLL(16)
    for (int r = 0; r < row_block; r++) {
      vf w = vf_set(p[r * DECODE_KEYS + j]);
      GQA_UNROLL(16)
      for (int x = 0; x < nv; x++) o[r][x] = vf_fma(w, v[x], o[r][x]);
    }
  }
  GQA_UNROLL(16)
  for (int r = 0; r < row_block; r++)
    GQA_UNROLL(16)
    for (int x = 0; x < nv; x++) vf_store(acc + (int64_t)r * c->Hv + x * VL, o[r][x]);
}

/* The last Hv % VL dims, or (safe) every dim with zero weights left out. */
GQA_NOINLINE void decode_accumulate_tail(const attn *c, const float *p, decode_span values, float *acc, int rows, int d0, int safe) {
  int64_t at = values.at;
  for (int j = 0; j < values.n; j++, at += c->value_token)
    for (int d = d0; d < c->Hv; d += VL) {
      int count = c->Hv - d < VL ? c->Hv - d : VL;
      vf v = attn_load_n(values.base, c->value_type, at + d, count);
      for (int r = 0; r < rows; r++) {
        float w = p[r * DECODE_KEYS + j];
        if (safe && w == 0) continue;
        float *to = acc + (int64_t)r * c->Hv + d;
        vf_store_n(to, vf_fma(vf_set(w), v, vf_load_n(to, count)), count);
      }
    }
}

GQA_INLINE int decode_values_finite(const attn *c, decode_span values) {
  vf bad = vf_set(0);
  int64_t at = values.at;
  for (int j = 0; j < values.n; j++, at += c->value_token) {
    int d = 0;
    for (; d + VL <= c->Hv; d += VL) bad += attn_load(values.base, c->value_type, at + d) * 0.0f;
    if (d < c->Hv) bad += attn_load_n(values.base, c->value_type, at + d, c->Hv - d) * 0.0f;
  }
  return vf_sum(bad) == 0;
}

/* Raw scores of all rows against a run of keys; rows of scores are DECODE_KEYS apart. */
GQA_INLINE void decode_scores(const attn *c, const float *q, int rows, decode_span keys, float *scores, decode_next next, const int type) {
  const int n = keys.n;
  for (int j = 0; j < n;) {
    int step = rows >= 3 ? VL / 4 : rows == 2 ? VL / 2 : VL;
    if (type != GQA_Q8_0)
      for (int i = j; i < j + step && i < n; i++) decode_prefetch(next, i);
    int rest = n - j;
    for (int r = 0; r < rows;) {
      int64_t from[VL];
      for (int i = 0; i < step; i++) from[i] = keys.at + (int64_t)(i < rest ? j + i : j) * c->key_token;
      if (rows >= 3) decode_dots(c, q + (int64_t)r * c->H, keys.base, from, rest, scores + r * DECODE_KEYS + j, decode_next_from(next, j, r == 0), 4, type), r += 4;
      else if (rows == 2) decode_dots(c, q, keys.base, from, rest, scores + j, decode_next_from(next, j, 1), 2, type), r += 2;
      else decode_dots(c, q, keys.base, from, rest, scores + j, decode_next_from(next, j, 1), 1, type), r += 1;
    }
    j += step;
  }
}

GQA_INLINE void decode_values(const attn *c, const float *p, int rows, const decode_span values, float *acc, const decode_next next, const int type) {
  const int whole = c->Hv / VL * VL, wide = VL == 16 ? 4 : 2;
  int d = 0;
#define DECODE_FROM(d) ((decode_span){values.base, values.at + (d), values.n})
  if (rows == 1) {
    for (; d + 8 * VL <= whole; d += 8 * VL) decode_accumulate(c, p, DECODE_FROM(d), acc + d, decode_next_from(next, 0, d == 0), 1, 8, type);
    for (; d + 4 * VL <= whole; d += 4 * VL) decode_accumulate(c, p, DECODE_FROM(d), acc + d, decode_next_from(next, 0, d == 0), 1, 4, type);
    for (; d < whole; d += VL) decode_accumulate(c, p, DECODE_FROM(d), acc + d, decode_next_from(next, 0, d == 0), 1, 1, type);
  } else {
    for (; d + wide * VL <= whole; d += wide * VL)
      for (int r = 0; r < rows; r += 4) decode_accumulate(c, p + r * DECODE_KEYS, DECODE_FROM(d), acc + (int64_t)r * c->Hv + d, decode_next_from(next, 0, d == 0 && r == 0), 4, wide, type);
    for (; d < whole; d += VL)
      for (int r = 0; r < rows; r += 4) decode_accumulate(c, p + r * DECODE_KEYS, DECODE_FROM(d), acc + (int64_t)r * c->Hv + d, decode_next_from(next, 0, d == 0 && r == 0), 4, 1, type);
  }
#undef DECODE_FROM
  if (d < c->Hv) decode_accumulate_tail(c, p, values, acc, rows, d, 0);
}

/*
 * Scratch memory of one KV head: scaled queries [rows][H], scores [rows][DECODE_KEYS], sums [rows][Hv],
 * maxima and sums of weights.
 */
typedef struct {
  float *q, *scores, *acc, *m, *l;
} decode_head;

/*
 * One KV head, n keys from global key j0, which stands at the cursor. `next`: the keys that are read
 * afterwards.
 */
GQA_INLINE void decode_block(const attn *c, attn_rows of, attn_cursor at, int64_t j0, int n, decode_head head, const char *next) {
  const int rows = of.count;
  float *scores = head.scores, *acc = head.acc, *m = head.m, *l = head.l;
  decode_span keys[DECODE_KEYS], values[DECODE_KEYS]; /* by segment */
  int spans = 0;
  for (int done = 0; done < n; spans++) {
    attn_settle(c, &at);
    const int64_t left = at.segment.length - at.skip;
    const int count = left < n - done ? (int)left : n - done;
    keys[spans] = (decode_span){at.segment.key, at.skip * c->key_token + of.k * c->key_head, count};
    values[spans] = (decode_span){at.segment.value, at.skip * c->value_token + of.k * c->value_head, count};
    at.skip += count, done += count;
  }
  for (int i = 0, done = 0; i < spans; done += keys[i++].n) {
    const decode_next next_values = {values[i].base + attn_bytes(c->value_type, values[i].at), attn_bytes(c->value_type, c->value_token), attn_bytes(c->value_type, c->Hv)};
    GQA_SPECIALISE(ATTN_TYPES, c->key_type, decode_scores(c, head.q, rows, keys[i], scores + done, next_values, GQA_VALUE));
  }
  if (!attn_plain(c)) attn_adjust(c, of, j0, n, scores, DECODE_KEYS, 1);
  const int padded = (n + VL - 1) / VL * VL, partly = c->mask.base || c->bias.base;
  for (int r = 0; r < rows; r++) {
    float *s = scores + r * DECODE_KEYS;
    for (int j = n; j < padded; j++) s[j] = -__builtin_inff();
    vf top = vf_load(s);
    for (int j = VL; j < padded; j += VL) top = vf_max(top, vf_load(s + j));
    float highest = vf_hmax(top);
    if (m[r] > highest) highest = m[r];
    const float correction = m[r] == highest ? 1.0f : attn_exp_scalar(m[r] - highest);
    vf sum = vf_set(0), shift = vf_set(highest);
    for (int j = 0; j < padded; j += VL) {
      vf e = attn_exp(vf_load(s + j) - shift);
      vf_store(s + j, e);
      sum += e;
    }
    l[r] = l[r] * correction + vf_sum(sum);
    m[r] = highest;
    if (correction != 1.0f) {
      float *o = acc + (int64_t)r * c->Hv;
      for (int d = 0; d < c->Hv; d++) o[d] *= correction;
    }
  }
  if (c->dropout > 0) attn_drop(c, of, j0, n, scores, DECODE_KEYS, 1);
  for (int i = 0, done = 0; i < spans; done += values[i++].n) {
    if (partly && !decode_values_finite(c, values[i])) {
      decode_accumulate_tail(c, scores + done, values[i], acc, rows, 0, 1);
      continue;
    }
    const decode_next next_keys = {i + 1 < spans ? 0 : next, attn_bytes(c->key_type, c->key_token), attn_bytes(c->key_type, c->H)};
    GQA_SPECIALISE(ATTN_TYPES, c->value_type, decode_values(c, scores + done, rows, values[i], acc, next_keys, GQA_VALUE));
  }
}

#define DECODE_PADDED_ROWS ((DECODE_ROWS + 3) / 4 * 4)
GQA_INLINE size_t decode_scratch_floats(const attn *c, int heads) {
  return (size_t)DECODE_PADDED_ROWS * ((size_t)heads * (c->H + c->Hv + 2) + DECODE_KEYS) + 64;
}

/*
 * The groups of KV heads [k0, k1) of query t of batch row b against keys [low, high), all of which it sees.
 */
GQA_NOINLINE void attn_decode_unit(const attn *c, int b, int t, int k0, int k1, int64_t low, int64_t high, float *scratch, attn_partial partial) {
  attn_row row = attn_row_of(c, b);
  const int rows = c->G, padded = (rows + 3) / 4 * 4, heads = k1 - k0;
  float *q = scratch, *acc = q + (int64_t)heads * padded * c->H, *m = acc + (int64_t)heads * padded * c->Hv, *l = m + heads * padded;
  float *scores = l + heads * padded;
  float scale = c->scale;
  memset(q, 0, (size_t)heads * padded * (c->H + c->Hv) * sizeof(float));
  memset(scores, 0, (size_t)padded * DECODE_KEYS * sizeof(float));
  for (int h = 0; h < heads; h++)
    for (int r = 0; r < rows; r++) {
      const float *x = c->query + attn_at(c->query_strides, b, t, (k0 + h) * c->G + r);
      for (int d = 0; d < c->H; d++) q[((int64_t)h * padded + r) * c->H + d] = x[d] * scale;
      m[h * padded + r] = ATTN_ROW_EMPTY, l[h * padded + r] = 0;
    }
  attn_cursor at = attn_cursor_at(c, &row, low, high);
  for (int64_t j = low; j < high;) {
    attn_settle(c, &at);
    const int n = high - j < DECODE_KEYS ? (int)(high - j) : DECODE_KEYS;
    for (int h = 0; h < heads; h++) {
      int64_t base = (int64_t)h * padded;
      /*
       * Prefetch the next head of this block, or the first head of the next block; after the unit's last key
       * that is where the next unit begins, within a segment.
       */
      attn_cursor ahead = at;
      if (h + 1 == heads) ahead.skip += n;
      if (h + 1 == heads && j + n < high) attn_settle(c, &ahead);
      const char *next = ahead.segment.key + attn_bytes(c->key_type, ahead.skip * c->key_token + (h + 1 < heads ? k0 + h + 1 : k0) * c->key_head);
      const decode_head head = {q + base * c->H, scores, acc + base * c->Hv, m + base, l + base};
      decode_block(c, (attn_rows){b, k0 + h, rows, (int64_t)t * c->G}, at, j, n, head, next);
    }
    at.skip += n, j += n;
  }
  for (int h = 0; h < heads; h++)
    for (int r = 0; r < rows; r++) {
      int64_t x = (int64_t)h * padded + r;
      partial.row = ((int64_t)(k0 + h) * c->T + t) * c->G + r;
      attn_emit(c, b, k0 + h, (int64_t)t * c->G + r, (attn_result){acc + x * c->Hv, m[x], l[x], attn_finite(acc + x * c->Hv, c->Hv)}, partial);
    }
}
#endif
