"""Choosing register tiles: how many outputs a kernel keeps in registers at once."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import partial
from math import ceil, log2

from crespr_onnx.targets.schedule.machine import Machine


@dataclass(frozen=True)
class Tile:
    """A block of outputs that stays in registers through the whole reduction.

    Attributes:
        lanes: width of a vector.
        vectors: vectors side by side along the vectorised axis.
        rows: how many values of the other axis share what is loaded for the vectors.
    """

    lanes: int
    vectors: int
    rows: int

    @property
    def span(self) -> int:
        """Positions along the vectorised axis."""
        return self.lanes * self.vectors


@dataclass(frozen=True)
class Problem:
    """What a tile is to cover.

    Attributes:
        length: extent of the vectorised axis.
        rows: extent of the other axis.
        depth: extent of the reduction.
        max_rows: upper limit for `Tile.rows`.
        apart: whether the values of different rows lie apart in memory, and those for the vectors
            in the order in which they are read; otherwise it is the other way round.
        far: whether the vectors come from the second-level cache each time.
        streamed: whether they come from beyond that cache.
    """

    length: int
    rows: int
    depth: int
    max_rows: int = 16
    apart: bool = False
    far: bool = False
    streamed: bool = False


FAR_LOAD = 2
"""How many times a load from the first-level cache one from the second takes."""
_STREAM = 2.0
"""Numbers per cycle that come from memory or the last cache, at 20 to 30 GB/s."""
_MAX_VECTORS, _MAX_STREAMED = 8, 24
"""Vectors side by side at most. Streamed ones may be many and narrow, to pad by fewer columns: what
padding takes to read counts, and narrow loads keep up with memory."""


def choose_tile(machine: Machine, problem: Problem) -> Tile:
    """The tile with the fewest estimated cycles; both axes are padded to whole tiles."""
    return min(_tiles(machine, problem), key=partial(_cost, machine, problem))


def best_tiles(machine: Machine, problem: Problem) -> list[Tile]:
    """All tiles that fit the registers, those with the fewest estimated cycles first."""
    return sorted(_tiles(machine, problem), key=partial(_cost, machine, problem))


def distance(first: Tile, second: Tile) -> float:
    """How unlike two tiles are: the logarithms of the factors between their sizes."""
    pairs = zip(astuple(first), astuple(second), strict=True)
    return sum(abs(log2(a / b)) for a, b in pairs)


def _cost(machine: Machine, problem: Problem, tile: Tile) -> tuple[float, int]:
    if machine.neon:
        estimate = _instructions(tile, problem, pairs=machine.registers > 16)
    else:
        estimate = _cycles(tile, problem)
    return estimate, tile.rows * tile.vectors


def _tiles(machine: Machine, problem: Problem) -> Iterator[Tile]:
    max_rows = min(problem.rows, problem.max_rows)
    if machine.neon and problem.apart and machine.registers <= 16:
        # Each row that lies apart takes an address register, of which there are few as well.
        max_rows = min(max_rows, 2)
    # Measured with 32 registers: larger tiles save no time, and LLVM begins to spill them. Those
    # of NEON need as many accumulators as there is room for, see `_instructions`.
    limit = min(machine.registers, 28 if machine.neon else 24)
    for lanes in machine.widths:
        for vectors in range(1, (_MAX_STREAMED if problem.streamed else _MAX_VECTORS) + 1):
            for rows in range(1, max_rows + 1):
                # Beside the accumulators: the loaded vectors if they are used more than once,
                # and one for the broadcast value.
                if rows * vectors + (vectors if rows > 1 else 0) + 1 <= limit:
                    yield Tile(lanes, vectors, rows)


def _cycles(tile: Tile, problem: Problem) -> float:
    """Estimated cycles on a core with two 256-bit fused multiply-add units and two load ports.

    A chain of dependent multiply-adds takes 4 cycles per link, so few accumulators idle; a load
    of 64 bytes that is not aligned touches two cache lines.
    """
    halves = tile.rows * tile.vectors * max(tile.lanes, 8) / 8
    load = (2 if tile.lanes == 16 else 1.25) * (FAR_LOAD if problem.far else 1)
    loads = tile.vectors * load + tile.rows
    stream = tile.span / _STREAM if problem.streamed else 0.0
    per_step = max(halves / 2, loads / 2, stream, 4.0)
    return _steps(tile, problem, per_step, 1.5)


def _instructions(tile: Tile, problem: Problem, pairs: bool) -> float:
    """Estimated instructions with NEON, where a load is one of its own, never an operand.

    What is read in order is loaded in pairs by machines that can. Fewer than 8 accumulators idle,
    as with `_cycles`.
    """
    ordered, other = (tile.vectors, tile.rows) if problem.apart else (tile.rows, tile.vectors)
    loads = ordered / (2 if pairs else 1) + other
    per_step = max(tile.rows * tile.vectors + loads, 8.0)
    return _steps(tile, problem, per_step, 2.0)


def _steps(tile: Tile, problem: Problem, per_step: float, per_accumulator: float) -> float:
    """What all steps of all tiles take together, their beginnings and ends included."""
    start_and_end = tile.rows * tile.vectors * per_accumulator + 4
    tiles = ceil(problem.length / tile.span) * ceil(problem.rows / tile.rows)
    return tiles * (problem.depth * per_step + start_and_end)
