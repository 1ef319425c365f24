"""Padding that an operator works out at run time becomes numbers, where these are fixed."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.surgery import Dims, constant, inferred_dims, input_at, is_op

_WINDOWED = ("AveragePool", "Conv", "LpPool", "MaxPool")


@dataclass(frozen=True)
class ExplicitPads(ir.passes.InPlacePass):
    """Writes the padding of auto_pad as pads, after the formula of the ONNX operators.

    It depends on the size of the input, unless the stride is 1; where neither that nor the size is
    fixed the node stays as it is. SAME_UPPER is left alone by default: everything understands it,
    while TVM 0.27 takes SAME_LOWER of a MaxPool for no padding at all.

    Attributes:
        modes: values of auto_pad to replace.
    """

    modes: tuple[str, ...] = ("SAME_LOWER",)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        nodes = [node for node in model.graph if is_op(node, *_WINDOWED) and self._mode(node)]
        dims = inferred_dims(model) if nodes else {}
        modified = False
        for node in nodes:
            pads = _pads(node, dims.get(_name(node.inputs[0])), self._mode(node))
            if pads is not None:
                del node.attributes["auto_pad"]
                node.attributes["pads"] = ir.AttrInt64s("pads", pads)
                modified = True
        return ir.passes.PassResult(model, modified)

    def _mode(self, node: ir.Node) -> str:
        """The mode to replace, or nothing."""
        mode = node.attributes.get_string("auto_pad", "NOTSET")
        return mode if mode in self.modes else ""


def _pads(node: ir.Node, shape: Dims | None, mode: str) -> list[int] | None:
    """Starts of all axes, then ends; None where they are not fixed."""
    kernel = _kernel(node)
    if kernel is None:
        return None
    rank = len(kernel)
    strides = node.attributes.get_ints("strides", [1] * rank)
    dilations = node.attributes.get_ints("dilations", [1] * rank)
    sizes: Sequence[int | None] = [None] * rank if shape is None else shape[2:]
    starts, ends = [], []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        if stride != 1 and size is None:
            return None
        outputs = 1 if size is None else -(-size // stride)
        covered = (outputs - 1) * stride + (window - 1) * dilation + 1
        total = max(0, covered - (1 if size is None else size))
        less, more = total // 2, total - total // 2
        upper = mode == "SAME_UPPER"
        starts.append(less if upper else more)
        ends.append(more if upper else less)
    return [*starts, *ends]


def _kernel(node: ir.Node) -> list[int] | None:
    given = node.attributes.get_ints("kernel_shape", [])
    if given:
        return list(given)
    weight = constant(input_at(node, 1))
    return None if weight is None else list(weight.shape[2:])


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
