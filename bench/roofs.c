/*
 * roofs.c: the machine's limits on one or more threads. A contender of the bench (protocol: bench/serve.mjs)
 * with three commands:
 *
 *   units {}                                  [["fma", "512"], …]   kinds and forms that the processor has
 *   peak ["kind form", threads, milliseconds] {"gflops": …}         a unit of roofs-units.h; the form `widest`
 *                                                                   is the fastest
 *   read [mebibytes, threads, pieces]         {"gbs": …, "form": …} the sum of each thread's median over its
 *                                                                   pieces of 2 MiB
 *
 * Read: vector loads that are added up, each thread round its own part of a buffer in huge pages where the
 * system has them, every page written before. It is read in 1, 2 or 4 streams per thread, with and without a
 * prefetch 4 KiB ahead, a piece in one form after the other; the best form counts.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "roofs-units.h"

#define MAX_THREADS 64
#define PIECE ((size_t)2 << 20) /* a huge page */
#define MAX_PIECES 256
#define FORMS 6 /* of reading: 1, 2 and 4 streams, without and with prefetch */

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
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

static const roof_unit *unit;
static long rounds;
static void unit_share(int index, int threads) {
  (void)index, (void)threads;
  unit->run(rounds);
}

/* The best of several short runs: an interrupted run is slower than the processor. */
static double measure_peak(int threads, double milliseconds) {
  double best = 0, until = now() + milliseconds * 1e-3;
  rounds = 10000;
  do {
    double seconds = timed(threads, unit_share);
    double gflops = 1e-9 * (double)rounds * unit->operations * threads / seconds;
    if (gflops > best) best = gflops;
    if (seconds < 1e-3) rounds *= 2; /* shorter than a time slice, so that some run is not interrupted */
  } while (now() < until);
  return best;
}

typedef float v16 __attribute__((vector_size(64), aligned(64)));
static char *buffer;
static size_t buffer_bytes;
static volatile float sink;

#define READ_AHEAD 4096
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default"), noinline))
#endif
static void read_streams(const char *from, size_t bytes, int count, int prefetch) {
  size_t each = bytes / (size_t)count / 256 * 256;
  v16 a = {0}, b = {0}, c = {0}, d = {0};
  for (size_t at = 0; at < each; at += 256)
    for (int s = 0; s < count; s++) {
      const v16 *p = (const v16 *)(from + (size_t)s * each + at);
      if (prefetch)
        for (int line = 0; line < 4; line++) __builtin_prefetch((const char *)(p + line) + READ_AHEAD, 0, 3);
      a += p[0], b += p[1], c += p[2], d += p[3];
    }
  a += b + c + d;
  sink = a[0] + a[5];
}

static size_t cursor[MAX_THREADS];
static double rates[FORMS][MAX_THREADS][MAX_PIECES];
static int pieces_each;

/* A piece is shorter than a time slice, so that the median piece is not interrupted by other programs. */
static void read_share(int index, int threads) {
  size_t part = buffer_bytes / (size_t)threads / PIECE * PIECE;
  for (int i = 0; i < pieces_each * FORMS; i++) {
    const int form = i % FORMS;
    if (cursor[index] + PIECE > part) cursor[index] = 0;
    const char *piece = buffer + (size_t)index * part + cursor[index];
    sink = *(volatile const float *)piece; /* a virtual machine may have to map the page again: 150 us (measured) */
    double start = now();
    read_streams(piece, PIECE, 1 << form / 2, form % 2);
    rates[form][index][i / FORMS] = (double)PIECE / (now() - start) * 1e-9;
    cursor[index] += PIECE;
  }
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y ? 1 : 0;
}

/* `form`: the best one. */
static double measure_read(size_t mebibytes, int threads, int pieces, int *form) {
  size_t wanted = (mebibytes << 20) / PIECE * PIECE;
  if (wanted < PIECE * (size_t)threads) wanted = PIECE * (size_t)threads;
  if (buffer_bytes != wanted) {
    char *mapped = mmap(0, wanted + PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) exit(1);
    buffer = (char *)(((uintptr_t)mapped + PIECE - 1) / PIECE * PIECE);
#ifdef MADV_HUGEPAGE
    madvise(buffer, wanted, MADV_HUGEPAGE);
#endif
    buffer_bytes = wanted;
    for (size_t i = 0; i < wanted / sizeof(float); i++) ((float *)buffer)[i] = (float)(i & 1023);
  }
  pieces_each = pieces < FORMS ? 1 : pieces / FORMS > MAX_PIECES ? MAX_PIECES : pieces / FORMS;
  timed(threads, read_share);
  double best = 0;
  for (int f = 0; f < FORMS; f++) {
    double sum = 0;
    for (int t = 0; t < threads; t++) {
      qsort(rates[f][t], (size_t)pieces_each, sizeof(double), ascending);
      sum += rates[f][t][pieces_each / 2];
    }
    if (sum > best) best = sum, *form = f;
  }
  return best;
}

int main(void) {
  char line[256], kind[16], form[16];
  setvbuf(stdout, 0, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin)) {
    int a, b, c;
    if (!strncmp(line, "units ", 6)) {
      printf("#bench {\"ok\":[");
      for (int i = 0, found = 0; i < UNIT_COUNT; i++)
        if (find_unit(UNITS[i].kind, UNITS[i].form) == &UNITS[i]) printf("%s[\"%s\",\"%s\"]", found++ ? "," : "", UNITS[i].kind, UNITS[i].form);
      printf("]}\n");
    } else if (sscanf(line, "peak [\"%15[a-z0-9] %15[a-z0-9]\",%d,%d]", kind, form, &b, &c) == 4 && b >= 1 && b <= MAX_THREADS && (unit = find_unit(kind, form)) != 0) {
      printf("#bench {\"ok\":{\"gflops\":%.3f}}\n", measure_peak(b, c));
    } else if (sscanf(line, "read [%d,%d,%d]", &a, &b, &c) == 3 && b >= 1 && b <= MAX_THREADS) {
      int best = 0;
      const double gbs = measure_read((size_t)a, b, c, &best);
      printf("#bench {\"ok\":{\"gbs\":%.3f,\"form\":\"%d streams%s\"}}\n", gbs, 1 << best / 2, best % 2 ? ", prefetch" : "");
    } else {
      printf("#bench {\"error\":\"roofs: unknown request\"}\n");
    }
  }
  return 0;
}
