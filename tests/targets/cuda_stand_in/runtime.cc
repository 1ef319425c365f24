/* A stand-in for CUDA's runtime, as much of it as TVM's runtime calls: memory is the host's. */
#include <stdlib.h>
#include <string.h>

extern "C" {

int cudaGetDeviceCount(int* count) { return *count = 1, 0; }
int cudaGetDevice(int* device) { return *device = 0, 0; }
int cudaSetDevice(int) { return 0; }
int cudaDeviceGetAttribute(int* value, int attribute, int) {
  return *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1024, 0;
}
int cudaGetDeviceProperties(void*, int) { return 1; }
int cudaMalloc(void** data, size_t size) {
  return *data = aligned_alloc(256, (size + 255) & ~255ul), 0;
}
int cudaMallocHost(void** data, size_t size) { return cudaMalloc(data, size); }
int cudaFree(void* data) { return free(data), 0; }
int cudaFreeHost(void* data) { return free(data), 0; }
int cudaMemGetInfo(size_t* available, size_t* total) { return *available = *total = 1ul << 30, 0; }
int cudaMemcpyAsync(void* to, const void* from, size_t size, int, void*) {
  return memcpy(to, from, size), 0;
}
int cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, void*) {
  return memcpy(to, from, size), 0;
}
int cudaStreamCreate(void**) { return 0; }
int cudaStreamCreateWithFlags(void**, unsigned) { return 0; }
int cudaStreamDestroy(void*) { return 0; }
int cudaStreamSynchronize(void*) { return 0; }
int cudaStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cudaStreamBeginCapture(void*, int) { return 1; }
int cudaStreamEndCapture(void*, void**) { return 1; }
int cudaGraphInstantiate(void**, void*, unsigned long long) { return 1; }
int cudaGraphLaunch(void*, void*) { return 1; }
int cudaGraphDestroy(void*) { return 0; }
int cudaGraphExecDestroy(void*) { return 0; }
int cudaEventCreate(void**) { return 0; }
int cudaEventDestroy(void*) { return 0; }
int cudaEventRecord(void*, void*) { return 0; }
int cudaEventSynchronize(void*) { return 0; }
int cudaEventElapsedTime(float* time, void*, void*) { return *time = 0, 0; }
int cudaGetLastError() { return 0; }
int cudaPeekAtLastError() { return 0; }
const char* cudaGetErrorName(int) { return "an error of the stand-in"; }
const char* cudaGetErrorString(int) { return "an error of the stand-in"; }

}  // extern "C"
