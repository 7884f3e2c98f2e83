/*
 * memory_wasm.c: the buffers of the WASM build. WASM memory can grow but never shrink, so freed memory is
 * used again: large buffers come from regions that merge when their neighbours are freed; small ones, which a
 * decode step makes by the hundred, from lists of one size each, in chunks of their own.
 */
#include <stdatomic.h>

#include "gqa.h"
#include "memory.h"
#include "wasm.h"

/* A free region; the list is in the order of addresses. No region ends at heap_end. */
struct region {
  struct region *next;
  size_t bytes;
};

enum { MEMORY_PAGE = 65536, MEMORY_LARGE = 1 << 17, MEMORY_CHUNK = 1 << 20 };
/* One page below 4 GiB, so that the end of a buffer is an address too. */
#define MEMORY_MOST ((size_t)65535 * MEMORY_PAGE)

extern unsigned char __heap_base;
static struct region *regions;
static uintptr_t heap_end;
static uintptr_t chunk, chunk_end; /* what is left of the chunk that small buffers are cut from */
static struct free_buffer *free_lists[MEMORY_CLASSES];
static size_t in_use, refused;

static atomic_int locked;
static void lock(void) {
  while (atomic_exchange(&locked, 1)) {
  }
}
static void unlock(void) { atomic_store(&locked, 0); }

/* Buffers larger than MEMORY_LARGE are rounded to cache lines only. */
static size_t rounded(size_t bytes) { return bytes > MEMORY_LARGE ? (bytes + 63) & ~(size_t)63 : memory_size_of(memory_class_of(bytes)); }

/* The smallest region that is large enough, else new memory; NULL when there is none. */
static void *region_take(size_t bytes) {
  struct region **best = 0;
  for (struct region **at = &regions; *at; at = &(*at)->next)
    if ((*at)->bytes >= bytes && (!best || (*at)->bytes < (*best)->bytes)) best = at;
  if (best) {
    struct region *found = *best, *rest = (struct region *)((char *)found + bytes);
    if (found->bytes == bytes) {
      *best = found->next;
    } else {
      *rest = (struct region){found->next, found->bytes - bytes};
      *best = rest;
    }
    return found;
  }
  if (!heap_end) heap_end = ((uintptr_t)&__heap_base + 63) & ~(uintptr_t)63;
  if (bytes > MEMORY_MOST - heap_end) return 0;
  const uintptr_t start = heap_end, end = heap_end + bytes, pages = __builtin_wasm_memory_size(0);
  const uintptr_t needed = (end + MEMORY_PAGE - 1) / MEMORY_PAGE;
  if (needed > pages && __builtin_wasm_memory_grow(0, needed - pages) == (size_t)-1) return 0;
  heap_end = end;
  return (void *)start;
}

static void region_give(void *buffer, size_t bytes) {
  struct region *region = buffer, *before = 0, **at = &regions;
  for (; *at && *at < region; at = &(*at)->next) before = *at;
  *region = (struct region){*at, bytes};
  if (region->next && (char *)region + bytes == (char *)region->next) {
    region->bytes += region->next->bytes;
    region->next = region->next->next;
  }
  if (before && (char *)before + before->bytes == (char *)region) {
    before->bytes += region->bytes;
    before->next = region->next;
    region = before;
    for (at = &regions; *at != region;) at = &(*at)->next;
  } else {
    *at = region;
  }
  if ((uintptr_t)region + region->bytes == heap_end) {
    heap_end = (uintptr_t)region;
    *at = 0; /* it is the last one */
  }
}

/* From the chunk, or a new chunk; what is left of the old one goes back to the regions. */
static void *small_take(size_t bytes) {
  if (chunk_end - chunk < bytes) {
    void *next = region_take(MEMORY_CHUNK);
    if (!next) return region_take(bytes);
    if (chunk_end > chunk) region_give((void *)chunk, chunk_end - chunk);
    chunk = (uintptr_t)next;
    chunk_end = chunk + MEMORY_CHUNK;
  }
  void *buffer = (void *)chunk;
  chunk += bytes;
  return buffer;
}

void *gqa_alloc(size_t bytes) {
  void *buffer = 0;
  lock();
  if (bytes <= MEMORY_MOST) {
    const size_t size = rounded(bytes);
    if (bytes > MEMORY_LARGE) {
      buffer = region_take(size);
    } else {
      struct free_buffer **list = &free_lists[memory_class_of(bytes)];
      buffer = *list;
      if (buffer) *list = (*list)->next;
      else buffer = small_take(size);
    }
    if (buffer) in_use += size;
  }
  if (!buffer) refused = bytes;
  unlock();
  return buffer;
}

void gqa_free(void *pointer, size_t bytes) {
  if (!pointer) return;
  lock();
  in_use -= rounded(bytes);
  if (bytes > MEMORY_LARGE) {
    region_give(pointer, rounded(bytes));
  } else {
    struct free_buffer *buffer = pointer, **list = &free_lists[memory_class_of(bytes)];
    buffer->next = *list;
    *list = buffer;
  }
  unlock();
}

size_t gqa_bytes_in_use(void) { return in_use; }
size_t gqa_bytes_refused(void) { return refused; }
