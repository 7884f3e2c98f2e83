/* wasm.c: the kernels as one WASM module. Freestanding; with bulk memory the compiler emits memory.copy and memory.fill itself. */
#define VL 4
#define GQA_ISA wasm
#include "isa.h"

#define EXPORT(name) __attribute__((export_name(#name)))

EXPORT(gqa_alloc) void *gqa_alloc(size_t bytes);
EXPORT(gqa_free) void gqa_free(void *buffer, size_t bytes);

EXPORT(gqa_call) void gqa_call(int op, const double *arguments) { gqa_table_wasm[op](arguments); }
