"""What goes wrong with bytes on disks and wires."""

from numpy.random import Generator
from onnx import ModelProto


def damage(model: ModelProto, rng: Generator) -> bytes:
    """The bytes of a model with one to five things wrong."""
    data = bytearray(model.SerializeToString())
    for _ in range(pick(rng, (1, 1, 2, 5))):
        pick(rng, BYTES)(data, rng)
    return bytes(data)


def pick(rng: Generator, items):
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def flip(data: bytearray, rng: Generator) -> None:
    if data:
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def insert(data: bytearray, rng: Generator) -> None:
    at = int(rng.integers(len(data) + 1))
    data[at:at] = rng.bytes(int(rng.integers(1, 9)))


def delete(data: bytearray, rng: Generator) -> None:
    at = int(rng.integers(len(data) + 1))
    del data[at : at + int(rng.integers(1, 9))]


def truncate(data: bytearray, rng: Generator) -> None:
    del data[int(rng.integers(len(data) + 1)) :]


def overwrite(data: bytearray, rng: Generator) -> None:
    at = int(rng.integers(len(data) + 1))
    data[at : at + 10] = b"\xff" * 10


BYTES = (flip, insert, delete, truncate, overwrite)
