/* os_posix.c: os.h for Linux and macOS. */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Buffers from OS_MAPPED bytes on are mapped one by one: malloc would keep most of them in its heap when they
 * are freed. Large ones ask for huge pages: long strided reads (a cache, a weight) then miss the TLB less (6
 * to 12 % on decode).
 */
#define OS_MAPPED ((size_t)1 << 20)
#define OS_HUGE_PAGE ((size_t)2 << 20)

static int takes_huge_pages(size_t bytes) { return bytes >= 2 * OS_HUGE_PAGE; }

/* Bytes of address space. The part of a huge page that lies behind the buffer is never written. */
static size_t mapped_bytes(size_t bytes) {
  return takes_huge_pages(bytes) ? (bytes + OS_HUGE_PAGE - 1) / OS_HUGE_PAGE * OS_HUGE_PAGE : bytes;
}

static void *map_memory(size_t bytes) {
  void *address = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  return address == MAP_FAILED ? 0 : address;
}

/* Maps a huge page more than asked for, and returns what lies before and behind the aligned buffer. */
static void *map_huge_pages(size_t bytes) {
  const size_t whole = mapped_bytes(bytes);
  char *first = map_memory(whole + OS_HUGE_PAGE);
  if (!first) return 0;
  const size_t before = (OS_HUGE_PAGE - (uintptr_t)first % OS_HUGE_PAGE) % OS_HUGE_PAGE;
  char *buffer = first + before;
  if (before > 0) munmap(first, before);
  munmap(buffer + whole, OS_HUGE_PAGE - before);
#if defined(MADV_HUGEPAGE)
  madvise(buffer, bytes / OS_HUGE_PAGE * OS_HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return buffer;
}

void *os_alloc(size_t bytes) {
  if (takes_huge_pages(bytes)) return map_huge_pages(bytes);
  if (bytes >= OS_MAPPED) return map_memory(bytes);
  void *buffer = 0;
  return posix_memalign(&buffer, 64, bytes) == 0 ? buffer : 0;
}

void os_free(void *buffer, size_t bytes) {
  if (bytes >= OS_MAPPED) munmap(buffer, mapped_bytes(bytes));
  else free(buffer);
}

int os_processors(void) {
  const long processors = sysconf(_SC_NPROCESSORS_ONLN);
  return processors < 1 ? 1 : (int)processors;
}

#if defined(__linux__)
/*
 * A mapped file that is truncated ends the process: print the reason, then let the access fault again with
 * the default action.
 */
static void on_bus_error(int number) {
  static const char line[] = "gqa: a file in use was cut short (replace a checkpoint by renaming, not by writing into it)\n";
  if (write(STDERR_FILENO, line, sizeof line - 1) < 0) return;
  (void)number; /* SA_RESETHAND has restored the default */
}

static void explain_bus_errors(void) {
  struct sigaction now, ours = {.sa_handler = on_bus_error, .sa_flags = (int)SA_RESETHAND};
  if (sigaction(SIGBUS, 0, &now) == 0 && now.sa_handler == SIG_DFL) sigaction(SIGBUS, &ours, 0);
}
#else
static void explain_bus_errors(void) {} /* V8 has a handler of its own on macOS */
#endif

static int failed(char reason[OS_REASON], int error) {
  snprintf(reason, OS_REASON, "%s", strerror(error));
  return 0;
}

int os_map_file(const char *path, struct os_file *file, char reason[OS_REASON]) {
  struct stat status;
  const int opened = open(path, O_RDONLY | O_CLOEXEC);
  if (opened < 0) return failed(reason, errno);
  void *address = MAP_FAILED;
  const int known = fstat(opened, &status) == 0;
  if (known && status.st_size == 0) address = 0;
  else if (known) address = mmap(0, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, opened, 0);
  const int error = errno;
  close(opened);
  if (address == MAP_FAILED) return failed(reason, error);
  explain_bus_errors();
  *file = (struct os_file){address, (size_t)status.st_size};
  return 1;
}

void os_unmap_file(struct os_file file) {
  if (file.address) munmap(file.address, file.bytes);
}
