/*
 * wasm.h: what the WASM build exports to its host (src/backend/wasm.ts) beyond gqa.h. Each thread has its own
 * instance of the module; memory, and with it every variable, is shared.
 */
#ifndef GQA_WASM_H
#define GQA_WASM_H
#include <stddef.h>

/* GQA_ABI_TEXT, for hosts whose module is of another version. */
const char *gqa_abi(void);

/* Runs an operation. True when a job had fewer workers than there are threads wanted: the host starts them. */
int gqa_call(int op, const double *arguments);

/* The loop of thread `worker`, 1 or more. Never returns; after a trap it is called again. */
void gqa_worker(int worker);
/* Ends the job of a call that has trapped: returns when no worker runs a task of it. */
void gqa_abandon(void);
int gqa_is_short_of_workers(void);

/* Bytes of all live buffers, and of the last buffer that there was no memory for. */
size_t gqa_bytes_in_use(void);
size_t gqa_bytes_refused(void);

#endif
