"""Kernels of our own compute what ONNX Runtime computes, whatever the geometry."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from nets import Net

from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.products import MatrixProduct
from crespr_onnx.targets.schedule.tiles import Problem, Tile, choose_tile

AVX2 = Machine(lanes=8, registers=16, threads=1)
AVX512 = Machine(lanes=16, registers=32, threads=1)
ARM64 = Machine(lanes=4, registers=32, threads=1, neon=True)
ARMV7 = Machine(lanes=4, registers=16, threads=1, neon=True)


def test_convolutions_of_every_geometry(tmp_path):
    net = Net()
    for kernel, stride, dilation, pad in product((1, 3), (1, 2, 3), (1, 2), (0, 1, 3)):
        x, w = net.input(1, 4, 9, 7), net.weight(6, 2, kernel, kernel)
        net.node(
            "Conv", x, w, group=2, strides=[stride] * 2, dilations=[dilation] * 2, pads=[pad] * 4
        )
    net.check(tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_convolutions_of_every_grouping(tmp_path, threads):
    net = Net()
    for channels, group, out in [
        (3, 1, 16),
        (16, 4, 16),
        (16, 8, 24),
        (12, 12, 12),
        (6, 6, 18),
        (5, 1, 17),
        (32, 1, 32),
    ]:
        x = net.input(2, channels, 16, 20)
        w, bias = net.weight(out, channels // group, 3, 3), net.weight(out)
        net.node("Relu", net.node("Conv", x, w, bias, group=group, pads=[1, 1, 1, 1]))
    net.check(tmp_path, threads)


def test_convolution_with_uneven_padding_and_a_residual(tmp_path):
    net = Net()
    x = net.input(1, 8, 11, 13)
    a = net.node("Conv", x, net.weight(8, 2, 3, 5), net.weight(8), group=4, pads=[2, 1, 0, 3])
    net.node("Relu", net.node("Add", a, x))
    net.node("Conv", x, net.weight(4, 8, 7, 1), strides=[3, 1], pads=[0, 0, 5, 0])
    net.node("Conv", x, net.weight(4, 8, 11, 13))
    net.check(tmp_path)


def test_matrix_products_of_every_form(tmp_path):
    net = Net()
    for rows, depth, columns in [(1, 7, 3), (1, 40, 33), (5, 16, 10), (13, 12, 130), (1, 3, 1)]:
        bias = net.weight(columns)
        net.node("Gemm", net.input(rows, depth), net.weight(columns, depth), bias, transB=1)
        net.node("MatMul", net.input(4, rows, depth), net.weight(4, depth, columns))
        net.node("MatMul", net.input(4, rows, depth), net.weight(depth, columns))
        net.node("MatMul", net.input(2, 3, rows, depth), net.weight(2, 3, depth, columns))
        net.node("MatMul", net.input(4, rows, depth), net.weight(1, depth, columns))
        # Not ours: the weights are broadcast, or are no weights.
        net.node("MatMul", net.input(1, rows, depth), net.weight(4, depth, columns))
        net.node("MatMul", net.input(rows, depth), net.input(depth, columns))
    net.node("MatMul", net.input(6), net.weight(6, 9))
    net.check(tmp_path)


def test_modules_as_a_split_network_holds_them(tmp_path):
    net = Net()
    x = net.node("Reshape", net.input(3, 40), net.constant(np.array([-1, 4, 10])))
    x = net.node("Transpose", x, perm=[1, 0, 2])
    x = net.node("Add", net.node("MatMul", x, net.weight(4, 10, 6)), net.weight(4, 1, 6))
    x = net.node("Relu", x)
    x = net.node("Transpose", net.node("MatMul", x, net.weight(4, 6, 5)), perm=[1, 0, 2])
    net.node("Reshape", x, net.constant(np.array([-1, 20])))
    net.check(tmp_path)


def test_pooling_and_activations(tmp_path):
    net = Net()
    x = net.input(2, 6, 11, 9)
    for kernel, stride, pad in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (9, 1, 0)]:
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        net.node("MaxPool", x, **window)
        net.node("AveragePool", x, **window)
    net.node("GlobalAveragePool", x)
    net.node("GlobalMaxPool", x)
    net.node("ReduceMean", x, axes=[1], keepdims=0)
    net.node("ReduceSum", x)
    for op in ("Sigmoid", "Tanh", "Erf", "Exp", "Elu", "HardSwish", "LeakyRelu"):
        net.node(op, net.node("Mul", x, net.constant(np.float32(3))))
    net.node("Softmax", x, axis=1)
    net.node("Concat", x, net.node("Neg", x), axis=1)
    net.check(tmp_path)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_pitch_lets_every_tap_find_its_input_or_padding(size):
    for kernel, stride, dilation, before, after in product(
        (1, 2, 3, 5), (1, 2, 3), (1, 2), (0, 1, 3), (0, 2)
    ):
        out = (size + before + after - (kernel - 1) * dilation - 1) // stride + 1
        if out < 1:
            continue
        axis = Axis(size, out, kernel, stride, dilation, before)
        pitch = axis.pitch()
        assert out <= pitch <= out + axis.reach
        # Two rows, told apart by sign, each position numbered from 1; zero is padding.
        line = np.arange(1, size + 1)
        source = np.zeros((2, axis.phases, pitch), int)
        for row, phase, q in np.ndindex(source.shape):
            at = q * stride + phase - before
            if 0 <= at < size:
                source[row, phase, q] = line[at] * (-1) ** row
        flat = source.transpose(1, 0, 2).reshape(axis.phases, -1)
        flat = np.pad(flat, ((0, 0), (0, axis.reach)))
        for row, w, tap in product(range(2), range(out), range(kernel)):
            at = w * stride + tap * dilation - before
            expected = line[at] * (-1) ** row if 0 <= at < size else 0
            step = tap * dilation
            assert flat[step % stride, row * pitch + w + step // stride] == expected


def test_same_padding_costs_one_column_between_rows():
    assert Axis(size=8, out=8, kernel=3, stride=1, dilation=1, before=1).pitch() == 9


@pytest.mark.parametrize("machine", [AVX2, AVX512, ARM64, ARMV7])
def test_tiles_fit_the_registers(machine):
    for length, rows, depth in product((1, 5, 16, 71, 1055), (1, 4, 17, 64), (1, 9, 576)):
        tile = choose_tile(machine, Problem(length, rows, depth))
        assert tile.lanes <= machine.lanes
        assert tile.rows <= rows
        assert tile.rows * tile.vectors < machine.registers


def test_tile_wastes_little_on_a_narrow_image():
    # 8 x 8 with a pitch of 9 gives 71 positions: 72 is the next multiple of 8, 80 that of 16.
    assert choose_tile(AVX512, Problem(71, 64, 576)).span in (8, 24)


def test_single_row_of_a_product_uses_enough_accumulators():
    assert choose_tile(AVX2, Problem(128, 1, 400)) == Tile(lanes=8, vectors=8, rows=1)


def test_weights_from_memory_are_padded_by_few_columns():
    problem = Problem(65, 1, 802, max_rows=8, apart=True)
    assert choose_tile(AVX512, problem).span == 80
    problem = replace(problem, streamed=True)
    assert (choose_tile(AVX512, problem).span, choose_tile(AVX2, problem).span) == (68, 72)


def test_only_products_of_one_row_with_many_weights_stream_them():
    many, few = (32, 802, 65), (4, 802, 65)
    assert MatrixProduct((32, 1, 802), many, (32, 1, 65), picks=False).problem.streamed
    assert not MatrixProduct((4, 1, 802), few, (4, 1, 65), picks=False).problem.streamed
    assert not MatrixProduct((32, 8, 802), many, (32, 8, 65), picks=False).problem.streamed


def test_tiles_for_neon_need_few_loads_for_their_multiply_adds():
    # A step of 24 multiply-adds: 3 loads of positions and 4 pairs of weights.
    assert choose_tile(ARM64, Problem(1056, 16, 144)) == Tile(lanes=4, vectors=3, rows=8)
    assert choose_tile(ARMV7, Problem(1056, 16, 144)) == Tile(lanes=4, vectors=3, rows=4)
    # Rows that lie apart are loaded one by one.
    assert choose_tile(ARM64, Problem(120, 8, 400, 8, apart=True)) == Tile(
        lanes=4, vectors=5, rows=4
    )
    assert choose_tile(ARMV7, Problem(120, 8, 400, 8, apart=True)).rows == 2
