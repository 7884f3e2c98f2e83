/*
 * attention_exact.h: one row of attention in f64, key by key. For rows whose scores or weighted sums overflow
 * f32, for rows that see no key, and for rows with NaN. Included by attention.h.
 */

/* The score of key j, which is at the cursor; -infinity when masked. */
GQA_NOINLINE double attn_exact_score(const attn *c, int b, int64_t t, int64_t n, int64_t j, const attn_cursor *at) {
  typedef double vd __attribute__((vector_size(VL * 8)));
  double bias = 0;
  const int64_t *s = c->mask.strides;
  if (c->mask.base && !((const uint8_t *)c->mask.base)[attn_at(s, b, n, t) + j * s[3]]) return -__builtin_inf();
  s = c->bias.strides;
  if (c->bias.base) bias = ((const float *)c->bias.base)[attn_at(s, b, n, t) + j * s[3]];
  if (bias == -__builtin_inf()) return bias;
  const float *query = c->query + attn_at(c->query_strides, b, t, n);
  const int64_t x = at->skip * c->key_token + n / c->G * c->key_head;
  vd sums = {0};
  for (int d = 0; d < c->H; d += VL) {
    const int left = c->H - d;
    const vf q = vf_load_upto(query + d, left), key = left >= VL ? attn_load(at->segment.key, c->key_type, x + d) : attn_load_n(at->segment.key, c->key_type, x + d, left);
    sums += __builtin_convertvector(q, vd) * __builtin_convertvector(key, vd);
  }
  double score = 0;
  for (int i = 0; i < VL; i++) score += sums[i];
  score *= c->exact_scale;
  if (c->exact_cap != 0) score = c->exact_cap * vf_tanh(vf_set((float)(score / c->exact_cap)))[0];
  return score + bias;
}

GQA_NOINLINE void attn_exact_row(const attn *c, int b, int k, int64_t r) {
  enum { ATTN_EXACT_DIMS = 128 }; /* of the output at a time: scores are computed again for each run of them, and nothing is kept */
  const attn_row row = attn_row_of(c, b);
  const int64_t t = r / c->G, n = k * c->G + r % c->G;
  const int joined = c->sinks && t < row.query_length;
  float *out = c->out + attn_at(c->out_strides, b, t, n);
  const double sink = joined ? c->sinks[n] : -__builtin_inf();
  int64_t low, high;
  attn_limits(c, &row, t, &low, &high);
  double top = sink, sum = 0;
  /* The maximum, then the sum of exponentials, then the output. */
  for (int pass = 0; pass < 2 + (c->Hv + ATTN_EXACT_DIMS - 1) / ATTN_EXACT_DIMS; pass++) {
    const int d0 = (pass - 2) * ATTN_EXACT_DIMS, dims = c->Hv - d0 < ATTN_EXACT_DIMS ? c->Hv - d0 : ATTN_EXACT_DIMS;
    double acc[ATTN_EXACT_DIMS] = {0};
    attn_cursor at = attn_cursor_at(c, &row, low, high);
    for (int64_t j = low; j < high; j++, at.skip++) {
      attn_settle(c, &at);
      const double score = attn_exact_score(c, b, t, n, j, &at);
      if (pass == 0) {
        if (score > top || score != score) top = score;
        if (top != top) break;
        continue;
      }
      float weight = attn_exp_scalar((float)(score - top));
      if (pass == 1) {
        sum += weight;
        continue;
      }
      weight = (float)(weight / sum);
      if (c->dropout > 0) attn_drop(c, (attn_rows){b, k, 1, r}, j, 1, &weight, 1, 1);
      if (weight == 0) continue;
      const int64_t x = at.skip * c->value_token + k * c->value_head + d0;
      for (int d = 0; d < dims; d += VL) {
        const int count = dims - d < VL ? dims - d : VL;
        const vf v = attn_load_n(at.segment.value, c->value_type, x + d, count);
        for (int i = 0; i < count; i++) acc[d + i] += (double)weight * v[i];
      }
    }
    if (pass == 0 && (top == -__builtin_inf() || top != top)) {
      for (int d = 0; d < c->Hv; d++) out[d] = top == top ? 0 : (float)top;
      attn_write_lse(c, b, t, n, top, 0);
      return;
    }
    if (pass == 0 && joined) sum = attn_exp_scalar((float)(sink - top));
    for (int d = 0; pass >= 2 && d < dims; d++) out[d0 + d] = (float)acc[d];
  }
  attn_write_lse(c, b, t, n, top, log_scalar((float)sum));
}
