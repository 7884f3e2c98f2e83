/* units.c: the units in use. None until a host sets them. */
#include "units.h"

gqa_unit_set gqa_units;
