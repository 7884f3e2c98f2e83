#ifndef GQA_DISPATCH_H
#define GQA_DISPATCH_H
#include "gqa.h"
/*
 * The table for the instruction set `wanted` ("avx512", "avx2", "baseline", on arm64 "neon"; "" = the best
 * here). `isa` gets the chosen name. NULL when `wanted` is unknown or not supported by this processor; `isa` is then the best
 * supported.
 */
const gqa_op *gqa_dispatch(const char *wanted, const char **isa);
#endif
