/* units_avx2_vnni.c: linear with 8-bit activations by AVX-VNNI (VPDPBUSD of 256 bits). */
#include "units.h"

#if defined(__AVXVNNI__)
#define VL 8
#include "linear_int8.h"

const int8_unit gqa_int8_avx2 = {linear_int8};
#else
const int8_unit gqa_int8_avx2 = {0};
#endif
