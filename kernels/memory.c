/*
 * memory.c: the buffer pool, for both hosts. Sizes are rounded up to classes (eight per power of two, at most 12.5 % waste), and
 * a freed buffer waits in its class for the next one of that size: tensors of a decode step live in the same memory each time.
 * Native keeps at most 256 MiB of freed buffers and gives the rest back; WASM memory can only grow, so it keeps all.
 */
#include "gqa.h"

#define CLASSES (64 * 8)

struct free_buffer {
  struct free_buffer *next;
};
static struct free_buffer *free_lists[CLASSES];

/* The class of a size and that class's size: 64 bytes, then 8 steps per octave. */
static int class_of(size_t bytes, size_t *rounded) {
  if (bytes <= 512) {
    int index = bytes ? (int)((bytes + 63) / 64) : 1;
    *rounded = (size_t)index * 64;
    return index;
  }
  int octave = 63 - __builtin_clzll((unsigned long long)(bytes - 1));
  size_t step = (size_t)1 << (octave - 3);
  size_t steps = (bytes - ((size_t)1 << octave) + step - 1) / step;
  *rounded = ((size_t)1 << octave) + steps * step;
  return octave * 8 + (int)steps;
}

#if defined(__wasm__)
extern unsigned char __heap_base;
static uintptr_t heap_end;

static void lock(void) {}
static void unlock(void) {}
static void *system_alloc(size_t bytes) {
  const uintptr_t page = 65536;
  if (!heap_end) heap_end = ((uintptr_t)&__heap_base + 63) & ~(uintptr_t)63;
  unsigned long long end = (unsigned long long)heap_end + bytes;
  unsigned long long have = (unsigned long long)__builtin_wasm_memory_size(0) * page;
  if (end > have) {
    unsigned long long more = (end - have + page - 1) / page;
    if (have / page + more > 65536 || __builtin_wasm_memory_grow(0, (unsigned long)more) == (unsigned long)-1) return 0;
  }
  void *buffer = (void *)heap_end;
  heap_end += bytes;
  return buffer;
}
static int give_back(void *buffer, size_t bytes) {
  (void)buffer, (void)bytes;
  return 0;
}
static void taken_from_pool(size_t bytes) { (void)bytes; }
#else
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static size_t pooled;

static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }
/* Large buffers ask for huge pages: long strided reads (a cache, a weight) then miss the TLB less (6 to 12 % on decode). */
#define HUGE_PAGE ((size_t)2 << 20)
static void *system_alloc(size_t bytes) {
  void *buffer = 0;
  if (posix_memalign(&buffer, bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64, bytes) != 0) return 0;
#if defined(MADV_HUGEPAGE)
  if (bytes >= 2 * HUGE_PAGE) madvise(buffer, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return buffer;
}
static int give_back(void *buffer, size_t bytes) {
  if (pooled + bytes > ((size_t)256 << 20)) {
    free(buffer);
    return 1;
  }
  pooled += bytes;
  return 0;
}
static void taken_from_pool(size_t bytes) { pooled -= bytes; }
#endif

void *gqa_alloc(size_t bytes) {
  size_t rounded;
  if (bytes > (size_t)-1 / 4) return 0;
  int index = class_of(bytes, &rounded);
  lock();
  struct free_buffer *buffer = free_lists[index];
  if (buffer) {
    free_lists[index] = buffer->next;
    taken_from_pool(rounded);
  } else {
    buffer = system_alloc(rounded);
  }
  unlock();
  return buffer;
}

void gqa_free(void *pointer, size_t bytes) {
  size_t rounded;
  int index = class_of(bytes, &rounded);
  if (!pointer) return;
  lock();
  if (!give_back(pointer, rounded)) {
    struct free_buffer *buffer = pointer;
    buffer->next = free_lists[index];
    free_lists[index] = buffer;
  }
  unlock();
}

static void *scratch[GQA_SHARED2 + 1];
static size_t scratch_bytes[GQA_SHARED2 + 1];

void *gqa_scratch(int slot, size_t bytes) {
  if (bytes > scratch_bytes[slot]) {
    gqa_free(scratch[slot], scratch_bytes[slot]);
    scratch_bytes[slot] = bytes + bytes / 4;
    scratch[slot] = gqa_alloc(scratch_bytes[slot]);
    if (!scratch[slot]) __builtin_trap();
  }
  return scratch[slot];
}
