"""Choosing what a block of threads computes of a convolution.

By a model of the device, not by measurement: see `_cycles`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil

MAX_THREADS = 256
MIN_THREADS = 32
SHARED_BYTES = 32 * 1024
"""Less than the 48 KiB that a block may have, so that two fit beside each other."""
MAX_ROWS = 8
LAUNCH = 600.0
"""Cycles until a block has what it reads first from memory."""


@dataclass(frozen=True)
class Work:
    """A convolution, for one device.

    Attributes:
        batch: images.
        groups: of channels.
        per_group_out: output channels of one group.
        per_group: input channels of one group.
        height: of the output.
        width: of the output.
        kernel: taps along both axes.
        stride: along both axes.
        dilation: along both axes.
        multiprocessors: of the device.
    """

    batch: int
    groups: int
    per_group_out: int
    per_group: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    multiprocessors: int


@dataclass(frozen=True)
class Tile:
    """What one block of threads computes; all divide what they are parts of.

    Attributes:
        channels: threads along the output channels of a group.
        rows: output channels of each thread, side by side in registers.
        height: positions.
        width: positions.
        depth: input channels that are in shared memory at a time.
    """

    channels: int
    rows: int
    height: int
    width: int
    depth: int

    @property
    def threads(self) -> int:
        """Threads of the block."""
        return self.channels * self.height * self.width


def choose_tile(work: Work) -> Tile:
    """The tile with the fewest estimated cycles.

    Raises:
        ValueError: none fits in shared memory.
    """
    return min(_tiles(work), key=lambda tile: (_cycles(tile, work), tile.threads, tile.rows))


def _tiles(work: Work) -> Iterator[Tile]:
    for width in _divisors(work.width, MAX_THREADS):
        for height in _divisors(work.height, MAX_THREADS // width):
            for rows in _divisors(work.per_group_out, MAX_ROWS):
                most = MAX_THREADS // width // height
                for channels in _divisors(work.per_group_out // rows, most):
                    tiles = (
                        Tile(channels, rows, height, width, depth)
                        for depth in reversed(_divisors(work.per_group, work.per_group))
                    )
                    yield from islice((t for t in tiles if _fits(t, work)), 1)


def _fits(tile: Tile, work: Work) -> bool:
    return 4 * staged_numbers(tile, work) <= SHARED_BYTES


def _divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]


def staged_numbers(tile: Tile, work: Work) -> int:
    """Numbers in shared memory at a time."""
    patch = tile.depth
    for size, kernel, stride, dilation in zip(
        (tile.height, tile.width), work.kernel, work.stride, work.dilation, strict=True
    ):
        patch *= (size - 1) * stride + (kernel - 1) * dilation + 1
    return patch + tile.channels * tile.rows * tile.depth * work.kernel[0] * work.kernel[1]


def _cycles(tile: Tile, work: Work) -> float:
    """Estimated cycles of one multiprocessor, whose four schedulers each start a warp's
    instruction per cycle.

    A step of the sum takes a multiply-add for each row, and loads of its weight and of the pixel;
    copying to shared memory takes about six instructions per number. Threads beyond whole warps
    are idle; a block that runs alone waits for memory at every chunk of channels.
    """
    taps = work.kernel[0] * work.kernel[1]
    warps = ceil(tile.threads / 32)
    chunks = work.per_group // tile.depth
    blocks = work.batch * work.groups * (work.per_group_out // (tile.channels * tile.rows))
    blocks *= (work.height // tile.height) * (work.width // tile.width)
    steps = work.per_group * taps * (2 * tile.rows + 1)
    copies = 6 * chunks * ceil(staged_numbers(tile, work) / tile.threads)
    issue = warps * (steps + copies) / 4
    # One warp alone starts an instruction every four cycles at best, however idle the rest is.
    alone = 4 * (steps + copies)
    each = ceil(blocks / work.multiprocessors)
    return max(each * issue, alone) + LAUNCH * chunks
