/* processor.h: what the processor has and the operating system lets a program use (processor.c). */
#ifndef GQA_PROCESSOR_H
#define GQA_PROCESSOR_H

enum {
  FEATURE_AVX2 = 1 << 0,   /* with FMA and F16C */
  FEATURE_AVX512 = 1 << 1, /* F, BW, DQ and VL; with AVX2 */
  FEATURE_AVX_VNNI = 1 << 2,
  FEATURE_AVX512_VNNI = 1 << 3,
  FEATURE_AVX512_BF16 = 1 << 4,
  FEATURE_AMX_BF16 = 1 << 5,
  FEATURE_AMX_INT8 = 1 << 6,
  FEATURE_NEON_DOT = 1 << 7,
  FEATURE_NEON_I8MM = 1 << 8,
  FEATURE_NEON_BF16 = 1 << 9,
  FEATURE_HALF_RATE_BF16 = 1 << 10 /* VDPBF16PS has at most the rate of FMA */
};

/* The features as a set of bits. On Linux the first call asks for the right to use AMX's tiles. */
unsigned gqa_features(void);

#endif
