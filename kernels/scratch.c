/* scratch.c: gqa_scratch, on buffers that grow. */
#include "gqa.h"

static void *scratch[GQA_SHARED2 + 1];
static size_t scratch_bytes[GQA_SHARED2 + 1];

void *gqa_scratch(int slot, size_t bytes) {
  if (bytes > scratch_bytes[slot]) {
    gqa_free(scratch[slot], scratch_bytes[slot]);
    scratch_bytes[slot] = 0;
    scratch[slot] = gqa_alloc(bytes + bytes / 4);
    if (!scratch[slot]) __builtin_trap();
    scratch_bytes[slot] = bytes + bytes / 4;
  }
  return scratch[slot];
}
