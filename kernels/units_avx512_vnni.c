/* units_avx512_vnni.c: linear with 8-bit activations by AVX512-VNNI (VPDPBUSD). */
#include "units.h"

#if defined(__AVX512VNNI__)
#define VL 16
#include "linear_int8.h"

const int8_unit gqa_int8_avx512 = {linear_int8};
#else
const int8_unit gqa_int8_avx512 = {0};
#endif
