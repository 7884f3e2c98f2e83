/* dispatch.c: chooses kernels and units once, by what the processor and the operating system have. */
#include "dispatch.h"

#include <stdio.h>
#include <string.h>

#include "processor.h"

extern const gqa_op gqa_table_baseline[];
#if defined(__x86_64__)
extern const gqa_op gqa_table_avx2[], gqa_table_avx512[];
#endif

/* Best first. */
static const gqa_isa rows[] = {
#if defined(__x86_64__)
    {"avx512+amx", FEATURE_AVX512 | FEATURE_AMX_BF16 | FEATURE_AVX512_VNNI, gqa_table_avx512, {&gqa_bf16_amx, &gqa_int8_avx512}},
    {"avx512+bf16", FEATURE_AVX512 | FEATURE_AVX512_BF16 | FEATURE_AVX512_VNNI, gqa_table_avx512, {&gqa_bf16_avx512, &gqa_int8_avx512}, FEATURE_HALF_RATE_BF16},
    {"avx512+vnni", FEATURE_AVX512 | FEATURE_AVX512_VNNI, gqa_table_avx512, {.int8 = &gqa_int8_avx512}},
    {"avx512", FEATURE_AVX512, gqa_table_avx512, {0}},
    {"avx2+vnni", FEATURE_AVX2 | FEATURE_AVX_VNNI, gqa_table_avx2, {.int8 = &gqa_int8_avx2}},
    {"avx2", FEATURE_AVX2, gqa_table_avx2, {0}},
    {"baseline", 0, gqa_table_baseline, {0}},
#elif defined(__aarch64__)
    {"neon+bf16", FEATURE_NEON_BF16 | FEATURE_NEON_DOT, gqa_table_baseline, {&gqa_bf16_neon, &gqa_int8_neon}},
    {"neon+dot", FEATURE_NEON_DOT, gqa_table_baseline, {.int8 = &gqa_int8_neon}},
    {"neon", 0, gqa_table_baseline, {0}},
#else
    {"baseline", 0, gqa_table_baseline, {0}},
#endif
};

/* Whether the compiler had the flags of the row's units. */
static int is_compiled(const gqa_unit_set *units) { return (!units->bf16 || units->bf16->product) && (!units->int8 || units->int8->linear); }

const gqa_isa *gqa_dispatch(const char *wanted, char *names, size_t bytes) {
  const unsigned features = gqa_features();
  size_t at = 0; /* `bytes` is more than all names take */
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if ((rows[i].features & features) != rows[i].features || !is_compiled(&rows[i].units)) continue;
    if (wanted[0] ? strcmp(wanted, rows[i].name) == 0 : !(rows[i].avoided & features)) return &rows[i];
    at += (size_t)snprintf(names + at, bytes - at, "%s%s", at ? ", " : "", rows[i].name);
  }
  return 0;
}
