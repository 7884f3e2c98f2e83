/*
 * threads.c: the persistent pool of the native build. The calling thread works too. Workers spin for a moment
 * after a job, since a decode step asks for the next one within microseconds, then sleep.
 *
 * A job is published through `ticket`, (epoch << 32 | next task). A worker takes a task by compare-and-swap
 * on the whole ticket, so one that read the fields of an older job can never take a task of a newer one;
 * while fields change the ticket reads CLOSED.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "gqa.h"
#include "os.h"

#define THREADS_CLOSED 0xffffffffu
#define THREADS_SPINS 4000

static _Atomic uint64_t ticket = THREADS_CLOSED;
static _Atomic(gqa_task) job_task;
static _Atomic(void *) job_context;
static atomic_int job_tasks;
static atomic_int job_done;
static atomic_int sleepers;
static atomic_int wanted; /* threads in use, the calling one included */
static int started;       /* workers that exist */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Takes and runs tasks of the current job until there are none. */
static void work(int worker) {
  for (;;) {
    uint64_t now = atomic_load_explicit(&ticket, memory_order_acquire);
    uint32_t next = (uint32_t)now;
    if (next == THREADS_CLOSED) return;
    gqa_task task = atomic_load_explicit(&job_task, memory_order_relaxed);
    void *context = atomic_load_explicit(&job_context, memory_order_relaxed);
    if ((int)next >= atomic_load_explicit(&job_tasks, memory_order_relaxed)) return;
    if (!atomic_compare_exchange_weak_explicit(&ticket, &now, now + 1, memory_order_acq_rel, memory_order_acquire)) continue;
    task(context, (int)next, worker);
    atomic_fetch_add_explicit(&job_done, 1, memory_order_release);
  }
}

static void *worker_main(void *argument) {
  int worker = (int)(intptr_t)argument;
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0;; spin++) {
      if ((uint32_t)(atomic_load_explicit(&ticket, memory_order_acquire) >> 32) != seen) break;
      if (spin < THREADS_SPINS) {
        relax();
        continue;
      }
      pthread_mutex_lock(&mutex);
      atomic_fetch_add(&sleepers, 1);
      while ((uint32_t)(atomic_load(&ticket) >> 32) == seen) pthread_cond_wait(&wake, &mutex);
      atomic_fetch_sub(&sleepers, 1);
      pthread_mutex_unlock(&mutex);
      break;
    }
    seen = (uint32_t)(atomic_load_explicit(&ticket, memory_order_acquire) >> 32);
    if (worker < atomic_load_explicit(&wanted, memory_order_relaxed)) work(worker);
  }
  return 0;
}

int gqa_threads(void) {
  int threads = atomic_load_explicit(&wanted, memory_order_relaxed);
  if (threads == 0) {
    gqa_set_threads(os_processors());
    threads = atomic_load(&wanted);
  }
  return threads;
}

void gqa_set_threads(int threads) { atomic_store(&wanted, threads < 1 ? 1 : threads > GQA_MAX_THREADS ? GQA_MAX_THREADS : threads); }

static void start_workers(int threads) {
  while (started < threads - 1) {
    pthread_t thread;
    if (pthread_create(&thread, 0, worker_main, (void *)(intptr_t)(started + 1)) != 0) return;
    pthread_detach(thread);
    started++;
  }
}

void gqa_parallel(int tasks, gqa_task task, void *context) {
  int threads = gqa_threads();
  if (threads == 1 || tasks <= 1) {
    for (int i = 0; i < tasks; i++) task(context, i, 0);
    return;
  }
  start_workers(threads);
  uint64_t epoch = (atomic_load(&ticket) >> 32) + 1;
  atomic_store(&ticket, epoch << 32 | THREADS_CLOSED);
  atomic_store(&job_task, task);
  atomic_store(&job_context, context);
  atomic_store(&job_tasks, tasks);
  atomic_store(&job_done, 0);
  atomic_store(&ticket, (epoch + 1) << 32);
  if (atomic_load(&sleepers) > 0) {
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&mutex);
  }
  work(0);
  for (int spin = 0; atomic_load_explicit(&job_done, memory_order_acquire) < tasks; spin++) {
    if (spin < THREADS_SPINS) relax();
    else sched_yield();
  }
}
