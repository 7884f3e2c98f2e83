/* units.c: the units in use: in WASM its own, otherwise none until a host sets them. */
#include "units.h"

#if defined(__wasm__)
gqa_unit_set gqa_units = {.int8 = &gqa_int8_wasm};
#else
gqa_unit_set gqa_units;
#endif
