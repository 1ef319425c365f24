/* What a CUDA kernel sees, for a host compiler: it runs in a fibre per thread of its block.
 *
 * The fibres of a block take turns: each runs until it waits for the others of its block
 * (__syncthreads) or of its warp (a shuffle). What is not synchronised reads what is not there yet.
 */
#ifndef CUDA_STAND_IN_DEVICE_H_
#define CUDA_STAND_IN_DEVICE_H_

#include <math.h>
#include <string.h>

#include <algorithm>

#define __global__
#define __launch_bounds__(...)
#define __shared__ static

struct Index {
  unsigned x, y, z;
};
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct longlong4 {
  long long x, y, z, w;
};
inline longlong4 make_longlong4(long long x, long long y, long long z, long long w) {
  return {x, y, z, w};
}
struct int2 {
  int x, y;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
extern "C" Index threadIdx, blockIdx;
extern "C" void __syncthreads();
extern "C" unsigned __activemask();
/* The value of the lane that is `from` of the caller's warp, once all of its lanes have come here. */
extern "C" long long stand_in_exchange(long long value, int from);
extern "C" int stand_in_lane();

template <typename T>
T Exchange(T value, int from) {
  long long bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = stand_in_exchange(bits, from);
  memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T>
T __shfl_sync(unsigned, T value, int lane, int width) {
  int base = stand_in_lane() / width * width;
  return Exchange(value, base + lane % width);
}

template <typename T>
T __shfl_down_sync(unsigned, T value, int offset, int width) {
  int lane = stand_in_lane();
  bool within = lane % width + offset < width;
  return Exchange(value, within ? lane + offset : lane);
}

inline float rsqrtf(float value) { return 1.0f / sqrtf(value); }

using std::max;
using std::min;

#endif
