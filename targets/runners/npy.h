/* Reading and writing NumPy's .npy files, for C and C++; needs nothing but the C library.
 *
 * The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 * Little-endian arrays in C order of up to 8 axes are read, versions 1 and 2.
 */
#ifndef NPY_H_
#define NPY_H_

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NPY_MAX_AXES 8
#define NPY_MAX_HEADER 4096

typedef struct {
  char kind;     /* f: float, i: signed, u: unsigned, b: bool */
  int itemsize;  /* bytes of an element */
  int ndim;
  int64_t shape[NPY_MAX_AXES];
  size_t bytes;
  void* data;    /* aligned to 64 bytes; release it with free */
} NpyArray;

/* What an .npy header says of an array; 0, or -1 if it is of another form. */
static int npy_parse_header(const char* header, NpyArray* array) {
  const char* descr = strstr(header, "'descr'");
  const char* shape = strstr(header, "'shape'");
  if (!descr || !shape || !strstr(header, "'fortran_order': False")) return -1;
  descr = strchr(descr + 7, '\'');
  shape = strchr(shape, '(');
  if (!descr || !shape || (descr[1] != '<' && descr[1] != '|')) return -1;
  array->kind = descr[2];
  array->itemsize = (int)strtol(descr + 3, NULL, 10);
  if (!strchr("fiub", array->kind) || array->itemsize < 1 || array->itemsize > 8) return -1;
  array->ndim = 0;
  array->bytes = (size_t)array->itemsize;
  for (const char* at = shape + 1; *at && *at != ')';) {
    char* end;
    int64_t size = strtoll(at, &end, 10);
    if (end == at || size < 0 || array->ndim == NPY_MAX_AXES) return -1;
    if (size && array->bytes > SIZE_MAX / 2 / (size_t)size) return -1;
    array->shape[array->ndim++] = size;
    array->bytes *= (size_t)size;
    at = end + strspn(end, ", ");
  }
  return 0;
}

/* Reads a file into `array`; 0, or -1 if it is none of these files. */
static int npy_read(const char* path, NpyArray* array) {
  unsigned char start[12];
  char header[NPY_MAX_HEADER + 1];
  int result = -1;
  size_t length = 0;
  FILE* file = fopen(path, "rb");
  array->data = NULL;
  if (!file) return -1;
  if (fread(start, 1, 10, file) != 10 || memcmp(start, "\x93NUMPY", 6) != 0) goto done;
  length = start[8] | (size_t)start[9] << 8;
  if (start[6] == 2) {
    if (fread(start + 10, 1, 2, file) != 2) goto done;
    length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
  }
  if (start[6] > 2 || length > NPY_MAX_HEADER) goto done;
  if (fread(header, 1, length, file) != length) goto done;
  header[length] = '\0';
  if (npy_parse_header(header, array) != 0) goto done;
  if (posix_memalign(&array->data, 64, array->bytes + 64) != 0) goto done;
  if (fread(array->data, 1, array->bytes, file) == array->bytes) result = 0;
done:
  fclose(file);
  return result;
}

/* Writes an array; 0, or -1 if the file cannot be written. */
static int npy_write(const char* path, const NpyArray* array) {
  char header[NPY_MAX_HEADER];
  const char order = array->itemsize == 1 ? '|' : '<';
  int used = snprintf(header, sizeof header,
                      "{'descr': '%c%c%d', 'fortran_order': False, 'shape': (", order, array->kind,
                      array->itemsize);
  for (int i = 0; i < array->ndim; ++i)
    used += snprintf(header + used, sizeof header - (size_t)used, "%" PRId64 ",", array->shape[i]);
  used += snprintf(header + used, sizeof header - (size_t)used, "), }");
  /* The data begins at a multiple of 64 bytes, and the header ends with a newline. */
  while ((used + 11) % 64) header[used++] = ' ';
  header[used++] = '\n';
  unsigned char start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
  start[8] = (unsigned char)(used & 255);
  start[9] = (unsigned char)(used >> 8);
  FILE* file = fopen(path, "wb");
  if (!file) return -1;
  int whole = fwrite(start, 1, 10, file) == 10 &&
              fwrite(header, 1, (size_t)used, file) == (size_t)used &&
              fwrite(array->data, 1, array->bytes, file) == array->bytes;
  return fclose(file) == 0 && whole ? 0 : -1;
}

#endif /* NPY_H_ */
