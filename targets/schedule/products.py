"""What a kernel of ours multiplies, as plain data: enough to name, tile and build it alone."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import Any, ClassVar

from crespr_onnx.targets.schedule.axis import Axis
from crespr_onnx.targets.schedule.machine import Machine
from crespr_onnx.targets.schedule.tiles import Problem, Tile, choose_tile

FIRST_LEVEL = 8 * 1024
"""Numbers that a first-level cache holds."""
SECOND_LEVEL = 256 * 1024
"""The same of a second-level cache."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with constant weights.

    Attributes:
        data: shape of what it reads, [N, C, H, W].
        weight: shape of the weights, [O, I/groups, kh, kw].
        groups: how many.
        rows: its geometry along H.
        columns: the same along W.
        reads: how many of the C channels it picks, repeats counted, or None if it reads all.
    """

    OP: ClassVar[str] = "conv2d"

    data: tuple[int, ...]
    weight: tuple[int, ...]
    groups: int
    rows: Axis
    columns: Axis
    reads: int | None

    @property
    def problem(self) -> Problem:
        """What its tile is to cover."""
        length = (self.rows.out - 1) * self.columns.pitch() + self.columns.out
        depth = prod(self.weight[1:])
        # Several taps find in the first-level cache what one of them has loaded.
        far = self.weight[2:] == (1, 1) and depth * length > FIRST_LEVEL
        return Problem(length, self.weight[0] // self.groups, depth, far=far)

    def packed(self, tile: Tile) -> tuple[int, ...]:
        """Shape of the weights as the kernel wants them; see `conv2d.pack_weight`."""
        out, *rest = self.weight
        return (self.groups, ceil(out // self.groups / tile.rows), *rest, tile.rows)

    @property
    def reads_shape(self) -> tuple[int, ...] | None:
        """Shape of the positions that are picked."""
        return None if self.reads is None else (self.reads,)

    @property
    def readable(self) -> int:
        """How many positions there are to pick from."""
        return self.data[1]

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (self.data[0], self.weight[0], self.rows.out, self.columns.out)

    def __str__(self) -> str:
        """For people: ``conv2d 16x16x3x3 on 1x16x32x32``."""
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return f"{self.OP} {_by(self.weight)} on {_by(self.data)}{groups}"


@dataclass(frozen=True)
class MatrixProduct:
    """A product, or several, with constant matrices.

    Attributes:
        data: shape of what is read, [..., M, K], or [..., M, n] where each product picks K of n.
        weight: shape of the matrices, [B, K, N].
        out: shape of the result, [..., M, N] with B among the leading axes, or [M, B N].
        picks: whether it picks.
    """

    OP: ClassVar[str] = "matmul"

    data: tuple[int, ...]
    weight: tuple[int, ...]
    out: tuple[int, ...]
    picks: bool

    @property
    def problem(self) -> Problem:
        """What its tile is to cover."""
        batches, depth, columns = self.weight
        rows = prod(self.out) // (batches * columns)
        # More rows find what the first one has loaded in the caches.
        streamed = rows == 1 and prod(self.weight) > SECOND_LEVEL
        return Problem(columns, rows, depth, max_rows=8, apart=True, streamed=streamed)

    def packed(self, tile: Tile) -> tuple[int, ...]:
        """Shape of the weights as the kernel wants them; see `matmul.pack_weight`."""
        batches, depth, columns = self.weight
        return (batches, ceil(columns / tile.span), depth, tile.span)

    @property
    def reads_shape(self) -> tuple[int, ...] | None:
        """Shape of the positions that are picked."""
        return self.weight[:2] if self.picks else None

    @property
    def readable(self) -> int:
        """How many positions there are to pick from."""
        return self.data[-1]

    @property
    def result(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.out

    def __str__(self) -> str:
        """For people: ``matmul 8x50x12 on 1x400``."""
        return f"{self.OP} {_by(self.weight)} on {_by(self.data)}"


Product = Convolution | MatrixProduct


def tile_of(machine: Machine, product: Product) -> Tile:
    """The tile that was measured to be the fastest, or else is estimated to be."""
    return machine.tiles.get(product) or choose_tile(machine, product.problem)


def to_text(product: Product) -> str:
    """One line that `from_text` reads again; equal for equal products only."""
    return json.dumps({"op": product.OP, **asdict(product)}, separators=(",", ":"))


def from_text(text: str) -> Product:
    """The product of a line that `to_text` wrote.

    Raises:
        ValueError: it is none.
    """
    try:
        return _from_fields(json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{text[:80]!r} is no product") from error


def _from_fields(fields: Mapping[str, Any]) -> Product:
    shapes = tuple(fields["data"]), tuple(fields["weight"])
    if fields["op"] == Convolution.OP:
        axes = Axis(**fields["rows"]), Axis(**fields["columns"])
        return Convolution(*shapes, fields["groups"], *axes, fields["reads"])
    if fields["op"] == MatrixProduct.OP:
        return MatrixProduct(*shapes, tuple(fields["out"]), fields["picks"])
    raise KeyError(fields["op"])


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
