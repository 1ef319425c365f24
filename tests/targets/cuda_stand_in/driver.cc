/* A stand-in for the CUDA driver: kernels are functions of the library that CUDA_STAND_IN_KERNELS
 * names, the same kernels compiled for the host (device.h).
 *
 * As much of it as TVM's runtime calls. An image that is no device code is refused.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <vector>

struct Index {
  unsigned x, y, z;
};
extern "C" {
Index threadIdx, blockIdx;
}

namespace {

enum State { kReady, kAtBarrier, kDone };
const size_t kStack = 64 * 1024;

struct Fibre {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStack);
  State state = kReady;
  Index index = {0, 0, 0};
  int number = 0;
  int turn = 0;
  long long shared[2] = {0, 0};
};

typedef void (*Kernel)(void*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*,
                       void*, void*, void*, void*, void*);
const int kArguments = 16;

std::vector<Fibre> fibres;
Fibre* current;
ucontext_t scheduler;
Kernel kernel;
void* arguments[kArguments];

void Enter() {
  void** a = arguments;
  kernel(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
         a[14], a[15]);
  current->state = kDone;
  swapcontext(&current->context, &scheduler);
}

void Wait(State state) {
  current->state = state;
  swapcontext(&current->context, &scheduler);
  threadIdx = current->index;
}

void RunBlock(Index size) {
  fibres.resize(size.x * size.y * size.z);
  for (size_t i = 0; i < fibres.size(); ++i) {
    Fibre& fibre = fibres[i];
    unsigned n = static_cast<unsigned>(i);
    fibre.index = {n % size.x, n / size.x % size.y, n / size.x / size.y};
    fibre.number = static_cast<int>(i);
    fibre.state = kReady;
    fibre.turn = 0;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.data();
    fibre.context.uc_stack.ss_size = kStack;
    fibre.context.uc_link = &scheduler;
    makecontext(&fibre.context, Enter, 0);
  }
  for (bool left = true; left;) {
    left = false;
    bool ran = false;
    for (Fibre& fibre : fibres) {
      if (fibre.state == kDone) continue;
      left = true;
      if (fibre.state != kReady) continue;
      ran = true;
      current = &fibre;
      threadIdx = fibre.index;
      swapcontext(&scheduler, &fibre.context);
    }
    if (!ran) {
      for (Fibre& fibre : fibres) {
        if (fibre.state == kAtBarrier) fibre.state = kReady;
      }
    }
  }
}

}  // namespace

extern "C" {

void __syncthreads() { Wait(kAtBarrier); }
unsigned __activemask() { return 0xffffffffu; }
int stand_in_lane() { return current->number % 32; }

long long stand_in_exchange(long long value, int from) {
  int turn = current->turn;
  current->turn ^= 1;
  current->shared[turn] = value;
  Wait(kReady);
  return fibres[static_cast<size_t>(current->number / 32 * 32 + from)].shared[turn];
}

/* The driver. */
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int) { return *device = 0, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
  return *value = attribute == 75 ? 9 : 0, 0;
}
int cuDeviceGetName(char* name, int size, int) { return strncpy(name, "stand-in", size), 0; }
int cuGetErrorName(int, const char** name) { return *name = "an error of the stand-in", 0; }
int cuGetErrorString(int, const char** name) { return *name = "an error of the stand-in", 0; }
int cuFuncSetAttribute(void*, int, int) { return 0; }
int cuTensorMapEncodeTiled() { return 1; }
int cuModuleUnload(void*) { return 0; }
int cuModuleLoadData(void** module, const unsigned char* image) {
  const unsigned char device_code[] = {0x7f, 'E', 'L', 'F', 2, 1};
  if (memcmp(image, device_code, sizeof device_code) || image[18] != 190) return 200;
  *module = dlopen(getenv("CUDA_STAND_IN_KERNELS"), RTLD_NOW);
  return *module ? 0 : 200;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
  return (*function = dlsym(module, name)) ? 0 : 500;
}

struct Launch {
  Index grid, block;
  unsigned shared_bytes;
};

int cuLaunchKernelEx(const Launch* launch, void* function, void** parameters, void**) {
  Dl_info info;
  if (!dladdr(function, &info)) return 1;
  /* Parameters are pointers or whole numbers; a kernel does not look at more than it has. */
  void* count = dlsym(dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD), "stand_in_parameters");
  int n = reinterpret_cast<int (*)(const char*)>(count)(info.dli_sname);
  for (int i = 0; i < kArguments; ++i) {
    arguments[i] = i < n ? *static_cast<void**>(parameters[i]) : nullptr;
  }
  kernel = reinterpret_cast<Kernel>(function);
  for (unsigned z = 0; z < launch->grid.z; ++z) {
    for (unsigned y = 0; y < launch->grid.y; ++y) {
      for (unsigned x = 0; x < launch->grid.x; ++x) {
        blockIdx = {x, y, z};
        RunBlock(launch->block);
      }
    }
  }
  return 0;
}

}  // extern "C"
