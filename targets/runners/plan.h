/* The plan of a compiled model: tables that are generated, and run by tiny.c.
 *
 * Kernels are called as TVM calls them: DLTensor is that of DLPack
 * (https://dmlc.github.io/dlpack/latest/c_api.html), Value is TVM's tagged value.
 */
#ifndef CRESPR_PLAN_H_
#define CRESPR_PLAN_H_

#include "tiny.h"

typedef struct {
  void* data;
  struct { int32_t type, id; } device;
  int32_t ndim;
  struct { uint8_t code, bits; uint16_t lanes; } dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
} DLTensor;

typedef struct {
  int32_t type;
  uint32_t padding;
  union { int64_t integer; double real; void* pointer; } as;
} Value;

typedef int Kernel(void* self, const Value* arguments, int32_t count, Value* result);

typedef struct {
  Kernel* kernel;
  const char* name;
  int32_t first;  /* its arguments in plan_arguments */
  int32_t count;
} Step;

extern DLTensor plan_tensors[];
extern const int16_t plan_arguments[];
extern const Step plan_steps[];
extern const int plan_step_count;
extern const int16_t plan_inputs[], plan_outputs[];

#endif /* CRESPR_PLAN_H_ */
