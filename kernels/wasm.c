/*
 * wasm.c: the kernels as one WASM module. Freestanding; the linker exports gqa_alloc, gqa_free and gqa_call.
 */
#define VL 4
#define GQA_ISA wasm
#include "isa.h"

void gqa_call(int op, const double *arguments);
void gqa_call(int op, const double *arguments) { gqa_table_wasm[op](arguments); }
