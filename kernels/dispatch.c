/*
 * dispatch.c: chooses the table of kernels once, by the features of the processor and the operating system
 * (CPUID, XGETBV).
 */
#include "dispatch.h"

#include <string.h>

extern const gqa_op gqa_table_baseline[];
#if defined(__x86_64__)
#include <cpuid.h>
extern const gqa_op gqa_table_avx2[], gqa_table_avx512[];

static int level(void) {
  unsigned a, b, c, d, c1, low, high;
  if (!__get_cpuid(1, &a, &b, &c1, &d)) return 0;
  unsigned needed = bit_AVX | bit_FMA | bit_F16C | bit_OSXSAVE;
  if ((c1 & needed) != needed || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0x06) != 0x06 || !(b & bit_AVX2)) return 0;
  unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  return (b & wide) == wide && (low & 0xe6) == 0xe6 ? 2 : 1;
}
#else
static int level(void) { return 0; }
#endif

const gqa_op *gqa_dispatch(const char *wanted, const char **isa) {
#if defined(__aarch64__)
  static const char *const names[] = {"neon"};
#else
  static const char *const names[] = {"baseline", "avx2", "avx512"};
#endif
  const int best = level();
  int chosen = best;
  if (wanted[0]) {
    while (chosen >= 0 && strcmp(wanted, names[chosen]) != 0) chosen--;
    if (chosen < 0) {
      *isa = names[best];
      return 0;
    }
  }
  *isa = names[chosen];
#if defined(__x86_64__)
  if (chosen == 2) return gqa_table_avx512;
  if (chosen == 1) return gqa_table_avx2;
#endif
  return gqa_table_baseline;
}
