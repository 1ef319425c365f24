import subprocess
import sys

import pytest

from crespr_onnx.errors import UsageError
from crespr_onnx.targets import TARGETS, find_target


def test_finds_each_target_under_its_own_name():
    assert [find_target(name).name for name in TARGETS] == list(TARGETS)


def test_unknown_target_lists_the_known_ones():
    message = r"^unknown target 'gpu'; known targets: arm64, armv7, cpu, cuda, onnx$"
    with pytest.raises(UsageError, match=message):
        find_target("gpu")


def test_all_but_onnx_compile():
    assert {name for name, target in TARGETS.items() if target.compiles} == {
        "cpu",
        "arm64",
        "armv7",
        "cuda",
    }


def test_importing_the_room_imports_neither_tvm_nor_torch():
    code = (
        "import sys, crespr_onnx.targets, crespr_onnx.targets.compile, "
        "crespr_onnx.targets.check\n"
        "print(sorted({'tvm', 'tvm_ffi', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_core_of_a_target_adds_to_it():
    target = find_target("arm64:cortex-a55")
    assert (target.name, target.tvm["mcpu"]) == ("arm64:cortex-a55", "cortex-a55")
    assert target.tvm["mtriple"] == find_target("arm64").tvm["mtriple"] == "aarch64-linux-gnu"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arm64:z80", "unknown core 'z80' of target 'arm64'; known cores: generic, cortex-a53, "),
        ("arm64:", "unknown core '' of target 'arm64'; known cores: generic"),
        ("cpu:znver3", "target 'cpu' has no variants such as 'znver3'; use 'cpu'"),
        ("arm128:cortex-a72", "unknown target 'arm128:cortex-a72'; known targets: "),
    ],
)
def test_unknown_core_lists_the_known_ones(name, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        find_target(name)
