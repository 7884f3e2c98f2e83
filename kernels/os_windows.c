/* os_windows.c: os.h for Windows. A file that is mapped there cannot be truncated. */
#include "os.h"

#include <malloc.h>
#include <stdio.h>
#include <windows.h>

void *os_alloc(size_t bytes) { return _aligned_malloc(bytes, 64); }
void os_free(void *buffer, size_t bytes) {
  (void)bytes;
  _aligned_free(buffer);
}

int os_processors(void) {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwNumberOfProcessors < 1 ? 1 : (int)info.dwNumberOfProcessors;
}

static int failed(char reason[OS_REASON], DWORD error) {
  const char *text = error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND ? "No such file or directory"
                     : error == ERROR_ACCESS_DENIED                                 ? "Permission denied"
                     : error == ERROR_NOT_ENOUGH_MEMORY                             ? "Cannot allocate memory"
                                                                                    : 0;
  if (text) snprintf(reason, OS_REASON, "%s", text);
  else snprintf(reason, OS_REASON, "Windows error %lu", (unsigned long)error);
  return 0;
}

int os_map_file(const char *path, struct os_file *file, char reason[OS_REASON]) {
  enum { LONGEST = 32768 }; /* of a path, in UTF-16 units */
  wchar_t *wide = malloc(LONGEST * sizeof *wide);
  if (!wide) return failed(reason, ERROR_NOT_ENOUGH_MEMORY);
  HANDLE opened = INVALID_HANDLE_VALUE;
  if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, LONGEST) > 0) {
    /* While it is mapped, others may rename and delete it, as on POSIX systems. */
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    opened = CreateFileW(wide, GENERIC_READ, share, 0, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, 0);
  }
  DWORD error = GetLastError();
  free(wide);
  if (opened == INVALID_HANDLE_VALUE) return failed(reason, error);
  LARGE_INTEGER bytes;
  HANDLE mapping = 0;
  void *address = 0;
  int good = GetFileSizeEx(opened, &bytes) != 0;
  if (good && bytes.QuadPart > 0) {
    mapping = CreateFileMappingW(opened, 0, PAGE_READONLY, 0, 0, 0);
    if (mapping) address = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    good = address != 0;
  }
  error = GetLastError();
  /* The view keeps both open. */
  if (mapping) CloseHandle(mapping);
  CloseHandle(opened);
  if (!good) return failed(reason, error);
  *file = (struct os_file){address, (size_t)bytes.QuadPart};
  return 1;
}

void os_unmap_file(struct os_file file) {
  if (file.address) UnmapViewOfFile(file.address);
}
