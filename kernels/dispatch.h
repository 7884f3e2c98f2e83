#ifndef GQA_DISPATCH_H
#define GQA_DISPATCH_H
#include "gqa.h"
#include "units.h"

/* A row of dispatch.c: a table of kernels and the units that they may use. */
typedef struct {
  const char *name;
  unsigned features; /* what it needs */
  const gqa_op *table;
  gqa_unit_set units;
  unsigned avoided; /* features with which it is chosen by name only */
} gqa_isa;

/*
 * The row that `wanted` names; "" = the best here. NULL when there is no such row for this processor; `names`
 * [bytes] then gets the names there are.
 */
const gqa_isa *gqa_dispatch(const char *wanted, char *names, size_t bytes);
#endif
