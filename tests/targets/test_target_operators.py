"""Operators around convolutions and linear layers compute what ONNX Runtime computes."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from board_models import answers, check_close, require_emulation
from nets import Net

from crespr_onnx.targets import find_target
from crespr_onnx.targets.check import run_artefact
from crespr_onnx.targets.compile import compile_model

LENGTHS = (1, 3, 8, 17, 64, 197)


def products() -> Net:
    """Of two activations, as in attention, of many shapes; some with a transposed factor."""
    net = Net()
    for rows, depth, columns in product((1, 7, 33), (1, 24), (1, 16, 45)):
        net.node("MatMul", net.input(2, 3, rows, depth), net.input(2, 3, depth, columns))
        keys = net.node("Transpose", net.input(1, columns, 2, depth), perm=[0, 2, 3, 1])
        scores = net.node("MatMul", net.input(1, 2, rows, depth), keys)
        net.node("Mul", scores, net.constant(np.float32(0.3)))
    net.node("MatMul", net.input(4, 5, 8), net.input(8, 6))
    net.node("MatMul", net.input(4, 5, 8), net.input(1, 8, 6))
    net.node("MatMul", net.input(5, 8), net.input(8, 6))
    # Not ours: the left factor is broadcast, or one is a vector.
    net.node("MatMul", net.input(5, 8), net.input(4, 8, 6))
    net.node("MatMul", net.input(2, 1, 5, 8), net.input(1, 3, 8, 6))
    net.node("MatMul", net.input(4, 5, 8), net.input(8))
    return net


def rows() -> Net:
    """Operators that reduce rows, of any length."""
    net = Net()
    for length in LENGTHS:
        x = net.input(2, 3, length)
        net.node("Softmax", x, axis=-1)
        net.node("LogSoftmax", x, axis=2)
        net.node("Relu", net.node("LayerNormalization", x, net.weight(length), net.weight(length)))
        for op in ("ReduceMean", "ReduceMax", "ReduceMin"):
            net.node(op, x, axes=[2])
            net.node(op, x, axes=[-1], keepdims=0)
    x = net.input(2, 3, 5, 7)
    net.node("ReduceMean", x, axes=[2, 3])
    net.node("ReduceMean", x, axes=[3, 1, 2], keepdims=0)
    net.node("ReduceSum", x, net.constant(np.array([-1, -2])))
    # A mean that is subtracted from what it is the mean of.
    net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
    # Masked scores.
    net.node("Softmax", net.node("Add", x, net.constant(np.float32([0, -1e30, 0, 0, -1e9, 0, 0]))))
    # Not ours: along another axis, over everything, without leading axes.
    net.node("Softmax", x, axis=1)
    net.node("ReduceMean", x, axes=[1, 3])
    net.node("ReduceMax", x)
    net.node("Softmax", net.input(9))
    return net


def windows() -> Net:
    """Depthwise convolutions and pooling with windows of every geometry."""
    net = Net()
    for kernel, stride, dilation, pad in product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1)):
        window = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4}
        x, w = net.input(1, 3, 9, 11), net.weight(3, 1, kernel, kernel)
        net.node("Conv", x, w, group=3, **window)
        if pad < kernel:
            net.node("MaxPool", x, kernel_shape=[kernel] * 2, **window)
    for size in ((2, 5, 7, 7), (1, 3, 14, 14), (1, 2, 20, 33)):
        x, w, b = net.input(*size), net.weight(size[1], 1, 3, 5), net.weight(size[1])
        pads = [0, 2, 1, 3]
        net.node("Relu", net.node("Conv", x, w, b, group=size[1], strides=[2, 1], pads=pads))
        pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        net.node("MaxPool", x, **pool, ceil_mode=1)
        net.node("AveragePool", x, **pool)
        net.node("AveragePool", x, **pool, count_include_pad=1)
        net.node("AveragePool", x, kernel_shape=[3, 2], strides=[1, 1])
    return net


def transposed() -> Net:
    """Transposed convolutions, also with groups, with cut edges and with added ones."""
    net = Net()
    for kernel, stride, pad in product((1, 2, 3, 4), (1, 2, 3), (0, 1)):
        if kernel > pad:
            x, w = net.input(1, 4, 5, 6), net.weight(4, 3, kernel, kernel)
            net.node("ConvTranspose", x, w, strides=[stride] * 2, pads=[pad] * 4)
    x = net.input(2, 4, 5, 6)
    pads = {"strides": [2, 3], "pads": [1, 0, 2, 1]}
    grouped = net.node("ConvTranspose", x, net.weight(4, 3, 3, 4), net.weight(6), group=2, **pads)
    net.node("Relu", grouped)
    net.node("ConvTranspose", x, net.weight(4, 3, 3, 3), strides=[2, 2], output_padding=[1, 0])
    # Not ours: dilated.
    net.node("ConvTranspose", x, net.weight(4, 3, 3, 3), dilations=[2, 2])
    return net


def transposes() -> Net:
    """Transposes of every order, also with work fused to them."""
    net = Net()
    for rows_, columns in ((8, 16), (12, 7), (7, 12), (5, 3), (64, 24)):
        x = net.input(2, 3, rows_, columns)
        for order in ((0, 1, 3, 2), (0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0), (2, 1, 0, 3)):
            turned = net.node("Transpose", net.node("Abs", x), perm=order)
            net.node("Neg", turned)
        net.node("Transpose", net.node("Reshape", x, net.constant(np.array([6, -1]))), perm=[1, 0])
    square = net.input(16, 16)
    net.node("Add", square, net.node("Transpose", square, perm=[1, 0]))
    return net


NETS = {
    "products": products,
    "rows": rows,
    "windows": windows,
    "transposed": transposed,
    "transposes": transposes,
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_here(tmp_path: Path, name: str, threads: int) -> None:
    NETS[name]().check(tmp_path, threads)


@pytest.mark.parametrize("name", NETS)
def test_with_other_vectors(tmp_path: Path, name: str) -> None:
    """AVX2 has 8 lanes where AVX-512 has 16; no function is left without a schedule."""
    net = NETS[name]()
    path = net.save(tmp_path)
    np.savez(tmp_path / "inputs.npz", *net.inputs.values())
    command = [sys.executable, "-c", COMPILE_AND_RUN, str(path), "haswell"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == [], "functions that no rule could schedule"
    with np.load(tmp_path / "outputs.npz") as stored:
        found = [stored[name] for name in stored.files]
    expected = answers(path, net.inputs)
    check_close(dict(zip(expected, found, strict=True)), expected)


COMPILE_AND_RUN = """
import json, sys
from pathlib import Path
import numpy as np
import tvm
from crespr_onnx.targets.schedule import pipeline
from crespr_onnx.targets.tvm_import import import_onnx
path = Path(sys.argv[1])
target = tvm.target.Target({"kind": "llvm", "mcpu": sys.argv[2], "num-cores": 1})
failed = []
pipeline.log.debug = lambda *message: failed.append(str(message[1]))
executable = tvm.compile(pipeline.schedule_module(import_onnx(path, {}), target, 1), target=target)
machine = tvm.relax.VirtualMachine(executable, tvm.cpu())
with np.load(path.with_name("inputs.npz")) as stored:
    results = machine["main"](*(tvm.runtime.tensor(stored[name]) for name in stored.files))
np.savez(path.with_name("outputs.npz"), *(result.numpy() for result in results))
print(json.dumps(failed))
"""


@pytest.mark.parametrize("name", NETS)
def test_on_a_board(tmp_path: Path, name: str) -> None:
    require_emulation("arm64")
    net = NETS[name]()
    path = net.save(tmp_path)
    compile_model(path, tmp_path / "out", find_target("arm64:cortex-a72"))
    check_close(run_artefact(tmp_path / "out", net.inputs), answers(path, net.inputs))
