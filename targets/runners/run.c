/* Runs a compiled model that is linked in; needs nothing but the C library.
 *
 *   run IN0.npy IN1.npy ... [-o PREFIX] [-n TIMES]
 *
 * Inputs are in the order of artefact.json. Says what comes out; -o writes output i to
 * PREFIXi.npy, -n runs it that often and prints the mean time.
 *
 * Build:
 *   arm-linux-gnueabihf-gcc -O2 run.c -o run -L. -lmodel -lm
 */
#define _POSIX_C_SOURCE 200809L

#include <time.h>

#include "npy.h"
#include "tiny.h"

static int Fail(const char* what, const char* which) {
  fprintf(stderr, "error: %s%s\n", what, which);
  return 1;
}

static int ReadInput(int index, const char* path) {
  NpyArray array;
  if (npy_read(path, &array) != 0) return Fail("not an .npy file of numbers in C order: ", path);
  const ModelTensor* wanted = &model_inputs[index];
  int fits = array.kind == wanted->kind && array.itemsize == wanted->itemsize &&
             array.ndim == wanted->ndim;
  for (int i = 0; fits && i < array.ndim; ++i) fits = array.shape[i] == wanted->shape[i];
  if (fits) memcpy(model_input(index), array.data, array.bytes);
  free(array.data);
  return fits ? 0 : Fail("shape or type is not that of input ", wanted->name);
}

static int WriteOutput(int index, const char* prefix) {
  const ModelTensor* tensor = &model_outputs[index];
  char path[4096];
  NpyArray array = {tensor->kind, tensor->itemsize, tensor->ndim, {0}, tensor->bytes, NULL};
  array.data = (void*)model_output(index);
  memcpy(array.shape, tensor->shape, (size_t)tensor->ndim * sizeof(int64_t));
  snprintf(path, sizeof path, "%s%d.npy", prefix, index);
  return npy_write(path, &array) == 0 ? 0 : Fail("cannot write ", path);
}

static void Describe(int index) {
  const ModelTensor* tensor = &model_outputs[index];
  printf("output %d, %s: [", index, tensor->name);
  for (int i = 0; i < tensor->ndim; ++i) printf("%s%" PRId64, i ? ", " : "", tensor->shape[i]);
  printf("]");
  if (tensor->kind == 'f' && tensor->itemsize == 4) {
    const float* values = model_output(index);
    for (size_t i = 0; i < tensor->bytes / 4 && i < 10; ++i) printf(" %.6g", (double)values[i]);
  }
  printf("\n");
}

int main(int argc, char** argv) {
  const char* prefix = NULL;
  int times = 0, inputs = 0;
  for (int i = 1; i < argc; ++i) {
    int flag = strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "-n") == 0;
    if (flag && i + 1 == argc) return Fail("needs a value: ", argv[i]);
    if (strcmp(argv[i], "-o") == 0) prefix = argv[++i];
    else if (strcmp(argv[i], "-n") == 0) times = atoi(argv[++i]);
    else if (inputs == model_input_count) return Fail("the model has fewer inputs: ", argv[i]);
    else if (ReadInput(inputs++, argv[i]) != 0) return 1;
  }
  if (inputs < model_input_count) return Fail("no file for input ", model_inputs[inputs].name);
  if (model_run() != 0) return Fail("", model_error());
  for (int i = 0; i < model_output_count; ++i) {
    Describe(i);
    if (prefix && WriteOutput(i, prefix) != 0) return 1;
  }
  if (times > 0) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < times; ++i)
      if (model_run() != 0) return Fail("", model_error());
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - start.tv_sec);
    seconds += 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    printf("mean of %d runs: %.4f ms\n", times, 1e3 * seconds / times);
  }
  return 0;
}
