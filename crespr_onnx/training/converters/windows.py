"""How convolutions and pooling slide: strides, dilations, padding and rounding, for each axis."""

from dataclasses import dataclass

from crespr_onnx.training.converters.node import CannotConvertError, Node

Pads = list[tuple[int, int]]
"""Padding of each spatial axis, (before, after)."""


@dataclass(frozen=True)
class Windows:
    """A sliding window over spatial axes.

    Attributes:
        kernel: its length along each axis.
        strides: its steps.
        dilations: distance of its taps.
        pads: explicit padding, if `auto_pad` is NOTSET.
        auto_pad: NOTSET, VALID, SAME_UPPER or SAME_LOWER.
        ceil_mode: whether a window may end beyond the padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False

    @property
    def extents(self) -> tuple[int, ...]:
        """Distance from the first to the last tap of each axis, plus one."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_symmetric(self) -> bool:
        """Whether the padding is known and the same on both sides."""
        given = self.auto_pad in ("NOTSET", "VALID")
        return given and all(before == after for before, after in self.padding_given)

    @property
    def padding_given(self) -> Pads:
        """The explicit padding; none for VALID."""
        return [(0, 0)] * len(self.kernel) if self.auto_pad == "VALID" else list(self.pads)

    def padding(self, sizes: tuple[int, ...]) -> Pads:
        """The padding of an input of these spatial sizes, without what rounding up adds."""
        if self.auto_pad in ("NOTSET", "VALID"):
            return self.padding_given
        result = []
        for size, stride, extent in zip(sizes, self.strides, self.extents, strict=True):
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            less, more = total // 2, total - total // 2
            result.append((less, more) if self.auto_pad == "SAME_UPPER" else (more, less))
        return result

    def padding_to_fit(self, sizes: tuple[int, ...]) -> Pads:
        """The padding with which the last window ends exactly where the input does.

        A window that would begin in the padding after the input is left out.
        """
        result = []
        for (before, after), size, stride, extent in zip(
            self.padding(sizes), sizes, self.strides, self.extents, strict=True
        ):
            room = size + before + after - extent
            count = (-(-room // stride) if self.ceil_mode else room // stride) + 1
            if self.ceil_mode and (count - 1) * stride >= size + before:
                count -= 1
            result.append((before, (count - 1) * stride + extent - size - before))
        return result


def windows_of(node: Node, kernel: tuple[int, ...]) -> Windows:
    """Reads the attributes that Conv and the pooling operators share.

    Raises:
        CannotConvertError: beyond three spatial axes.
    """
    rank = len(kernel)
    if not 1 <= rank <= 3:
        raise CannotConvertError(f"it has {rank} spatial axes, and PyTorch takes 1 to 3")
    pads = node.get("pads", [0] * (2 * rank))
    return Windows(
        kernel=kernel,
        strides=tuple(node.get("strides", [1] * rank)),
        dilations=tuple(node.get("dilations", [1] * rank)),
        pads=tuple(zip(pads[:rank], pads[rank:], strict=True)),
        auto_pad=node.get("auto_pad", "NOTSET"),
        ceil_mode=bool(node.get("ceil_mode", 0)),
    )
