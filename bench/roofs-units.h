/*
 * roofs-units.h: loops of multiply-adds in registers, one per unit of the processor: FMA on f32, and the dot
 * products of narrow operands (VDPBF16PS, VPDPBUSD, and AMX tiles). Accumulators are independent: 24, more
 * than latency times width of any x86 or arm64 core; 12 for instruction sets with 16 registers; 6 tiles.
 */
#ifndef GQA_ROOFS_UNITS_H
#define GQA_ROOFS_UNITS_H
#include <string.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef struct {
  const char *kind, *form; /* `fma`, `bf16`, `int8`; bits of a vector, or `amx` */
  void (*run)(long rounds);
  double operations; /* of a round; a multiply-add counts as two */
  int (*supported)(void);
} roof_unit;

#if defined(__x86_64__)
#define TARGET(isa) __attribute__((target(isa), noinline))
#else
#define TARGET(isa) __attribute__((noinline))
#endif

/* `rounds` times COUNT multiply-adds of vectors of LANES floats; accumulators and operands stay in registers. */
#define FMA_LOOP(NAME, ISA, LANES, COUNT, CONSTRAINT)                             \
  TARGET(ISA) static void NAME(long rounds) {                                     \
    typedef float vector __attribute__((vector_size(4 * LANES)));                 \
    vector c[COUNT], a = (vector){0} + 0.999f, b = (vector){0} + 0.001f;          \
    _Pragma("GCC unroll 24") for (int i = 0; i < COUNT; i++) c[i] = a * (float)i; \
    for (long round = 0; round < rounds; round++) {                               \
      _Pragma("GCC unroll 24") for (int i = 0; i < COUNT; i++) {                  \
        c[i] = c[i] * a + b;                                                      \
        __asm__ volatile("" : "+" CONSTRAINT(c[i]));                              \
      }                                                                           \
    }                                                                             \
  }

/* The same for an instruction that adds products of a and b to a vector of BYTES. */
#define DOT_LOOP(NAME, ISA, BYTES, COUNT, INSTRUCTION)                                             \
  TARGET(ISA) static void NAME(long rounds) {                                                      \
    typedef int vector __attribute__((vector_size(BYTES)));                                        \
    vector c[COUNT], a = (vector){0} + 0x3f813f81, b = (vector){0} + 0x3c013c01;                   \
    _Pragma("GCC unroll 24") for (int i = 0; i < COUNT; i++) c[i] = a;                             \
    for (long round = 0; round < rounds; round++)                                                  \
      _Pragma("GCC unroll 24") for (int i = 0; i < COUNT; i++)                                     \
          __asm__ volatile(INSTRUCTION " %2, %1, %0" : "+v"(c[i]) : "v"(a), "v"(b));               \
  }

/* Six products of 16 x 16 results per round; a 64-byte row holds 32 bf16 or 64 int8. Tiles are zero. */
#define TILE_LOOP(NAME, INSTRUCTION)                                                                 \
  static void NAME(long rounds) {                                                                    \
    struct {                                                                                         \
      uint8_t palette, first_row, reserved[14];                                                      \
      uint16_t row_bytes[16];                                                                        \
      uint8_t rows[16];                                                                              \
    } config = {.palette = 1};                                                                       \
    for (int i = 0; i < 8; i++) config.row_bytes[i] = 64, config.rows[i] = 16;                       \
    __asm__ volatile("ldtilecfg %0" : : "m"(config));                                                \
    for (long round = 0; round < rounds; round++)                                                    \
      __asm__ volatile(INSTRUCTION " %%tmm7, %%tmm6, %%tmm0\n\t" INSTRUCTION " %%tmm7, %%tmm6, %%tmm1\n\t" \
                       INSTRUCTION " %%tmm7, %%tmm6, %%tmm2\n\t" INSTRUCTION " %%tmm7, %%tmm6, %%tmm3\n\t" \
                       INSTRUCTION " %%tmm7, %%tmm6, %%tmm4\n\t" INSTRUCTION " %%tmm7, %%tmm6, %%tmm5" : : :); \
    __asm__ volatile("tilerelease");                                                                 \
  }

#if defined(__x86_64__)
FMA_LOOP(fma_512, "avx512f,prefer-vector-width=512", 16, 24, "v")
FMA_LOOP(fma_256, "avx2,fma", 8, 12, "x")
FMA_LOOP(fma_128, "avx2,fma", 4, 12, "x")
FMA_LOOP(mul_add_128, "sse2", 4, 12, "x")
DOT_LOOP(bf16_512, "avx512f", 64, 24, "vdpbf16ps")
DOT_LOOP(int8_512, "avx512f", 64, 24, "vpdpbusd")
DOT_LOOP(int8_256, "avx2", 32, 12, "%{vex%} vpdpbusd")

static int has_avx512(void) { return __builtin_cpu_supports("avx512f") != 0; }
static int has_fma(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int always(void) { return 1; }
#if defined(__linux__)
TILE_LOOP(bf16_amx, "tdpbf16ps")
TILE_LOOP(int8_amx, "tdpbusd")

/* CPUID leaf 7: registers eax, ebx, ecx, edx of a subleaf. */
static int feature(unsigned subleaf, int which, int bit) {
  unsigned r[4];
  return __get_cpuid_count(7, subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[which] >> bit & 1);
}
static int has_bf16(void) { return has_avx512() && feature(1, 0, 5); }
static int has_vnni(void) { return has_avx512() && feature(0, 2, 11); }
static int has_avx_vnni(void) { return has_fma() && feature(1, 0, 4); }
/* Linux gives a process the tile registers on request: ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA. */
static int has_tiles(void) { return feature(0, 3, 24) && syscall(SYS_arch_prctl, 0x1023, 18) == 0; }
static int has_bf16_tiles(void) { return feature(0, 3, 22) && has_tiles(); }
static int has_int8_tiles(void) { return feature(0, 3, 25) && has_tiles(); }
#endif
#else
FMA_LOOP(fma_128, "", 4, 24, "w")
static int always(void) { return 1; }
#endif

/* Of each kind the fastest first. */
static const roof_unit UNITS[] = {
#if defined(__x86_64__)
    {"fma", "512", fma_512, 2 * 16 * 24, has_avx512},
    {"fma", "256", fma_256, 2 * 8 * 12, has_fma},
    {"fma", "128", fma_128, 2 * 4 * 12, has_fma},
    {"fma", "128", mul_add_128, 2 * 4 * 12, always},
#if defined(__linux__)
    {"bf16", "amx", bf16_amx, 2.0 * 6 * 16 * 16 * 32, has_bf16_tiles},
    {"bf16", "512", bf16_512, 2 * 32 * 24, has_bf16},
    {"int8", "amx", int8_amx, 2.0 * 6 * 16 * 16 * 64, has_int8_tiles},
    {"int8", "512", int8_512, 2 * 64 * 24, has_vnni},
    {"int8", "256", int8_256, 2 * 32 * 12, has_avx_vnni},
#endif
#else
    {"fma", "128", fma_128, 2 * 4 * 24, always},
#endif
};
enum { UNIT_COUNT = sizeof UNITS / sizeof UNITS[0] };

/* The fastest unit of a kind that the processor has, or that of a form; NULL when it has none. */
static const roof_unit *find_unit(const char *kind, const char *form) {
  for (int i = 0; i < UNIT_COUNT; i++)
    if (!strcmp(UNITS[i].kind, kind) && (!strcmp(form, "widest") || !strcmp(UNITS[i].form, form)) && UNITS[i].supported()) return &UNITS[i];
  return 0;
}
#endif
