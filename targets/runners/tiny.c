/* Runs a plan, and stands in for the few functions of TVM's runtime that kernels call. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { MAX_ARGUMENTS = 64, VALUE_NONE = 0, VALUE_TENSOR = 7 };

static char error[256];

void* model_input(int index) { return plan_tensors[plan_inputs[index]].data; }

const void* model_output(int index) { return plan_tensors[plan_outputs[index]].data; }

const char* model_error(void) { return error; }

int model_run(void) {
  error[0] = '\0';
  for (int i = 0; i < plan_step_count; ++i) {
    const Step* step = &plan_steps[i];
    Value arguments[MAX_ARGUMENTS], result = {VALUE_NONE, 0, {0}};
    for (int32_t k = 0; k < step->count; ++k) {
      arguments[k].type = VALUE_TENSOR;
      arguments[k].padding = 0;
      arguments[k].as.integer = 0;  /* a pointer may be narrower than the field */
      arguments[k].as.pointer = &plan_tensors[plan_arguments[step->first + k]];
    }
    if (step->kernel(NULL, arguments, step->count, &result) != 0) {
      if (!error[0]) snprintf(error, sizeof error, "kernel %s failed", step->name);
      return -1;
    }
  }
  return 0;
}

/* What kernels call when their arguments are not what they were compiled for. */
void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  size_t used = (size_t)snprintf(error, sizeof error, "%s: ", kind);
  for (int32_t i = 0; i < count && used < sizeof error; ++i)
    if (parts[i]) used += (size_t)snprintf(error + used, sizeof error - used, "%s", parts[i]);
}

void TVMFFIErrorSetRaisedFromCStr(const char* kind, const char* message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}

/* Memory for a kernel's large intermediate results; kernels call through these pointers. */
static void* AllocWorkspace(int type, int id, uint64_t size, int code, int bits) {
  (void)type, (void)id, (void)code, (void)bits;
  void* memory = NULL;
  return posix_memalign(&memory, 64, (size_t)size) == 0 ? memory : NULL;
}

static int FreeWorkspace(int type, int id, void* memory) {
  (void)type, (void)id;
  free(memory);
  return 0;
}

void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = AllocWorkspace;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = FreeWorkspace;
