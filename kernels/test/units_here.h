/* units_here.h: the units that tests can run: compiled, and had by this processor. */
#ifndef GQA_UNITS_HERE_H
#define GQA_UNITS_HERE_H
#include "processor.h"
#include "units.h"

enum { MOST_UNITS = 2 };

/* Writes the bf16 units and their names; returns how many there are. */
static inline int bf16_units_here(const bf16_unit **units, const char **names) {
  const unsigned features = gqa_features();
  int count = 0;
#if defined(__x86_64__)
  if (features & FEATURE_AMX_BF16 && gqa_bf16_amx.product) units[count] = &gqa_bf16_amx, names[count++] = "amx";
  if (features & FEATURE_AVX512_BF16 && gqa_bf16_avx512.product) units[count] = &gqa_bf16_avx512, names[count++] = "avx512-bf16";
#elif defined(__aarch64__)
  if (features & FEATURE_NEON_BF16 && gqa_bf16_neon.product) units[count] = &gqa_bf16_neon, names[count++] = "neon";
#endif
  return count;
}

#endif
