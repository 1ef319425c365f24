"""What LLVM makes of a convolution on ARM, and its loops."""

import re
from typing import Any

import numpy as np
import pytest

from crespr_onnx.targets import find_target


def arm64_assembly_of_a_convolution() -> str:
    """The assembly of a 3 x 3 convolution of 32 channels for cortex-a72."""
    tvm = pytest.importorskip("tvm")
    from crespr_onnx.targets.schedule.pipeline import schedule_module

    target = tvm.target.Target({**find_target("arm64:cortex-a72").tvm, "num-cores": 1})
    compiled = tvm.compile(schedule_module(_convolution(tvm), target, 1), target=target)
    (llvm,) = compiled.mod.imports
    return llvm.inspect_source("asm")


def armv7_assembly_of_a_convolution(core: str) -> str:
    """The same for a core of 32 bits."""
    tvm = pytest.importorskip("tvm")
    from crespr_onnx.targets.build_c import kernels_of

    target = tvm.target.Target({**find_target(f"armv7:{core}").tvm, "num-cores": 1})
    _, library = kernels_of(_convolution(tvm), target)
    return library.inspect_source("asm")


def _convolution(tvm: Any) -> Any:
    rng = np.random.default_rng(0)
    weight = tvm.relax.const(rng.normal(size=(32, 32, 3, 3)).astype(np.float32))
    builder = tvm.relax.BlockBuilder()
    x = tvm.relax.Var("x", tvm.relax.TensorType((1, 32, 16, 16), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(tvm.relax.op.nn.conv2d(x, weight, padding=1))
        builder.emit_func_output(y)
    return builder.get()


def loops_of(lines: list[str]) -> list[tuple[int, int]]:
    """First and last line of each loop: a branch back to a label."""
    labels: dict[str, int] = {}
    loops = []
    for number, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = number
        elif (jump := re.match(r"\s+(?:b|cb|tb)\S*\s.*?(\.L\w+)", line)) and jump[1] in labels:
            loops.append((labels[jump[1]], number))
    return loops


def instructions(lines: list[str]) -> list[str]:
    """The names of the instructions in lines of assembly."""
    return [found[1] for line in lines if (found := re.match(r"\s+([a-z][a-z0-9.]*)\s", line))]
