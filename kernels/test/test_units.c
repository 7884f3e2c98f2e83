/*
 * test_units.c: the bf16 products of the units that this processor has, against loops in double. Operands end
 * where a page begins that may not be accessed, since the sanitizer does not see what tile loads read.
 */
#define _DEFAULT_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "units_here.h"

typedef struct {
  void *start, *data;
  size_t bytes;
} guarded;

static guarded new_guarded(size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), all = (bytes + page - 1) / page * page + page;
  guarded g = {mmap(0, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0, all};
  if (g.start == MAP_FAILED || mprotect((char *)g.start + all - page, page, PROT_NONE) != 0) abort();
  g.data = (char *)g.start + all - page - bytes;
  return g;
}
static void free_guarded(guarded g) { munmap(g.start, g.bytes); }

static uint16_t upper_half(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (uint16_t)(bits >> 16);
}
static double widen(uint16_t h) {
  const uint32_t bits = (uint32_t)h << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* special: puts a NaN into row 0 of a and an infinity into the last column of b. */
static void test_product(const char *name, const bf16_unit *unit, size_t m, size_t n, size_t k, size_t gap, int accumulate, int special) {
  const size_t lda = k + gap, ldb = n + gap, ldc = n + gap;
  const guarded a_memory = new_guarded(((m - 1) * lda + k) * sizeof(uint16_t)), b_memory = new_guarded(((k / 2 - 1) * ldb + n) * 2 * sizeof(uint16_t)), c_memory = new_guarded(((m - 1) * ldc + n) * sizeof(float));
  uint16_t *a = a_memory.data, *b = b_memory.data;
  float *c = c_memory.data;
  for (size_t i = 0; i < (m - 1) * lda + k; i++) a[i] = i % lda < k ? upper_half(random_float()) : 0x7fc0;
  for (size_t i = 0; i < ((k / 2 - 1) * ldb + n) * 2; i++) b[i] = i % (2 * ldb) < 2 * n ? upper_half(random_float()) : 0x7fc0;
  for (size_t i = 0; i < (m - 1) * ldc + n; i++) c[i] = accumulate && i % ldc < n ? random_float() : NAN;
  if (special) a[k - 1] = 0x7fc0, b[2 * (n - 1)] = 0x7f80;
  double *want = new_doubles(m * n), *bound = new_doubles(m * n);
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < n; j++) {
      double sum = accumulate ? c[i * ldc + j] : 0, size = fabs(sum);
      for (size_t p = 0; p < k; p++) {
        const double product = widen(a[i * lda + p]) * widen(b[2 * (p / 2 * ldb + j) + p % 2]);
        sum += product, size += fabs(product);
      }
      /* BFMMLA rounds products and sums to odd: twice the unit roundoff. */
      want[i * n + j] = sum, bound[i * n + j] = 2 * (double)(k + 1) * 0x1p-24 * size;
    }
  unit->product(&(bf16_product){.a = a, .b = b, .c = c, .lda = lda, .ldb = ldb, .ldc = ldc, .m = m, .n = n, .k = k, .accumulate = accumulate});
  checks++;
  for (size_t i = 0; i < m; i++)
    for (size_t j = 0; j < ldc && i * ldc + j < (m - 1) * ldc + n; j++) {
      const double got = c[i * ldc + j], expected = j < n ? want[i * n + j] : NAN;
      if (isfinite(expected) ? fabs(got - expected) <= bound[i * n + j] : isnan(expected) ? isnan(got) : got == expected) continue;
      printf("%s m=%zu n=%zu k=%zu gap=%zu accumulate=%d special=%d: [%zu][%zu] got %.9g, want %.9g\n", name, m, n, k, gap, accumulate, special, i, j, got, expected);
      failures++;
      i = m;
      break;
    }
  free_guarded(a_memory), free_guarded(b_memory), free_guarded(c_memory), free(want), free(bound);
}

static void test_unit(const char *name, const bf16_unit *unit) {
  printf("%s\n", name);
  for (size_t m = 1; m <= 70; m++) test_product(name, unit, m, 16 * (1 + m % 5), 32 * (1 + m % 3), m % 4, m % 2, m % 7 == 0);
  for (size_t n = 16; n <= 112; n += 16)
    for (size_t m = 15; m <= 49; m++) test_product(name, unit, m, n, 32, 0, (int)n / 16 % 2, 0);
  test_product(name, unit, 48, 64, 1056, 6, 1, 1);
}

int main(void) {
  const bf16_unit *units[MOST_UNITS];
  const char *names[MOST_UNITS];
  const int count = bf16_units_here(units, names);
  for (int i = 0; i < count; i++) test_unit(names[i], units[i]);
  return report("test_units");
}
