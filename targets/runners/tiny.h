/* A compiled model in plain C: no allocation of its own, no other library than the C library.
 *
 *   float* input = model_input(0);     // fill it: model_inputs[0] says shape and type
 *   if (model_run() != 0) puts(model_error());
 *   const float* output = model_output(0);
 *
 * All memory is static, so one model runs once at a time, and a program holds one model.
 */
#ifndef CRESPR_TINY_H_
#define CRESPR_TINY_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char* name;      /* of the ONNX model's input or output */
  char kind;             /* f: float, i: signed, u: unsigned, b: bool */
  int itemsize;          /* bytes of an element */
  int ndim;
  const int64_t* shape;
  size_t bytes;
} ModelTensor;

extern const int model_input_count, model_output_count;
extern const ModelTensor model_inputs[], model_outputs[];

/* Where input `index` is to be written; aligned to 64 bytes, it stays as it is between runs. */
void* model_input(int index);

/* Computes the outputs from the inputs; 0, or -1 with the reason in model_error(). */
int model_run(void);

/* Output `index` of the last run; overwritten by the next. */
const void* model_output(int index);

/* Why the last run failed, or "". */
const char* model_error(void);

#ifdef __cplusplus
}
#endif

#endif /* CRESPR_TINY_H_ */
