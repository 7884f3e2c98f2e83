/*
 * strides.h: the fewest dims that describe two strided arrays of one shape: dims of 1 are dropped, and
 * adjacent dims are merged when both arrays traverse them with one stride.
 */
#ifndef GQA_STRIDES_H
#define GQA_STRIDES_H
#include <stddef.h>

enum { GQA_MAX_RANK = 6 };

typedef struct {
  size_t count; /* elements */
  int rank;     /* at least 1 */
  ptrdiff_t dims[GQA_MAX_RANK], first[GQA_MAX_RANK], second[GQA_MAX_RANK]; /* first, second: strides of the two arrays, in elements */
} gqa_strides;

/* a: rank, dims[rank], strides[rank] of the first array, of the second. */
static inline gqa_strides gqa_merged_strides(const double *a) {
  const int rank = (int)a[0];
  gqa_strides s = {.count = 1};
  for (int d = 1; d <= rank; d++) {
    const ptrdiff_t n = (ptrdiff_t)a[d], first = (ptrdiff_t)a[rank + d], second = (ptrdiff_t)a[2 * rank + d];
    s.count *= (size_t)n;
    if (n == 1) continue;
    int p = s.rank - 1;
    if (p >= 0 && s.first[p] == n * first && s.second[p] == n * second) s.dims[p] *= n;
    else s.dims[p = s.rank++] = n;
    s.first[p] = first, s.second[p] = second;
  }
  if (s.rank == 0) s.rank = 1, s.dims[0] = s.first[0] = s.second[0] = 1;
  return s;
}
#endif
