/*
 * check.h: what the C tests share. A test compares an operation with plain loops in double, on heap buffers
 * of the exact size (so that the address sanitizer sees any access outside), and prints op, sizes, index, got
 * and want when they differ.
 */
#ifndef GQA_CHECK_H
#define GQA_CHECK_H
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gqa.h"

static uint64_t random_state = 88172645463325252ull;
static int checks, failures;

static inline uint32_t random_bits(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 32);
}
/* Uniform in [-1, 1). */
static inline float random_float(void) { return (float)(int32_t)random_bits() * 0x1p-31f; }

static inline void *new_bytes(size_t bytes) {
  void *p = malloc(bytes ? bytes : 1);
  if (!p) abort();
  memset(p, 0xff, bytes); /* NaN in every float type */
  return p;
}
static inline float *new_floats(size_t n) { return new_bytes(n * sizeof(float)); }
static inline float *random_floats(size_t n) {
  float *x = new_floats(n);
  for (size_t i = 0; i < n; i++) x[i] = random_float();
  return x;
}
static inline double *new_doubles(size_t n) { return new_bytes(n * sizeof(double)); }
static inline double address(const void *p) { return (double)(uintptr_t)p; }

/* max |got - want| <= tolerance * max(1, max |want|); infinities and NaN must match exactly. */
__attribute__((format(printf, 5, 6))) static inline void check_floats(const float *got, const double *want, size_t n, double tolerance, const char *format, ...) {
  double largest = 1;
  for (size_t i = 0; i < n; i++)
    if (isfinite(want[i]) && fabs(want[i]) > largest) largest = fabs(want[i]);
  checks++;
  for (size_t i = 0; i < n; i++) {
    int same = isfinite(want[i]) ? fabs(got[i] - want[i]) <= tolerance * largest : isnan(want[i]) ? isnan(got[i]) : got[i] == want[i];
    if (same) continue;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(": [%zu] got %.9g, want %.9g (largest %.3g)\n", i, got[i], want[i], largest);
    failures++;
    return;
  }
}

__attribute__((format(printf, 4, 5))) static inline void check_bytes(const void *got, const void *want, size_t n, const char *format, ...) {
  checks++;
  if (memcmp(got, want, n) == 0) return;
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf(": bytes differ\n");
  failures++;
}

static inline int report(const char *name) {
  printf("%s: %d checks, %d failed\n", name, checks, failures);
  return failures != 0;
}

#endif
