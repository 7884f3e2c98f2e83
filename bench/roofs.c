/*
 * roofs.c: the machine's limits, fused multiply-adds per second and bytes read per second, on one or more
 * threads. A contender of the bench (protocol: bench/serve.mjs) with two commands:
 *
 *   fma [bits, threads, milliseconds]   {"gflops": …}   bits 512, 256 or 128; 0 = the widest of this processor
 *   read [mebibytes, threads, pieces]   {"gbs": …}      per thread the median over pieces of 2 MiB; their sum
 *
 * FMA: independent accumulators, all in registers: 24, more than latency times width of any x86 or arm64
 * core, and 12 for instruction sets with 16 registers. Read: vector loads that are added up, in 1, 2 or 4
 * streams per thread (another number at each request), round a buffer in huge pages where the system has
 * them. roofs.mjs keeps the best answer.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MAX_THREADS 64
#define PIECE ((size_t)2 << 20)
#define MAX_PIECES 256
#if defined(__x86_64__)
#define TARGET(isa) __attribute__((target(isa), noinline))
#else
#define TARGET(isa) __attribute__((noinline))
#endif

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* `rounds` times COUNT fused multiply-adds of LANES floats; accumulators and operands stay in registers. */
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

#if defined(__x86_64__)
FMA_LOOP(fma_512, "avx512f,prefer-vector-width=512", 16, 24, "v")
FMA_LOOP(fma_256, "avx2,fma", 8, 12, "x")
FMA_LOOP(fma_128, "avx2,fma", 4, 12, "x")
FMA_LOOP(mul_add_128, "sse2", 4, 12, "x")
#else
FMA_LOOP(fma_128, "", 4, 24, "w")
#endif

typedef struct {
  void (*run)(long);
  int lanes, accumulators;
} fma_kernel;

static fma_kernel choose(int bits) {
#if defined(__x86_64__)
  int wide = __builtin_cpu_supports("avx512f"), fused = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (bits == 0) bits = wide ? 512 : fused ? 256 : 128;
  if (bits == 512 && wide) return (fma_kernel){fma_512, 16, 24};
  if (bits == 256 && fused) return (fma_kernel){fma_256, 8, 12};
  if (bits == 128) return fused ? (fma_kernel){fma_128, 4, 12} : (fma_kernel){mul_add_128, 4, 12};
#else
  if (bits == 0 || bits == 128) return (fma_kernel){fma_128, 4, 24};
#endif
  return (fma_kernel){0, 0, 0};
}

/* Threads start together; the time is from the first start to the last end. */

typedef struct {
  int index, threads;
  void (*work)(int index, int threads);
  double start, end;
} share;
static pthread_barrier_t barrier;

static void *share_main(void *argument) {
  share *s = argument;
  pthread_barrier_wait(&barrier);
  s->start = now();
  s->work(s->index, s->threads);
  s->end = now();
  return 0;
}

static double timed(int threads, void (*work)(int, int)) {
  share shares[MAX_THREADS];
  pthread_t ids[MAX_THREADS];
  pthread_barrier_init(&barrier, 0, (unsigned)threads);
  for (int i = 0; i < threads; i++) {
    shares[i] = (share){i, threads, work, 0, 0};
    if (i > 0) pthread_create(&ids[i], 0, share_main, &shares[i]);
  }
  share_main(&shares[0]);
  double start = shares[0].start, end = shares[0].end;
  for (int i = 1; i < threads; i++) {
    pthread_join(ids[i], 0);
    if (shares[i].start < start) start = shares[i].start;
    if (shares[i].end > end) end = shares[i].end;
  }
  pthread_barrier_destroy(&barrier);
  return end - start;
}

static fma_kernel kernel;
static long rounds;
static void fma_share(int index, int threads) {
  (void)index, (void)threads;
  kernel.run(rounds);
}

/* The best of several short runs: an interrupted run is slower than the processor. */
static double measure_fma(int bits, int threads, double milliseconds) {
  kernel = choose(bits);
  if (!kernel.run) return 0;
  double best = 0, until = now() + milliseconds * 1e-3;
  rounds = 10000;
  do {
    double seconds = timed(threads, fma_share);
    double gflops = 2e-9 * (double)rounds * kernel.lanes * kernel.accumulators * threads / seconds;
    if (gflops > best) best = gflops;
    if (seconds < 1e-3) rounds *= 2; /* shorter than a time slice, so that some run is not interrupted */
  } while (now() < until);
  return best;
}

typedef float v16 __attribute__((vector_size(64), aligned(64)));
static char *buffer;
static size_t buffer_bytes;
static int streams;
static volatile float sink;

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default"), noinline))
#endif
static void read_streams(const char *from, size_t bytes, int count) {
  size_t each = bytes / (size_t)count / 256 * 256;
  v16 a = {0}, b = {0}, c = {0}, d = {0};
  for (size_t at = 0; at < each; at += 256)
    for (int s = 0; s < count; s++) {
      const v16 *p = (const v16 *)(from + (size_t)s * each + at);
      a += p[0], b += p[1], c += p[2], d += p[3];
    }
  a += b + c + d;
  sink = a[0] + a[5];
}

static size_t cursor[MAX_THREADS];
static double rates[MAX_THREADS][MAX_PIECES];
static int pieces_each;

/* A piece is shorter than a time slice, so that the median piece is not interrupted by other programs. */
static void read_share(int index, int threads) {
  size_t part = buffer_bytes / (size_t)threads / PIECE * PIECE;
  for (int i = 0; i < pieces_each; i++) {
    if (cursor[index] + PIECE > part) cursor[index] = 0;
    double start = now();
    read_streams(buffer + (size_t)index * part + cursor[index], PIECE, streams);
    rates[index][i] = (double)PIECE / (now() - start) * 1e-9;
    cursor[index] += PIECE;
  }
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y ? 1 : 0;
}

static double measure_read(size_t mebibytes, int threads, int pieces) {
  static int requests;
  size_t wanted = (mebibytes << 20) / PIECE * PIECE;
  if (wanted < PIECE * (size_t)threads) wanted = PIECE * (size_t)threads;
  if (buffer && buffer_bytes != wanted) munmap(buffer, buffer_bytes), buffer = 0;
  if (!buffer) {
    buffer = mmap(0, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) exit(1);
#ifdef MADV_HUGEPAGE
    madvise(buffer, wanted, MADV_HUGEPAGE);
#endif
    buffer_bytes = wanted;
    for (size_t i = 0; i < wanted / sizeof(float); i++) ((float *)buffer)[i] = (float)(i & 1023);
  }
  pieces_each = pieces > MAX_PIECES ? MAX_PIECES : pieces;
  streams = 1 << requests++ % 3;
  timed(threads, read_share);
  double sum = 0;
  for (int t = 0; t < threads; t++) {
    qsort(rates[t], (size_t)pieces_each, sizeof(double), ascending);
    sum += rates[t][pieces_each / 2];
  }
  return sum;
}

int main(void) {
  char line[256];
  setvbuf(stdout, 0, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin)) {
    int a, b, c;
    if (sscanf(line, "fma [%d,%d,%d]", &a, &b, &c) == 3 && b >= 1 && b <= MAX_THREADS) {
      double gflops = measure_fma(a, b, c);
      printf("#bench {\"ok\":{\"gflops\":%.3f,\"bits\":%d}}\n", gflops, 32 * kernel.lanes);
    } else if (sscanf(line, "read [%d,%d,%d]", &a, &b, &c) == 3 && b >= 1 && b <= MAX_THREADS) {
      printf("#bench {\"ok\":{\"gbs\":%.3f}}\n", measure_read((size_t)a, b, c));
    } else {
      printf("#bench {\"error\":\"roofs: unknown request\"}\n");
    }
  }
  return 0;
}
