#define VL 16
#define GQA_ISA avx512
#include "isa.h"
