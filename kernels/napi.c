/*
 * napi.c: the Node-API host. Each function reads its arguments without checking them beyond what memory
 * safety of the call itself needs: its only caller is src/backend/native.ts. Kernels of several Node workers
 * run one at a time.
 */
#include <node_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"
#include "os.h"
#include "owned.h"

/* One per Node environment (main thread or worker). */
struct instance {
  struct owned owned;
  const gqa_isa *isa;
  const double *block;
  napi_ref block_reference;
};

#define GQA_ONE(op) +1
enum { GQA_OP_COUNT = GQA_OPS(GQA_ONE) };

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

static void get_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values, struct instance **instance) {
  napi_get_cb_info(env, info, &count, values, 0, 0);
  if (instance) napi_get_instance_data(env, (void **)instance);
}

static double number(napi_env env, napi_value value) {
  double result = 0;
  napi_get_value_double(env, value, &result);
  return result;
}

static napi_value to_number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

static napi_value init(napi_env env, napi_callback_info info) {
  napi_value value, result;
  struct instance *instance;
  char wanted[32] = "";
  char names[160], message[256];
  size_t length;
  get_arguments(env, info, 1, &value, &instance);
  napi_get_value_string_utf8(env, value, wanted, sizeof wanted, &length);
  instance->isa = gqa_dispatch(wanted, names, sizeof names);
  if (!instance->isa) {
    snprintf(message, sizeof message, "GQA_ISA: expected one of %s (what this processor has), got %s", names, wanted);
    napi_throw_range_error(env, 0, message);
    return 0;
  }
  napi_create_string_utf8(env, instance->isa->name, NAPI_AUTO_LENGTH, &result);
  return result;
}

static napi_value alloc(napi_env env, napi_callback_info info) {
  napi_value value;
  struct instance *instance;
  get_arguments(env, info, 1, &value, &instance);
  const size_t bytes = (size_t)number(env, value);
  void *buffer = gqa_alloc(bytes);
  if (buffer && !owned_add(&instance->owned, (struct piece){(uintptr_t)buffer, bytes, 0})) {
    gqa_free(buffer, bytes);
    buffer = 0;
  }
  return to_number(env, (double)(uintptr_t)buffer);
}

static void free_piece(struct piece piece) {
  if (piece.mapped) os_unmap_file((struct os_file){(void *)piece.address, piece.bytes});
  else gqa_free((void *)piece.address, piece.bytes);
}

static napi_value release(napi_env env, napi_callback_info info) {
  napi_value value;
  struct instance *instance;
  get_arguments(env, info, 1, &value, &instance);
  const struct piece piece = owned_take(&instance->owned, (uintptr_t)number(env, value));
  if (piece.address) free_piece(piece);
  else napi_throw_error(env, 0, "native: expected memory that is held, got an address that is not");
  return 0;
}

/* Reports to V8 memory that its garbage collector must free; negative when it no longer must. */
static napi_value report_external_memory(napi_env env, napi_callback_info info) {
  napi_value value;
  int64_t ignored;
  get_arguments(env, info, 1, &value, 0);
  napi_adjust_external_memory(env, (int64_t)number(env, value), &ignored);
  return 0;
}

static napi_value read_bytes(napi_env env, napi_callback_info info) {
  napi_value values[2], result;
  void *data = 0;
  get_arguments(env, info, 2, values, 0);
  size_t bytes = (size_t)number(env, values[1]);
  if (napi_create_arraybuffer(env, bytes, &data, &result) != napi_ok) {
    napi_throw_range_error(env, 0, "native: out of memory reading a tensor");
    return 0;
  }
  if (bytes) memcpy(data, gqa_pointer(number(env, values[0])), bytes);
  return result;
}

static napi_value write_bytes(napi_env env, napi_callback_info info) {
  napi_value values[2];
  void *data = 0;
  size_t bytes = 0;
  get_arguments(env, info, 2, values, 0);
  napi_get_typedarray_info(env, values[1], 0, &bytes, &data, 0, 0);
  if (bytes) memcpy(gqa_pointer(number(env, values[0])), data, bytes);
  return 0;
}

/* Keeps a reference to the call block, so that its memory is not moved or freed. */
static napi_value set_block(napi_env env, napi_callback_info info) {
  napi_value value;
  struct instance *instance;
  void *data = 0;
  get_arguments(env, info, 1, &value, &instance);
  if (instance->block_reference) napi_delete_reference(env, instance->block_reference);
  napi_create_reference(env, value, 1, &instance->block_reference);
  napi_get_typedarray_info(env, value, 0, 0, &data, 0, 0);
  instance->block = data;
  return 0;
}

static napi_value run(napi_env env, napi_callback_info info) {
  napi_value value;
  struct instance *instance;
  int32_t op = 0;
  get_arguments(env, info, 1, &value, &instance);
  napi_get_value_int32(env, value, &op);
  if (op < 0 || op >= GQA_OP_COUNT) return 0;
  pthread_mutex_lock(&running);
  gqa_units = instance->isa->units;
  instance->isa->table[op](instance->block);
  pthread_mutex_unlock(&running);
  return 0;
}

static napi_value map_file(napi_env env, napi_callback_info info) {
  napi_value value, result;
  char path[4096], reason[OS_REASON];
  size_t length;
  struct os_file file;
  struct instance *instance;
  get_arguments(env, info, 1, &value, &instance);
  napi_get_value_string_utf8(env, value, path, sizeof path, &length);
  int mapped = os_map_file(path, &file, reason);
  if (mapped && file.address && !owned_add(&instance->owned, (struct piece){(uintptr_t)file.address, file.bytes, 1})) {
    os_unmap_file(file);
    snprintf(reason, sizeof reason, "out of memory");
    mapped = 0;
  }
  if (!mapped) {
    char message[sizeof path + sizeof reason + 2];
    snprintf(message, sizeof message, "%s: %s", path, reason);
    napi_throw_error(env, 0, message);
    return 0;
  }
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "address", to_number(env, (double)(uintptr_t)file.address));
  napi_set_named_property(env, result, "byteLength", to_number(env, (double)file.bytes));
  return result;
}

static napi_value set_threads(napi_env env, napi_callback_info info) {
  napi_value value;
  get_arguments(env, info, 1, &value, 0);
  gqa_set_threads((int)number(env, value));
  return 0;
}

static napi_value threads(napi_env env, napi_callback_info info) {
  (void)info;
  return to_number(env, gqa_threads());
}

/* At the end of the environment: frees a worker's tensors, which its garbage collector will not free. */
static void finalize(napi_env env, void *data, void *hint) {
  struct instance *instance = data;
  (void)env, (void)hint;
  for (size_t i = 0; i < instance->owned.places; i++)
    if (instance->owned.pieces[i].address) free_piece(instance->owned.pieces[i]);
  free(instance->owned.pieces);
  free(instance);
}

/* SHA-256 of the sources, from the build. */
static const char kernels[] = GQA_EXPANDED(GQA_KERNELS_SHA256);
static const char abi[] = GQA_ABI_TEXT;

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {{"init", init},          {"alloc", alloc},        {"free", release},         {"reportExternalMemory", report_external_memory},
                   {"read", read_bytes},
                   {"write", write_bytes},  {"setBlock", set_block}, {"run", run},              {"mapFile", map_file},
                   {"setThreads", set_threads}, {"threads", threads}};
  struct instance *instance = calloc(1, sizeof *instance);
  if (!instance) return 0;
  napi_set_instance_data(env, instance, finalize, 0);
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value function;
    napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, 0, &function);
    napi_set_named_property(env, exports, functions[i].name, function);
  }
  napi_value text;
  napi_create_string_utf8(env, abi, sizeof abi - 1, &text);
  napi_set_named_property(env, exports, "abi", text);
  napi_create_string_utf8(env, kernels, sizeof kernels - 1, &text);
  napi_set_named_property(env, exports, "kernels", text);
  return exports;
}
