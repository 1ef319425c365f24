"""The C of a plan, compiled for this machine with kernels written by hand."""

import subprocess
from pathlib import Path

import pytest

from crespr_onnx.targets.emulate import RUNNERS
from crespr_onnx.targets.plan import Plan, PlannedTensor, Step, aligned, item
from crespr_onnx.targets.plan_c import CONSTANTS, plan_to_c, quoted
from crespr_onnx.targets.system import compiler

# c = a + constant, then out = c * c in other memory; `b` is a view of c.
PLAN = Plan(
    tensors=(
        PlannedTensor("memory", 0, (2, 3), "float32"),
        PlannedTensor("constants", 64, (2, 3), "float32"),
        PlannedTensor("memory", 64, (2, 3), "float32"),
        PlannedTensor("memory", 64, (6,), "float32"),
        PlannedTensor("memory", 128, (6,), "float32"),
    ),
    steps=(Step("add", (0, 1, 2)), Step("square", (3, 4))),
    inputs=(0,),
    outputs=(4,),
    memory=192,
    constants=bytes(64) + b"\0\0\x80\x3f" * 6,
)
KERNELS = """
#include "plan.h"
static float* data(const Value* value) { return ((DLTensor*)value->as.pointer)->data; }
void TVMFFIErrorSetRaisedFromCStrParts(const char*, const char**, int32_t);
int __tvm_ffi_add(void* self, const Value* a, int32_t n, Value* r) {
  for (int i = 0; i < 6; ++i) data(&a[2])[i] = data(&a[0])[i] + data(&a[1])[i];
  return 0;
}
int __tvm_ffi_square(void* self, const Value* a, int32_t n, Value* r) {
  const DLTensor* x = a[0].as.pointer;
  const char* parts[] = {"a negative ", 0, "sum"};
  if (x->ndim != 1 || x->shape[0] != 6 || x->dtype.code != 2 || x->dtype.bits != 32) return -1;
  for (int i = 0; i < 6; ++i) {
    if (data(&a[0])[i] < 0) return TVMFFIErrorSetRaisedFromCStrParts("ValueError", parts, 3), -1;
    data(&a[1])[i] = data(&a[0])[i] * data(&a[0])[i];
  }
  return 0;
}
"""
MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include "tiny.h"
int main(int argc, char** argv) {
  float* x = model_input(0);
  for (int i = 0; i < 6; ++i) x[i] = i + atof(argv[1]);
  int failed = model_run();
  const float* y = model_output(0);
  printf("%s %s %d %c%d %zu|", model_inputs[0].name, model_outputs[0].name, model_inputs[0].ndim,
         model_inputs[0].kind, model_inputs[0].itemsize, model_inputs[0].bytes);
  if (failed) printf("%s", model_error());
  else for (int i = 0; i < 6; ++i) printf("%g ", y[i]);
  return (size_t)x % 64 || (size_t)y % 64;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    source = plan_to_c(PLAN, [{"name": 'in "1"??/'}], [{"name": "Ergebnis\u00e4"}])
    (folder / "plan.c").write_text(source, encoding="ascii")
    (folder / CONSTANTS).write_bytes(PLAN.constants)
    (folder / "kernels.c").write_text(KERNELS)
    (folder / "main.c").write_text(MAIN)
    tiny = str(RUNNERS / "tiny.c")
    command = [*compiler(None), "-std=gnu11", "-Wall", "-Werror", f"-I{RUNNERS}", tiny]
    sources = ["plan.c", "kernels.c", "main.c"]
    subprocess.run([*command, *sources, "-o", "program"], cwd=folder, check=True)
    return folder / "program"


def test_plan_runs_its_kernels_in_order(program):
    done = subprocess.run([program, "0"], capture_output=True, text=True, check=True)
    assert done.stdout == 'in "1"??/ Ergebnis\u00e4 2 f4 24|1 4 9 16 25 36 '


def test_error_of_a_kernel_is_passed_on(program):
    done = subprocess.run([program, "-9"], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("24|ValueError: a negative sum")


def test_names_become_literals_of_c():
    assert quoted('a"b\\c\n\u00e4?') == '"a\\042b\\134c\\012\\303\\244\\077"'


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", ("f", 4)), ("int64", ("i", 8)), ("uint8", ("u", 1)), ("bool", ("b", 1))],
)
def test_items(dtype, expected):
    assert item(dtype) == expected


@pytest.mark.parametrize("dtype", ["int4", "handle", "complex64", "float8_e4m3fn"])
def test_what_is_no_number_of_whole_bytes(dtype):
    with pytest.raises(ValueError, match=f"{dtype} is not a number of whole bytes"):
        item(dtype)


def test_sizes_are_rounded_up_to_whole_cache_lines():
    assert [aligned(size) for size in (0, 1, 64, 65)] == [0, 64, 64, 128]
