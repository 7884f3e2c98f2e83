/* wasm.c: the kernels as one WASM module. Freestanding; the linker exports the functions of wasm.h. */
#define VL 4
#define GQA_ISA wasm
#include "isa.h"
#include "linear_int8.h"
#include "wasm.h"

const int8_unit gqa_int8_wasm = {linear_int8};

const char *gqa_abi(void) {
  static const char abi[] = GQA_ABI_TEXT;
  return abi;
}

int gqa_call(int op, const double *arguments) {
  gqa_table_wasm[op](arguments);
  return gqa_is_short_of_workers();
}
