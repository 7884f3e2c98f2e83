/*
 * memory.c: the buffer pool of the native build. Sizes are rounded up to classes (eight per power of two, at
 * most 12.5 % waste), and a freed buffer is kept in its class and reused for the next one of that size, so
 * tensors of a decode step use the same memory each time. It keeps at most the recent peak use, and 128 MiB: a
 * training step then reuses its memory (a new page from the system costs more than computing with it), and
 * memory that a program no longer uses is returned.
 */
#include <pthread.h>
#include <stdlib.h>

#include "gqa.h"
#include "memory.h"
#include "os.h"

static struct free_buffer *free_lists[MEMORY_CLASSES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* Bytes in use, free bytes in the pool, and peak use in this and the last run of MEMORY_EPOCH allocations. */
enum { MEMORY_EPOCH = 1 << 14 };
static size_t live, pooled, peak, last_peak;
static int allocations;

static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }
static size_t most(void) { return (peak > last_peak ? peak : last_peak) + ((size_t)128 << 20); }

/* Returns free buffers to the system, large ones first, until the pool is within its limit. */
static void trim(void) {
  for (int index = MEMORY_CLASSES - 1; index > 0 && live + pooled > most(); index--) {
    const size_t bytes = memory_size_of(index);
    for (struct free_buffer *buffer; live + pooled > most() && (buffer = free_lists[index]) != 0; pooled -= bytes) {
      free_lists[index] = buffer->next;
      os_free(buffer, bytes);
    }
  }
}

static void used(size_t bytes, int from_pool) {
  live += bytes;
  if (from_pool) pooled -= bytes;
  if (live > peak) peak = live;
  if (++allocations == MEMORY_EPOCH) last_peak = peak, peak = live, allocations = 0;
  trim();
}

/* Whether the buffer was returned to the system. */
static int give_back(void *buffer, size_t bytes) {
  live -= bytes;
  if (live + pooled + bytes > most()) {
    os_free(buffer, bytes);
    return 1;
  }
  pooled += bytes;
  return 0;
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
/*
 * Each buffer from malloc, with its exact size: in a pool or a mapping the sanitizer would detect neither
 * overflow nor use after free.
 */
void *gqa_alloc(size_t bytes) {
  void *buffer = 0;
  if (bytes > (size_t)-1 / 4) return 0;
  return posix_memalign(&buffer, 64, bytes ? bytes : 1) == 0 ? buffer : 0;
}
void gqa_free(void *pointer, size_t bytes) {
  (void)bytes;
  free(pointer);
}
#else
void *gqa_alloc(size_t bytes) {
  if (bytes > (size_t)-1 / 4) return 0;
  const int index = memory_class_of(bytes);
  const size_t rounded = memory_size_of(index);
  lock();
  struct free_buffer *buffer = free_lists[index];
  if (buffer) {
    free_lists[index] = buffer->next;
    used(rounded, 1);
  } else if ((buffer = os_alloc(rounded)) != 0) {
    used(rounded, 0);
  }
  unlock();
  return buffer;
}

void gqa_free(void *pointer, size_t bytes) {
  if (!pointer) return;
  const int index = memory_class_of(bytes);
  const size_t rounded = memory_size_of(index);
  lock();
  if (!give_back(pointer, rounded)) {
    struct free_buffer *buffer = pointer;
    buffer->next = free_lists[index];
    free_lists[index] = buffer;
  }
  unlock();
}
#endif
