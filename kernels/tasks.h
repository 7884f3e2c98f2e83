/*
 * tasks.h: when a call uses threads. The size of a task depends on the shapes only, so results are the same
 * bit for bit for any number of threads.
 */
#ifndef GQA_TASKS_H
#define GQA_TASKS_H
#include "gqa.h"

/*
 * Below this many elements (or fused multiply-adds divided by 16), about 10 us of work, a call runs on the
 * calling thread only.
 */
enum { GQA_SERIAL_WORK = 1 << 15 };
/* Elements per task of an elementwise operation: 64 KiB of f32. */
enum { GQA_CHUNK = 1 << 14 };

static inline void gqa_run(size_t tasks, gqa_task task, void *context, double work) {
  if (tasks > 1 && work >= GQA_SERIAL_WORK) {
    gqa_parallel((int)tasks, task, context);
  } else {
    for (size_t i = 0; i < tasks; i++) task(context, (int)i, 0);
  }
}

static inline size_t gqa_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t gqa_max(size_t a, size_t b) { return a > b ? a : b; }
/* ceil(a / b) */
static inline size_t gqa_ceil(size_t a, size_t b) { return (a + b - 1) / b; }

#endif
