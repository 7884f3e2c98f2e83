/* threads_single.c: the thread pool of builds with one thread (WASM). */
#include "gqa.h"

int gqa_threads(void) { return 1; }
void gqa_set_threads(int threads) { (void)threads; }
void gqa_parallel(int tasks, gqa_task task, void *context) {
  for (int i = 0; i < tasks; i++) task(context, i, 0);
}
