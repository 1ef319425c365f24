"""Products of our kernels as data: what is recorded of them, and their tiles."""

import numpy as np
import pytest

from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.products import (
    Convolution,
    MatrixProduct,
    from_text,
    tile_of,
    to_text,
)
from crespr_onnx.targets.schedule.tiles import Problem, Tile, best_tiles, choose_tile, distance

AXIS = Axis(size=9, out=5, kernel=3, stride=2, dilation=1, before=1)
CONV = Convolution((1, 8, 9, 9), (12, 4, 3, 3), 2, AXIS, AXIS, None)
CHOSEN = Convolution((1, 8, 9, 9), (12, 3, 3, 3), 2, AXIS, AXIS, 6)
MATMUL = MatrixProduct((1, 40), (4, 10, 6), (1, 24), picks=True)


@pytest.mark.parametrize("product", [CONV, CHOSEN, MATMUL])
def test_text_comes_back(product):
    assert from_text(to_text(product)) == product
    assert "\n" not in to_text(product)


@pytest.mark.parametrize("text", ["{}", "[]", '{"op":"pool","data":[1],"weight":[1]}', "x"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"is no product|Expecting value"):
        from_text(text)


def test_names_for_people():
    assert str(CONV) == "conv2d 12x4x3x3 on 1x8x9x9, 2 groups"
    assert str(MATMUL) == "matmul 4x10x6 on 1x40"


def test_problems_and_shapes():
    assert CONV.problem == Problem(length=4 * AXIS.pitch() + 5, rows=6, depth=36)
    assert CONV.packed(Tile(8, 2, 4)) == (2, 2, 4, 3, 3, 4)
    assert CONV.result == (1, 12, 5, 5)
    assert (CONV.reads_shape, CHOSEN.reads_shape) == (None, (6,))
    assert MATMUL.problem == Problem(length=6, rows=1, depth=10, max_rows=8, apart=True)
    assert MATMUL.packed(Tile(4, 1, 1)) == (4, 2, 10, 4)
    assert (MATMUL.result, MATMUL.reads_shape, MATMUL.readable) == ((1, 24), (4, 10), 40)


def test_a_tile_that_was_measured_is_taken():
    machine = Machine(lanes=8, registers=16, threads=1)
    assert tile_of(machine, CONV) == choose_tile(machine, CONV.problem)
    tuned = Machine(8, 16, 1, tiles={CONV: Tile(4, 1, 2)})
    assert tile_of(tuned, CONV) == Tile(4, 1, 2)
    assert tile_of(tuned, MATMUL) == choose_tile(machine, MATMUL.problem)


def test_tiles_in_the_order_of_their_estimates():
    machine = Machine(lanes=8, registers=16, threads=1)
    tiles = best_tiles(machine, CONV.problem)
    assert tiles[0] == choose_tile(machine, CONV.problem)
    assert len(set(tiles)) == len(tiles) > 20
    assert max(tile.rows for tile in tiles) == CONV.problem.rows


def test_distance_counts_factors():
    assert distance(Tile(8, 2, 3), Tile(8, 2, 3)) == 0
    assert distance(Tile(8, 2, 3), Tile(16, 1, 3)) == 2
    assert np.isclose(distance(Tile(8, 1, 3), Tile(8, 1, 2)), np.log2(1.5))
