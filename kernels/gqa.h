/*
 * gqa.h: the interface of the kernel library for its two hosts (Node-API in napi.c, WASM in wasm.c), and
 * declarations shared by kernels.
 *
 * A call is an operation number and a block of doubles; addresses are doubles too (exact below 2^53; 0 is
 * NULL). One ABI for both hosts keeps calls cheap, and lets a host record and replay them. The caller has
 * checked the arguments; kernels do not check them again.
 *
 * Each kernel file defines `static void op_<name>(const double *a)` for its operations and documents their
 * arguments. isa_<name>.c compiles all kernel files once for one instruction set into a table in GQA_OPS
 * order; dispatch.c picks a table.
 *
 * Names: snake_case for functions, types, fields and locals; sizes may be the letters of the shape alphabet
 * (ARCHITECTURE.md: B, T, S, N, K, G, H, Hv; M, N, K of products). All kernels are one compilation unit, so
 * names begin with the word of their file (gemm_tile), constants and macros with the same word in capitals
 * (GEMM_MR), and with gqa_ or GQA_ where several files share them. VL alone, which each unit is compiled
 * with, has no prefix. The head of a file documents calls under the names that TypeScript gives their fields
 * (weightOffset).
 */
#ifndef GQA_H
#define GQA_H
#include <stddef.h>
#include <stdint.h>

/*
 * The operations, in call-number order. src/backend/calls/index.ts holds the same list (a test compares
 * them).
 */
#define GQA_OPS(X) \
  X(fill)          \
  X(convert)       \
  X(copy_strided)  \
  X(unary)         \
  X(binary)        \
  X(reduce)        \
  X(softmax)       \
  X(matmul)        \
  X(linear)        \
  X(embedding)     \
  X(rms_norm)      \
  X(layer_norm)    \
  X(rope)          \
  X(gated)         \
  X(attention)     \
  X(random)        \
  X(unary_backward)         \
  X(gated_backward)         \
  X(norm_backward)          \
  X(embedding_backward)     \
  X(cross_entropy)          \
  X(cross_entropy_backward) \
  X(sum_of_squares)         \
  X(adamw)                  \
  X(attention_backward)     \
  X(choose_experts)         \
  X(expert_linear)          \
  X(expert_linear_backward) \
  X(linear_backward)         \
  X(select)

/*
 * Raise it together with KERNEL_ABI of calls/index.ts when the arguments of an operation change: older addons
 * are then refused.
 */
#define GQA_ABI 8
/* GQA_ABI and the operations, in order, which hosts compare with their own. */
#define GQA_ABI_TEXT GQA_EXPANDED(GQA_ABI) GQA_OPS(GQA_SPACE_NAME)
#define GQA_EXPANDED(x) GQA_TEXT(x)
#define GQA_TEXT(x) #x
#define GQA_SPACE_NAME(op) " " #op

/* Element types, by number; DTYPE_CODES of src/backend/calls/call.ts. */
enum { GQA_F32, GQA_F16, GQA_BF16, GQA_I32, GQA_U32, GQA_U8, GQA_BOOL, GQA_Q8_0, GQA_Q4_0, GQA_Q4_1, GQA_Q5_0, GQA_Q5_1, GQA_Q4_K, GQA_Q5_K, GQA_Q6_K, GQA_Q2_K, GQA_Q3_K, GQA_IQ4_XS, GQA_IQ4_NL, GQA_MXFP4 };

/* How products are computed, by number; MATMUL_PRECISIONS of src/backend/calls/call.ts. */
enum { GQA_HIGHEST, GQA_BFLOAT16, GQA_INT8 };

typedef void (*gqa_op)(const double *arguments);

static inline void *gqa_pointer(double address) { return (void *)(uintptr_t)address; }

/* --- memory.c, memory_wasm.c: 64-byte aligned buffers from a pool of size classes; NULL when out of memory. --- */
void *gqa_alloc(size_t bytes);
void gqa_free(void *buffer, size_t bytes);

/* --- threads.c, threads_wasm.c; scratch.c --- */
typedef void (*gqa_task)(void *context, int task, int worker);
/*
 * Runs task(context, i, worker) for i in 0 … tasks-1, each once, in any order; returns when all are done.
 * worker < gqa_threads().
 */
void gqa_parallel(int tasks, gqa_task task, void *context);
int gqa_threads(void);
void gqa_set_threads(int threads);
/*
 * Scratch memory of at least `bytes`, 64-byte aligned, contents undefined, valid until the next call with the
 * same slot. Slot = worker for a task's own scratch; GQA_SHARED (called outside tasks) for memory that all
 * workers of a call share. Never returns NULL: out of memory it aborts the process (native; hosts check sizes
 * first), or the call (WASM, as a trap).
 */
enum { GQA_MAX_THREADS = 64, GQA_SHARED = GQA_MAX_THREADS, GQA_SHARED2 };
void *gqa_scratch(int slot, size_t bytes);

#endif
