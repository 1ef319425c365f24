"""What a compiled model does, as plain data: which kernel runs when, on which memory."""

from dataclasses import dataclass
from typing import Literal

ALIGNMENT = 64
"""Bytes; compiled code reads whole cache lines."""

BITS = {"float": "f", "int": "i", "uint": "u", "bool": "b"}


@dataclass(frozen=True)
class PlannedTensor:
    """An array at a fixed place.

    Attributes:
        place: whether it is a constant, or in the memory that a run works in.
        offset: bytes from the beginning of that place.
        shape: its size along each axis.
        dtype: such as float32.
    """

    place: Literal["constants", "memory"]
    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Step:
    """A call of a kernel: its symbol, and its arguments as indices of tensors."""

    kernel: str
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Everything a run does.

    Attributes:
        tensors: all tensors; several may share memory one after another, or be views.
        steps: the calls in their order.
        inputs: indices of the tensors that hold the inputs, in the model's order.
        outputs: the same of the outputs.
        memory: bytes of the memory that a run works in, inputs and outputs included.
        constants: the constants, each at a multiple of `ALIGNMENT`.
    """

    tensors: tuple[PlannedTensor, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    memory: int
    constants: bytes


def item(dtype: str) -> tuple[str, int]:
    """Kind, as NumPy names it, and bytes of an element; ("f", 4) for float32.

    Raises:
        ValueError: it is not a number of whole bytes.
    """
    name = dtype.rstrip("0123456789")
    bits = int(dtype[len(name) :] or 8)
    if name not in BITS or bits % 8:
        raise ValueError(f"{dtype} is not a number of whole bytes")
    return BITS[name], bits // 8


def aligned(size: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT
