"""What the rules for operators on parts of the channels share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from crespr_onnx.passes.forms import Step
from crespr_onnx.passes.surgery import (
    MODULE,
    Array,
    Dims,
    Names,
    add_constant,
    constant,
    module_suffix,
    with_channels,
)

Sizes = tuple[int, ...]
"""Channels of each part, in order."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Makes the nodes that compute parts of the channels (axis 1).

    Attributes:
        model: the model.
        names: its names.
        dims: shape of its values.
    """

    model: ir.Model
    names: Names
    dims: Mapping[str, Dims]

    def dims_of(self, value: ir.Value | None) -> Dims | None:
        """Shape of a value if its rank is known."""
        return None if value is None else self.dims.get(value.name or "")

    def rank_of(self, value: ir.Value | None) -> int | None:
        """Rank of a value if it is known."""
        dims = self.dims_of(value)
        return None if dims is None else len(dims)

    def copy(
        self,
        node: ir.Node,
        sizes: Sizes,
        index: int,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, ir.Attr] | None = None,
    ) -> ir.Node:
        """The node for one part: the same operator on other inputs."""
        suffix = module_suffix(index, len(sizes))
        whole = node.outputs[0]
        output = ir.val(self.names.fresh(f"{whole.name}/{suffix}"))
        with_channels(output, whole, sizes[index])
        return ir.Node(
            node.domain,
            node.op_type,
            inputs,
            dict(node.attributes if attributes is None else attributes),
            outputs=[output],
            name=self.names.fresh(f"{node.name}/{suffix}"),
            metadata_props={**node.metadata_props, MODULE: str(index)},
        )

    def slice_constant(self, value: ir.Value, axis: int, sizes: Sizes, index: int) -> ir.Value:
        """The part of a constant that belongs to a part of the channels, as a new initializer."""
        start, stop = bounds(sizes)[index]
        array = np.asarray(constant(value)).take(range(start, stop), axis=axis)
        return self.constant(value, sizes, index, array)

    def constant(
        self, value: ir.Value, sizes: Sizes, index: int, array: Array | Sequence[int]
    ) -> ir.Value:
        """A new initializer, named after the one whose place it takes for one part."""
        name = self.names.fresh(f"{value.name}/{module_suffix(index, len(sizes))}")
        return add_constant(self.model.graph, name, array)

    def on_first_input(
        self, node: ir.Node, sizes: Sizes, needed: Sizes | None = None
    ) -> Step[Sizes] | None:
        """The step of an operator that treats all channels of its first input alike."""
        data = node.inputs[0]
        if data is None:
            return None

        def build(index: int, parts: Sequence[ir.Value]) -> ir.Node:
            return self.copy(node, sizes, index, [parts[0], *node.inputs[1:]])

        return Step(((data, needed or sizes),), build)


Rule = Callable[[Parts, ir.Node, Sizes], Step[Sizes] | None]
"""How an operator computes its output in parts of these sizes; None if it cannot."""


def bounds(sizes: Sizes) -> list[tuple[int, int]]:
    """First channel of each part and the one after its last."""
    return list(pairwise([0, *np.cumsum(sizes).tolist()]))
