"""Every kind of kernel on the stand-in for a CUDA device, against ONNX Runtime."""

import re
from pathlib import Path

import numpy as np
import pytest
from board_models import answers
from cuda_stand_in_run import run_on_stand_in
from nets import Net
from test_target_cuda import require_compiler

from crespr_onnx.targets import find_target
from crespr_onnx.targets.compile import compile_model
from crespr_onnx.targets.cuda import CAPABILITIES
from crespr_onnx.targets.schedule_cuda.tiles import (
    MAX_THREADS,
    SHARED_BYTES,
    Work,
    choose_tile,
    staged_numbers,
)
from crespr_onnx.targets.system import is_here

CONVOLUTIONS = [
    ((1, 64, 1, 1), (32, 4, 1, 1), {"group": 16}),  # a split 1x1 convolution without space
    ((2, 64, 1, 1), (32, 64, 1, 1), {}),
    ((1, 16, 12, 12), (16, 4, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    ((1, 16, 13, 13), (24, 4, 3, 3), {"group": 4, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((2, 8, 9, 7), (8, 8, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ((1, 12, 8, 8), (12, 1, 3, 3), {"group": 12, "pads": [0, 1, 1, 0]}),
    ((1, 3, 17, 17), (5, 3, 5, 5), {}),
    ((1, 20, 4, 4), (10, 10, 4, 4), {"group": 2}),
    ((3, 4, 4, 4), (6, 4, 1, 1), {}),
    ((1, 6, 31, 29), (7, 6, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 2, 40, 40), (4, 2, 31, 31), {}),  # taps that do not fit in shared memory beside it
    ((1, 256, 6, 6), (16, 256, 3, 3), {}),  # more channels than shared memory holds at once
]
PRODUCTS = [
    ((4, 1, 20), (4, 20, 7)),
    ((4, 3, 20), (4, 20, 7)),
    ((4, 33, 20), (4, 20, 7)),
    ((1, 300), (300, 10)),
    ((1, 5), (5, 3)),
    ((128, 96), (96, 128)),
    ((3, 70, 33), (3, 33, 65)),
]


def check(net: Net, folder: Path, capability: str = "sm_90") -> None:
    require_compiler()
    if not is_here(CAPABILITIES[capability].system):
        pytest.skip("the stand-in is for x86-64")
    model = net.save(folder)
    expected = answers(model, net.inputs)
    artefact = compile_model(model, folder / "out", find_target(f"cuda:{capability}"))
    assert all(kernel["spill_bytes"] == 0 for kernel in artefact.kernels)
    found = run_on_stand_in(folder / "out", net.inputs, folder / "stand_in")
    assert list(found) == list(expected)
    for node in net.nodes:
        for name in set(node.output) & set(found):
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(
                found[name], expected[name], rtol=0, atol=1e-5 * scale, err_msg=str(node)
            )


@pytest.mark.parametrize("capability", ["sm_75", "sm_90"])
def test_convolutions(tmp_path, capability):
    net = Net()
    for shape, weight, attributes in CONVOLUTIONS:
        net.node("Conv", net.input(*shape), net.weight(*weight), **attributes)
    check(net, tmp_path, capability)


def test_products(tmp_path):
    net = Net()
    for shape, weight in PRODUCTS:
        net.node("MatMul", net.input(*shape), net.weight(*weight))
    net.node("MatMul", net.input(2, 5, 16), net.input(2, 16, 9))
    check(net, tmp_path)


def test_split_layers_pick_what_they_read(tmp_path):
    net = Net()
    picked = net.node("Gather", net.input(1, 6, 9, 9), net.constant(np.array([4, 0, 0, 5])), axis=1)
    net.node("Conv", picked, net.weight(4, 2, 3, 3), group=2)
    # [1, 10] -> 3 clusters that read 4 each -> [1, 6]
    reads = np.array([[0, 3, 5, 9, 1, 2, 3, 8, 9, 0, 4, 4]])
    data = net.node("GatherElements", net.input(1, 10), net.constant(reads), axis=1)
    parted = net.node("Reshape", data, net.constant(np.array([1, 3, 4])))
    swapped = net.node("Transpose", parted, perm=[1, 0, 2])
    product = net.node("MatMul", swapped, net.weight(3, 4, 2))
    back = net.node("Transpose", product, perm=[1, 0, 2])
    net.node("Relu", net.node("Reshape", back, net.constant(np.array([1, 6]))))
    check(net, tmp_path)
    source = (tmp_path / "out" / "kernels.cu").read_text()
    assert source.count("__global__") == 2 * 2  # declared and defined: one kernel for each layer


def test_element_wise_work_and_reductions(tmp_path):
    net = Net()
    for op in ("Softmax", "Sigmoid", "Erf"):
        net.node(op, net.input(3, 40))
    net.node("Tanh", net.input(5))
    net.node("GlobalAveragePool", net.input(1, 8, 6, 6))
    net.node("MaxPool", net.input(1, 4, 8, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    net.node("AveragePool", net.input(1, 4, 8, 8), kernel_shape=[2, 2], strides=[2, 2])
    net.node("ReduceMean", net.input(2, 5, 7), axes=[1])
    net.node("ReduceMax", net.input(2, 5, 70), axes=[2], keepdims=0)
    net.node("LayerNormalization", net.input(2, 5, 70), net.weight(70), net.weight(70))
    net.node("ConvTranspose", net.input(1, 4, 5, 5), net.weight(4, 3, 3, 3), strides=[2, 2])
    net.node("Transpose", net.input(2, 3, 5), perm=[2, 0, 1])
    # Two results of one reduction.
    net.node("Cast", net.node("ArgMax", net.input(3, 40), axis=1, keepdims=0), to=1)
    net.node("Concat", net.input(2, 3), net.input(2, 4), axis=1)
    twice = net.input(2, 6)
    net.node("Add", twice, twice)
    check(net, tmp_path)


def test_no_operator_is_left_to_a_single_thread(tmp_path):
    require_compiler()
    net = Net()
    scores = net.node("MatMul", net.input(1, 3, 65, 32), net.input(1, 3, 32, 65))
    net.node("MatMul", net.node("Softmax", scores), net.input(1, 3, 65, 32))
    rows = net.input(1, 65, 96)
    net.node("LayerNormalization", rows, net.weight(96), net.weight(96))
    net.node("Erf", net.node("Transpose", rows, perm=[0, 2, 1]))
    net.node("ReduceMean", rows, axes=[2])
    image = net.input(1, 32, 14, 14)
    net.node("Conv", image, net.weight(32, 1, 3, 3), group=32, strides=[2, 2], pads=[1] * 4)
    net.node("MaxPool", image, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    net.node("GlobalAveragePool", image)
    net.node("ConvTranspose", image, net.weight(32, 16, 2, 2), strides=[2, 2])
    artefact = compile_model(net.save(tmp_path), tmp_path / "out", find_target("cuda:sm_75"))
    source = (tmp_path / "out" / "kernels.cu").read_text()
    threads = [int(found) for found in re.findall(r"__launch_bounds__\((\d+)\)", source)]
    assert len(threads) >= len(artefact.kernels) >= 10
    assert min(threads) >= 32


@pytest.mark.parametrize("multiprocessors", [16, 132])
@pytest.mark.parametrize("groups", [1, 4, 64])
def test_tiles_divide_their_work_and_fit_a_block(multiprocessors, groups):
    work = Work(2, groups, 64 // groups, 128 // groups, 28, 14, (3, 3), (2, 1), (1, 2),
                multiprocessors)  # fmt: skip
    tile = choose_tile(work)
    assert work.per_group_out % (tile.channels * tile.rows) == 0
    assert (work.height % tile.height, work.width % tile.width) == (0, 0)
    assert work.per_group % tile.depth == 0
    assert tile.threads <= MAX_THREADS
    assert 4 * staged_numbers(tile, work) <= SHARED_BYTES


def test_a_large_device_gets_more_blocks():
    sizes = []
    for multiprocessors in (16, 132):
        tile = choose_tile(Work(1, 1, 64, 64, 32, 32, (3, 3), (1, 1), (1, 1), multiprocessors))
        sizes.append(tile.channels * tile.rows * tile.height * tile.width)
    assert sizes[0] > sizes[1]
