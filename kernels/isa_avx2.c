#define VL 8
#define GQA_ISA avx2
#include "isa.h"
