#define VL 4
#define GQA_ISA baseline
#include "isa.h"
