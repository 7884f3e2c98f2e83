/*
 * isa.h: all kernels, compiled once per instruction set. The including file defines VL and GQA_ISA; the
 * result is one table.
 */
#include "gqa.h"

#include "attention.c"
#include "attention_backward.c"
#include "copy.c"
#include "elementwise.c"
#include "linear.c"
#include "linear_backward.c"
#include "loss.c"
#include "matmul.c"  /* on linear.c and linear_backward.c */
#include "experts.c" /* on linear.c and matmul.c */
#include "norm.c"
#include "optimizer.c"
#include "random.c"
#include "reduce.c"
#include "rope.c"

#define GQA_PASTE(a, b) a##b
#define GQA_TABLE(isa) GQA_PASTE(gqa_table_, isa)
#define GQA_TABLE_OF(isa) GQA_TABLE(isa)
#define GQA_ENTRY(name) op_##name,
extern const gqa_op GQA_TABLE_OF(GQA_ISA)[];
const gqa_op GQA_TABLE_OF(GQA_ISA)[] = {GQA_OPS(GQA_ENTRY)};
