/* memory.h: size classes of the pools of buffers (memory.c, memory_wasm.c), eight per power of two. */
#ifndef GQA_MEMORY_H
#define GQA_MEMORY_H
#include <stddef.h>

#define MEMORY_CLASSES (64 * 8)

struct free_buffer {
  struct free_buffer *next;
};

/* The class of a size: steps of 64 bytes up to 512, then 8 per octave. */
static inline int memory_class_of(size_t bytes) {
  if (bytes <= 512) return bytes ? (int)((bytes + 63) / 64) : 1;
  const int octave = 63 - __builtin_clzll((unsigned long long)(bytes - 1));
  const size_t step = (size_t)1 << (octave - 3);
  return octave * 8 + (int)((bytes - ((size_t)1 << octave) + step - 1) / step);
}
static inline size_t memory_size_of(int index) {
  return index <= 8 ? (size_t)index * 64 : ((size_t)1 << index / 8) + ((size_t)(index % 8) << (index / 8 - 3));
}

#endif
