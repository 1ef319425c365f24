"""Selections in front of split layers are part of the kernels, which compute the same."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import Net

BATCHES = (1, 3)


def picked(net: Net, x: str, positions: np.ndarray, axis: int = 1) -> str:
    return net.node("Gather", x, net.constant(positions.astype(np.int32)), axis=axis)


def split_linear(net: Net, x: str, clusters: int, reads: int, columns: int, *, bias: bool) -> str:
    """What a split Gemm is emitted as, behind its selection."""

    def swapped(value: str, shape: list[int]) -> str:
        parted = net.node("Reshape", value, net.constant(np.array(shape)))
        return net.node("Transpose", parted, perm=[1, 0, 2])

    value = swapped(x, [-1, clusters, reads])
    value = net.node("MatMul", value, net.weight(clusters, reads, columns))
    if bias:
        value = net.node("Add", value, net.weight(clusters, 1, columns))
    value = net.node("Transpose", value, perm=[1, 0, 2])
    return net.node("Reshape", value, net.constant(np.array([-1, clusters * columns])))


@pytest.mark.parametrize("bias", [True, False])
def test_split_linear_layers(tmp_path: Path, bias: bool) -> None:
    net = Net()
    for batch in BATCHES:
        for clusters, reads, columns in ((2, 5, 3), (3, 9, 8), (4, 7, 17)):
            x = net.input(batch, 20)
            positions = net.rng.integers(-20, 20, clusters * reads)
            net.node("Relu", split_linear(net, picked(net, x, positions), clusters, reads, columns,
                                          bias=bias))  # fmt: skip
            plain = net.input(batch, clusters * reads)
            split_linear(net, plain, clusters, reads, columns, bias=bias)
            elements = np.broadcast_to(positions, (batch, len(positions)))
            by_element = net.node("GatherElements", x, net.constant(elements.copy()), axis=1)
            split_linear(net, by_element, clusters, reads, columns, bias=bias)
    net.check(tmp_path)


def test_rows_that_pick_differently_stay_apart(tmp_path: Path) -> None:
    net = Net()
    x = net.input(3, 20)
    each = net.constant(net.rng.integers(0, 20, (3, 10)))
    split_linear(net, net.node("GatherElements", x, each, axis=1), 2, 5, 3, bias=True)
    net.check(tmp_path)


def test_layers_that_read_a_choice(tmp_path: Path) -> None:
    net = Net()
    for batch in BATCHES:
        for kernel, group, stride in ((1, 1, 1), (3, 1, 1), (3, 2, 2), (5, 3, 1)):
            x = net.input(batch, 9, 8, 7)
            chosen = picked(net, x, net.rng.integers(-9, 9, 6))
            w = net.weight(6, 6 // group, kernel, kernel)
            net.node("Conv", chosen, w, group=group, strides=[stride] * 2, pads=[1] * 4)
        for lead in ((batch,), (batch, 4)):
            x = net.input(*lead, 20)
            chosen = picked(net, x, net.rng.integers(0, 20, 6), axis=len(lead))
            net.node("MatMul", chosen, net.weight(6, 5))
        net.node("Relu", picked(net, net.input(batch, 9), np.array([3, 1])))
    net.check(tmp_path)


def test_what_is_picked_is_picked_in_the_kernels(tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 9, 8, 7)
    conv = net.node("Conv", picked(net, x, np.arange(6)[::-1]), net.weight(4, 6, 3, 3))
    flat = net.node("Flatten", net.node("Relu", conv))
    layer = split_linear(net, picked(net, flat, np.arange(60)), 3, 20, 4, bias=True)
    net.node("MatMul", picked(net, net.node("Relu", layer), np.array([3, 1])), net.weight(2, 5))
    net.check(tmp_path)
    kinds = [name.rstrip("01") for name in calls(tmp_path / "net.onnx")]
    assert kinds == ["fused_conv2d_relu", "fused_matmul_add_relu", "matmul"]


def calls(path: Path) -> list[str]:
    """The functions that a compiled model calls; TVM is imported in a process of its own."""
    script = """
import sys
import tvm
from pathlib import Path
from crespr_onnx.targets.schedule.pipeline import schedule_module
from crespr_onnx.targets.tvm_import import import_onnx
target = tvm.target.Target({"kind": "llvm", "mcpu": "znver3", "num-cores": 1})
main = schedule_module(import_onnx(Path(sys.argv[1]), {}), target, 1)["main"]
for block in main.body.blocks:
    for binding in block.bindings:
        call = binding.value
        if isinstance(call, tvm.relax.Call) and call.op.name == "relax.call_tir":
            print(call.args[0].name_hint)
"""
    command = [sys.executable, "-c", script, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()
