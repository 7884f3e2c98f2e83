/*
 * os.h: what the native build needs of the operating system beyond C and POSIX threads. os_posix.c (Linux,
 * macOS) and os_windows.c implement it; the build compiles one of them.
 */
#ifndef GQA_OS_H
#define GQA_OS_H
#include <stddef.h>

/* Memory from the system, 64-byte aligned; NULL when there is none. Freed by os_free only, with its size. */
void *os_alloc(size_t bytes);
void os_free(void *buffer, size_t bytes);

/* Processors of this machine, at least 1. */
int os_processors(void);

/* A file in memory, read only. An empty file has address NULL. */
struct os_file {
  void *address;
  size_t bytes;
};
enum { OS_REASON = 128 };
/* Maps the file at `path` (UTF-8). False when that fails, with the reason as text. */
int os_map_file(const char *path, struct os_file *file, char reason[OS_REASON]);
void os_unmap_file(struct os_file file);

#endif
