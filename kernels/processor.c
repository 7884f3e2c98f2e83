/*
 * processor.c: processor.h by CPUID and XGETBV on x86-64, by the operating system on arm64.
 */
#include "processor.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/* Linux saves the tiles only for processes that have asked for it; threads inherit the right. */
static int may_use_tiles(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static int may_use_tiles(void) { return 0; }
#endif

static int is_intel(void) {
  unsigned a, b, c, d;
  return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
}

unsigned gqa_features(void) {
  enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6, XCR0_TILES = 0x60000 };
  unsigned a, b, c, d, c1, low, high, ignored, features = FEATURE_AVX2;
  if (!__get_cpuid(1, &a, &b, &c1, &d)) return 0;
  const unsigned needed = bit_AVX | bit_FMA | bit_F16C | bit_OSXSAVE, wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  if ((c1 & needed) != needed || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & XCR0_AVX) != XCR0_AVX || !(b & bit_AVX2)) return 0;
  unsigned a1 = 0;
  if (a >= 1) __get_cpuid_count(7, 1, &a1, &ignored, &ignored, &ignored);
  if (a1 & 1u << 4) features |= FEATURE_AVX_VNNI;
  if ((b & wide) != wide || (low & XCR0_AVX512) != XCR0_AVX512) return features;
  features |= FEATURE_AVX512;
  if (c & 1u << 11) features |= FEATURE_AVX512_VNNI;
  if (a1 & 1u << 5) features |= FEATURE_AVX512_BF16;
  /* Intel's processors with AVX512-FP16, Sapphire Rapids and later, have AMX for speed. */
  if (is_intel() && d & 1u << 23) features |= FEATURE_HALF_RATE_BF16;
  if (!(d & 1u << 24) || (low & XCR0_TILES) != XCR0_TILES || !may_use_tiles()) return features;
  if (d & 1u << 22) features |= FEATURE_AMX_BF16;
  if (d & 1u << 25) features |= FEATURE_AMX_INT8;
  return features;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

unsigned gqa_features(void) {
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  return (first & 1ul << 20 ? FEATURE_NEON_DOT : 0) | (second & 1ul << 13 ? FEATURE_NEON_I8MM : 0) | (second & 1ul << 14 ? FEATURE_NEON_BF16 : 0);
}

#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

static unsigned has(const char *name, unsigned feature) {
  int value = 0;
  size_t bytes = sizeof value;
  return sysctlbyname(name, &value, &bytes, 0, 0) == 0 && value ? feature : 0;
}

unsigned gqa_features(void) {
  return has("hw.optional.arm.FEAT_DotProd", FEATURE_NEON_DOT) | has("hw.optional.arm.FEAT_I8MM", FEATURE_NEON_I8MM) | has("hw.optional.arm.FEAT_BF16", FEATURE_NEON_BF16);
}

#else
unsigned gqa_features(void) { return 0; }
#endif
