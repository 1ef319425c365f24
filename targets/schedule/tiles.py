"""Choosing register tiles: how many outputs a kernel keeps in registers at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

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


def choose_tile(machine: Machine, length: int, rows: int, depth: int, max_rows: int = 16) -> Tile:
    """The tile with the fewest estimated cycles; both axes are padded to whole tiles.

    Args:
        machine: the CPU.
        length: extent of the vectorised axis.
        rows: extent of the other axis.
        depth: extent of the reduction.
        max_rows: upper limit for `Tile.rows`.
    """
    return min(
        _tiles(machine, min(rows, max_rows)),
        key=lambda tile: (_cycles(tile, length, rows, depth), tile.rows * tile.vectors),
    )


def _tiles(machine: Machine, max_rows: int) -> Iterator[Tile]:
    # Measured with 32 registers: larger tiles save no time, and LLVM begins to spill them.
    limit = min(machine.registers, 24)
    for lanes in machine.widths:
        for vectors in range(1, 9):
            for rows in range(1, max_rows + 1):
                # Beside the accumulators: the loaded vectors if they are used more than once,
                # and one for the broadcast value.
                if rows * vectors + (vectors if rows > 1 else 0) + 1 <= limit:
                    yield Tile(lanes, vectors, rows)


def _cycles(tile: Tile, length: int, rows: int, depth: int) -> float:
    """Estimated cycles on a core with two 256-bit fused multiply-add units and two load ports.

    A chain of dependent multiply-adds takes 4 cycles per link, so few accumulators idle; a load
    of 64 bytes that is not aligned touches two cache lines.
    """
    halves = tile.rows * tile.vectors * max(tile.lanes, 8) / 8
    loads = tile.vectors * (2 if tile.lanes == 16 else 1.25) + tile.rows
    per_step = max(halves / 2, loads / 2, 4.0)
    start_and_end = tile.rows * tile.vectors * 1.5 + 4
    return ceil(length / tile.span) * ceil(rows / tile.rows) * (depth * per_step + start_and_end)
