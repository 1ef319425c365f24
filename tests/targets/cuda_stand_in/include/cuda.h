/* Lets a host compiler take the kernels that TVM wrote for CUDA: see ../device.h. */
#include "../device.h"
