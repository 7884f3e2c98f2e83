/* units_neon_dot.c: linear with 8-bit activations by SDOT. */
#include "units.h"

#if defined(__ARM_FEATURE_DOTPROD)
#define VL 4
#include "linear_int8.h"

const int8_unit gqa_int8_neon = {linear_int8};
#else
const int8_unit gqa_int8_neon = {0};
#endif
