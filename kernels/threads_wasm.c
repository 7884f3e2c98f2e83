/*
 * threads_wasm.c: the pool of the WASM build, as threads.c: the host starts workers, which share the memory,
 * and each calls gqa_worker. The calling thread works too and never sleeps, because the main thread of a page
 * may not. No job waits for a certain worker: those that are there take tasks.
 *
 * A trap in a task ends the call on its thread only (gqa_scratch without memory). The host of a worker then
 * calls gqa_worker again, and that of the calling thread gqa_abandon: the job ends, and its call fails.
 */
#include <stdatomic.h>

#include "gqa.h"
#include "wasm.h"

#define THREADS_CLOSED 0xffffffffu
/* Loads of the ticket before a worker sleeps: 100 to 200 us, since WASM has no instruction to pause. */
#define THREADS_SPINS 200000

static _Atomic uint64_t ticket = THREADS_CLOSED; /* epoch << 32 | next task */
static _Atomic(gqa_task) job_task;
static _Atomic(void *) job_context;
static atomic_int job_tasks, job_done, job_failed;
static atomic_int signal; /* changes with each job; workers sleep on it */
static atomic_int sleepers, present; /* workers that sleep, workers that exist */
static atomic_int wanted = 1;        /* threads in use, the calling one included */
static int is_in_task[GQA_MAX_THREADS]; /* each thread writes its own */
static int is_short; /* a job had fewer workers than wanted */

int gqa_threads(void) { return atomic_load_explicit(&wanted, memory_order_relaxed); }
void gqa_set_threads(int threads) { atomic_store(&wanted, threads); }

/* Takes and runs tasks of the current job until there are none. */
static void work(int worker) {
  for (;;) {
    uint64_t now = atomic_load(&ticket);
    uint32_t next = (uint32_t)now;
    if (next == THREADS_CLOSED) return;
    gqa_task task = atomic_load_explicit(&job_task, memory_order_relaxed);
    void *context = atomic_load_explicit(&job_context, memory_order_relaxed);
    if ((int)next >= atomic_load_explicit(&job_tasks, memory_order_relaxed)) return;
    if (!atomic_compare_exchange_weak(&ticket, &now, now + 1)) continue;
    is_in_task[worker] = 1;
    task(context, (int)next, worker);
    is_in_task[worker] = 0;
    atomic_fetch_add(&job_done, 1);
  }
}

/* Counts the task that this thread left by a trap. */
static void end_trapped(int worker) {
  if (!is_in_task[worker]) return;
  is_in_task[worker] = 0;
  atomic_store(&job_failed, 1);
  atomic_fetch_add(&job_done, 1);
}

void gqa_worker(int worker) {
  if (is_in_task[worker]) end_trapped(worker);
  else atomic_fetch_add(&present, 1);
  for (uint32_t seen = 0;;) {
    for (int spin = 0; (uint32_t)(atomic_load(&ticket) >> 32) == seen; spin++) {
      if (spin < THREADS_SPINS) continue;
      const int before = atomic_load(&signal);
      atomic_fetch_add(&sleepers, 1);
      if ((uint32_t)(atomic_load(&ticket) >> 32) == seen) __builtin_wasm_memory_atomic_wait32((int *)&signal, before, -1);
      atomic_fetch_sub(&sleepers, 1);
    }
    seen = (uint32_t)(atomic_load(&ticket) >> 32);
    if (worker < gqa_threads()) work(worker);
  }
}

void gqa_parallel(int tasks, gqa_task task, void *context) {
  const int threads = gqa_threads();
  if (threads == 1 || tasks <= 1) {
    for (int i = 0; i < tasks; i++) task(context, i, 0);
    return;
  }
  if (atomic_load_explicit(&present, memory_order_relaxed) < threads - 1) is_short = 1;
  const uint64_t epoch = (atomic_load(&ticket) >> 32) + 1;
  atomic_store(&ticket, epoch << 32 | THREADS_CLOSED);
  atomic_store(&job_task, task);
  atomic_store(&job_context, context);
  atomic_store(&job_tasks, tasks);
  atomic_store(&job_done, 0);
  atomic_store(&ticket, (epoch + 1) << 32);
  atomic_fetch_add(&signal, 1);
  if (atomic_load(&sleepers) > 0) __builtin_wasm_memory_atomic_notify((int *)&signal, (unsigned)-1);
  work(0);
  while (atomic_load(&job_done) < tasks) {
  }
  if (atomic_exchange(&job_failed, 0)) __builtin_trap();
}

int gqa_is_short_of_workers(void) {
  const int was_short = is_short;
  is_short = 0;
  return was_short;
}

void gqa_abandon(void) {
  uint64_t now = atomic_load(&ticket);
  while (!atomic_compare_exchange_weak(&ticket, &now, now | THREADS_CLOSED)) {
  }
  end_trapped(0);
  if ((uint32_t)now != THREADS_CLOSED)
    while (atomic_load(&job_done) < (int)(uint32_t)now) {
    }
  atomic_store(&job_failed, 0);
}
