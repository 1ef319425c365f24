/* Runs a compiled model with nothing but TVM's runtime: no Python, no compiler.
 *
 *   run model.so IN0.npy IN1.npy ... [-o PREFIX] [-n TIMES]
 *
 * Inputs are in the order of artefact.json. Says what comes out; -o writes output i to
 * PREFIXi.npy, -n runs it that often and prints the median time. TVM_NUM_THREADS sets the threads.
 *
 * Build, in a folder with libtvm_runtime.so and libtvm_ffi.so, and with the headers of the Python
 * package apache-tvm-ffi in HEADERS (python -c 'import tvm_ffi; print(tvm_ffi.__path__[0])', then
 * /include):
 *   aarch64-linux-gnu-g++ -std=c++17 -O2 -I$HEADERS run.cc -o run \
 *     -L. -Wl,--no-as-needed -ltvm_runtime -ltvm_ffi -ldl -Wl,-rpath,'$ORIGIN'
 */

#include <dlfcn.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "npy.h"

namespace ffi = tvm::ffi;

// Compiled code reads whole cache lines: inputs must be aligned to 64 bytes.
struct AlignedMemory {
  void AllocData(DLTensor* tensor) {
    const size_t size = ffi::GetDataSize(*tensor) + 64;
    if (posix_memalign(&tensor->data, 64, size) != 0) throw std::bad_alloc();
  }
  void FreeData(DLTensor* tensor) { free(tensor->data); }
};

static ffi::Tensor ReadTensor(const std::string& path) {
  NpyArray array;
  if (npy_read(path.c_str(), &array) != 0) {
    throw std::runtime_error(path + " is not an .npy file of numbers in C order");
  }
  const std::string kinds = "iufxxxb";  // the order of DLDataTypeCode
  const DLDataType dtype{static_cast<uint8_t>(kinds.find(array.kind)),
                         static_cast<uint8_t>(8 * array.itemsize), 1};
  ffi::Tensor tensor = ffi::Tensor::FromNDAlloc(
      AlignedMemory(), ffi::ShapeView(array.shape, array.ndim), dtype, DLDevice{kDLCPU, 0});
  std::memcpy(tensor.data_ptr(), array.data, array.bytes);
  free(array.data);
  return tensor;
}

static void WriteTensor(const std::string& path, const ffi::Tensor& tensor) {
  NpyArray array{};
  array.kind = "iufxxxb"[tensor.dtype().code];
  array.itemsize = tensor.dtype().bits / 8;
  array.ndim = static_cast<int>(tensor.shape().size());
  if (array.ndim > NPY_MAX_AXES) throw std::runtime_error("an output has too many axes");
  std::copy(tensor.shape().begin(), tensor.shape().end(), array.shape);
  array.bytes = ffi::GetDataSize(tensor);
  array.data = tensor.data_ptr();
  if (npy_write(path.c_str(), &array) != 0) throw std::runtime_error("cannot write " + path);
}

static void Describe(int64_t index, const ffi::Tensor& tensor) {
  std::printf("output %lld: [", static_cast<long long>(index));
  for (size_t i = 0; i < tensor.shape().size(); ++i) {
    std::printf("%s%lld", i ? ", " : "", static_cast<long long>(tensor.shape()[i]));
  }
  std::printf("]");
  if (tensor.dtype().code == kDLFloat && tensor.dtype().bits == 32) {
    const float* values = static_cast<const float*>(tensor.data_ptr());
    for (int64_t i = 0; i < std::min<int64_t>(tensor.numel(), 10); ++i) {
      std::printf(" %.6g", static_cast<double>(values[i]));
    }
  }
  std::printf("\n");
}

static std::vector<ffi::Tensor> Outputs(const ffi::Any& result) {
  if (auto tensor = result.try_cast<ffi::Tensor>()) return {*tensor};
  std::vector<ffi::Tensor> tensors;
  const auto several = result.cast<ffi::Array<ffi::Tensor>>();
  for (const ffi::Tensor& tensor : several) tensors.push_back(tensor);
  return tensors;
}

static int Main(int argc, char** argv) {
  std::string library, prefix;
  int times = 0;
  std::vector<ffi::Tensor> inputs;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if ((word == "-o" || word == "-n") && i + 1 == argc) {
      throw std::runtime_error(word + " needs a value");
    }
    if (word == "-o") prefix = argv[++i];
    else if (word == "-n") times = std::atoi(argv[++i]);
    else if (library.empty()) library = word;
    else inputs.push_back(ReadTensor(word));
  }
  if (library.empty()) {
    throw std::runtime_error("usage: run model.so IN0.npy ... [-o PREFIX] [-n TIMES]");
  }
  // Names without a slash are looked for along the library path, not here.
  if (library.find('/') == std::string::npos) library = "./" + library;

  // Models that sort have this beside them; the others need none.
  dlopen("libtvm_runtime_extra.so", RTLD_NOW | RTLD_GLOBAL);
  ffi::Module module = ffi::Module::LoadFromFile(library);
  ffi::Module machine =
      module->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  const int pooled = 2;  // the allocator that keeps memory from run to run
  machine->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, pooled);
  ffi::Function run = machine->GetFunction("main").value();

  std::vector<ffi::AnyView> arguments(inputs.begin(), inputs.end());
  ffi::Any result;
  run.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
  std::vector<ffi::Tensor> outputs = Outputs(result);
  for (size_t i = 0; i < outputs.size(); ++i) {
    Describe(static_cast<int64_t>(i), outputs[i]);
    if (!prefix.empty()) WriteTensor(prefix + std::to_string(i) + ".npy", outputs[i]);
  }

  std::vector<double> milliseconds;
  for (int i = 0; i < times; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
    const auto end = std::chrono::steady_clock::now();
    milliseconds.push_back(std::chrono::duration<double, std::milli>(end - start).count());
  }
  if (times > 0) {
    std::sort(milliseconds.begin(), milliseconds.end());
    std::printf("median of %d runs: %.4f ms\n", times, milliseconds[milliseconds.size() / 2]);
  }
  return 0;
}

int main(int argc, char** argv) {
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
