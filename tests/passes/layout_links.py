"""Links of random networks, each an operator or a pattern of operators that real models have."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pass_helpers import normal


@dataclass
class Net:
    """A network under construction.

    Attributes:
        shape: of one sample of the last value, channels first (or last, if `last`).
        last: whether the channels are on the last axis.
        value: name of the last value.
        history: all values so far, with the shape of one sample.
    """

    shape: tuple[int, ...]
    last: bool = False
    value: str = "x"
    lines: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    history: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    @property
    def channels(self) -> int:
        return self.shape[-1 if self.last else 0]

    def array(self, array: np.ndarray[Any, Any]) -> str:
        name = f"k{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def weight(self, *shape: int) -> str:
        return self.array(normal(len(self.arrays), *shape) * np.float32(0.5))

    def ints(self, *values: int) -> str:
        return self.array(np.array(values, np.int64))

    def add(self, call: str, shape: tuple[int, ...] | None = None) -> str:
        """Appends an operator on the last value."""
        self.value, self.shape = f"v{len(self.lines)}", shape or self.shape
        self.lines.append(f"{self.value} = {call}")
        self.history.append((self.value, self.shape))
        return self.value

    def other(self, same: Callable[[tuple[int, ...]], bool]) -> tuple[str, tuple[int, ...]]:
        """An earlier value whose shape fits, the oldest."""
        found = (entry for entry in self.history if same(entry[1]))
        return next(found, (self.value, self.shape))


def conv(net: Net, n: int, stride: int = 1, op: str = "Conv") -> None:
    c, h, w = net.shape
    size = (n, -(-h // stride), -(-w // stride))
    weight = net.weight(*((n, c) if op == "Conv" else (c, n)), 3, 3)
    call = f"{op}<pads = [1, 1, 1, 1], strides = [{stride}, {stride}]>"
    net.add(f"{call}({net.value}, {weight}, {net.weight(n)})", size)


def dense(net: Net, n: int, op: str = "Gemm") -> None:
    shape = (*net.shape[:-1], n)
    if op == "MatMul":
        net.add(f"MatMul({net.value}, {net.weight(net.channels, n)})", shape)
        net.add(f"Add({net.value}, {net.weight(n)})")
    elif op == "Gemm":
        net.add(f"Gemm({net.value}, {net.weight(net.channels, n)}, {net.weight(n)})", shape)
    else:
        call = "Gemm<transB = 1, alpha = 0.5, beta = 2.0>"
        net.add(f"{call}({net.value}, {net.weight(n, net.channels)}, {net.weight(1, n)})", shape)


def twice(net: Net) -> None:
    """One weight that two layers share."""
    n = net.channels
    if len(net.shape) == 3:
        weight = net.weight(n, n, 1, 1)
        net.add(f"Conv({net.value}, {weight})")
        net.add(f"Conv({net.value}, {weight})")
    else:
        weight = net.weight(n, n)
        net.add(f"Gemm({net.value}, {weight})")
        net.add(f"Gemm<alpha = 0.5>({net.value}, {weight})")


def norm(net: Net) -> None:
    c = net.channels
    variance = net.array(normal(len(net.arrays), c) ** 2 + np.float32(0.5))
    a, b, m = net.weight(c), net.weight(c), net.weight(c)
    net.add(f"BatchNormalization({net.value}, {a}, {b}, {m}, {variance})")


def residual(net: Net) -> None:
    shape = net.shape
    net.add(f"Add({net.value}, {net.other(lambda other: other == shape)[0]})")


def shortcut(net: Net) -> None:
    """As in the ResNets for CIFAR: every second pixel, channels of zeros around."""
    start, (c, h, w) = net.value, net.shape
    conv(net, 2 * c, stride=2)
    bounds = [net.ints(0, 0), net.ints(h, w), net.ints(2, 3), net.ints(2, 2)]
    branch, shape = net.value, net.shape
    net.add(f"Slice({start}, {', '.join(bounds)})", (c, *shape[1:]))
    pads = net.ints(0, c // 2, 0, 0, 0, c - c // 2, 0, 0)
    net.add(f"Pad({net.value}, {pads})", shape)
    net.add(f"Add({branch}, {net.value})")


def concat(net: Net) -> None:
    place = -1 if net.last else 0
    shape = list(net.shape)

    def fits(other: tuple[int, ...]) -> bool:
        rest = [*other]
        rest[place] = shape[place]
        return len(other) == len(shape) and rest == shape

    other, found = net.other(fits)
    shape[place] += found[place]
    axis = len(shape) if net.last else 1
    net.add(f"Concat<axis = {axis}>({net.value}, {other})", tuple(shape))


def swap(net: Net) -> None:
    """Cuts the channels in two and joins the parts the other way round."""
    n, axis = net.channels, len(net.shape) if net.last else 1
    a, b, sizes = f"p{len(net.lines)}", f"q{len(net.lines)}", net.ints(n // 3 + 1, n - n // 3 - 1)
    net.lines.append(f"{a}, {b} = Split<axis = {axis}>({net.value}, {sizes})")
    net.add(f"Concat<axis = {axis}>({b}, {a})")


def pick(net: Net) -> None:
    n, axis = net.channels, len(net.shape) if net.last else 1
    net.add(f"Gather<axis = {axis}>({net.value}, {net.ints(*range(n - 1, -1, -1))})")


def depthwise(net: Net) -> None:
    c = net.channels
    call = f"Conv<group = {c}, pads = [1, 1, 1, 1]>"
    net.add(f"{call}({net.value}, {net.weight(c, 1, 3, 3)}, {net.weight(c)})")


def grouped(net: Net) -> None:
    """A convolution that has groups of its own already."""
    c, h, w = net.shape
    n = c + c % 2
    if c % 2:
        conv(net, n)
    net.add(f"Conv<group = 2>({net.value}, {net.weight(4, n // 2, 1, 1)})", (4, h, w))


def scale(net: Net) -> None:
    rest = (1,) * (0 if net.last else len(net.shape) - 1)
    net.add(f"Mul({net.value}, {net.weight(net.channels, *rest)})")


def output(net: Net) -> None:
    net.outputs.append(net.add(f"Tanh({net.value})"))


def flip(net: Net) -> None:
    """Products over another axis than that of the channels."""
    t, c = net.shape
    net.add(f"Transpose<perm = [0, 2, 1]>({net.value})", (c, t))
    net.add(f"MatMul({net.value}, {net.weight(t, t)})")
    net.add(f"Transpose<perm = [0, 2, 1]>({net.value})", (t, c))


def reshape(net: Net) -> None:
    """Flat and back: the channels are those of before."""
    size = int(np.prod(net.shape))
    shape = net.shape
    net.add(f"Reshape({net.value}, {net.ints(-1, size)})", (size,))
    net.add(f"Relu({net.value})")
    net.add(f"Reshape({net.value}, {net.ints(0, *shape[:-1], -1)})", shape)


def excite(net: Net) -> None:
    """Squeeze and excitation: each channel scaled by what all of them say."""
    start, shape = net.value, net.shape
    net.add(f"GlobalAveragePool({start})", (shape[0], 1, 1))
    conv(net, 4)
    net.add(f"Relu({net.value})")
    conv(net, shape[0])
    net.add(f"Sigmoid({net.value})")
    net.add(f"Mul({start}, {net.value})", shape)


def gate(net: Net) -> None:
    """Half of the channels open or close the other half."""
    n, axis = net.channels, len(net.shape) if net.last else 1
    if n % 2:
        return
    a, b, sizes = f"p{len(net.lines)}", f"q{len(net.lines)}", net.ints(n // 2, n // 2)
    net.lines.append(f"{a}, {b} = Split<axis = {axis}>({net.value}, {sizes})")
    half = (*net.shape[:-1], n // 2) if net.last else (n // 2, *net.shape[1:])
    net.add(f"Sigmoid({b})", half)
    net.add(f"Mul({a}, {net.value})")


def some(net: Net) -> None:
    """Every second channel from the second on."""
    n, axis = net.channels, len(net.shape) if net.last else 1
    if n < 2:
        return
    bounds = ", ".join(net.ints(i) for i in (1, n, axis, 2))
    taken = (*net.shape[:-1], n // 2) if net.last else (n // 2, *net.shape[1:])
    net.add(f"Slice({net.value}, {bounds})", taken)


def widen(net: Net) -> None:
    """Channels of zeros on both sides, and nothing that they are added to."""
    n, rank = net.channels, len(net.shape) + 1
    axis = rank - 1 if net.last else 1
    pads = [0] * (2 * rank)
    pads[axis], pads[rank + axis] = 1, 2
    wide = (*net.shape[:-1], n + 3) if net.last else (n + 3, *net.shape[1:])
    net.add(f"Pad({net.value}, {net.ints(*pads)})", wide)


def shuffle(net: Net) -> None:
    """Channels dealt out anew by way of more axes, as in ShuffleNet."""
    c, h, w = net.shape
    if c % 2:
        return
    net.add(f"Reshape({net.value}, {net.ints(0, 2, c // 2, h, w)})", (2, c // 2, h, w))
    net.add(f"Transpose<perm = [0, 2, 1, 3, 4]>({net.value})", (c // 2, 2, h, w))
    net.add(f"Reshape({net.value}, {net.ints(0, c, h, w)})", (c, h, w))


def mean(net: Net) -> None:
    """Less the mean over space."""
    axes = "[1]" if net.last else "[2, 3]"
    start, shape = net.value, net.shape
    small = (1, shape[1]) if net.last else (shape[0], 1, 1)
    net.add(f"ReduceMean<axes = {axes}>({start})", small)
    net.add(f"Sub({start}, {net.value})", shape)


def attend(net: Net) -> None:
    """Tokens that look at each other."""
    start, (t, c) = net.value, net.shape
    net.add(f"Transpose<perm = [0, 2, 1]>({start})", (c, t))
    net.add(f"MatMul({start}, {net.value})", (t, t))
    net.add(f"Softmax<axis = -1>({net.value})")
    net.add(f"MatMul({net.value}, {start})", (t, c))


def unary(call: str) -> Callable[[Net], None]:
    return lambda net: net.add(call.format(net.value)) and None


EVERYWHERE = (residual, concat, swap, pick, scale, output, gate, some, widen)
COMMON: dict[str, Callable[[Net], None]] = {
    "relu": unary("Relu({})"),
    **{link.__name__: link for link in EVERYWHERE},
}
IMAGE = COMMON | {
    "conv4": lambda net: conv(net, 4),
    "conv6": lambda net: conv(net, 6),
    "conv8": lambda net: conv(net, 8),
    "up": lambda net: conv(net, 4, op="ConvTranspose"),
    "norm": norm,
    "shortcut": shortcut,
    "depthwise": depthwise,
    "grouped": grouped,
    "twice": twice,
    "excite": excite,
    "shuffle": shuffle,
    "mean": mean,
    "pool": unary("MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>({})"),
    "reshape": reshape,
}
FLAT = COMMON | {
    "twice": twice,
    "gemm8": lambda net: dense(net, 8),
    "gemm4": lambda net: dense(net, 4, "transB"),
    "matmul8": lambda net: dense(net, 8, "MatMul"),
    "norm": norm,
}
TOKENS = COMMON | {
    "matmul4": lambda net: dense(net, 4, "MatMul"),
    "matmul8": lambda net: dense(net, 8, "MatMul"),
    "softmax": unary("Softmax<axis = 1>({})"),
    "flip": flip,
    "attend": attend,
    "mean": mean,
    "reshape": reshape,
}
