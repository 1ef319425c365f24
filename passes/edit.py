"""Making new nodes and constants, in the form that a model's opset knows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from crespr_onnx.passes.surgery import Array, Names, add_constant, opset, remove_dead


class Editor:
    """Makes nodes and constants for one model, each under a name that is still free.

    Nodes are not inserted: where they belong, only the caller knows.
    """

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self._names = Names(model)
        self._opset = opset(model)

    def fresh(self, name: str) -> str:
        """The name, or with a number where it is taken."""
        return self._names.fresh(name)

    def constant(self, name: str, array: Array | Sequence[int]) -> ir.Value:
        """A new initializer."""
        return add_constant(self.graph, self.fresh(name), array)

    def set_input(self, node: ir.Node, index: int, name: str, array: Array | Sequence[int]) -> None:
        """Gives a node a new constant as an input; what made the old one goes, if only for it."""
        old = node.inputs[index]
        node.replace_input_with(index, self.constant(name, array))
        remove_dead([old])

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
        metadata: Mapping[str, str] | None = None,
    ) -> ir.Node:
        """A node of the default domain whose outputs are named after it."""
        name = self.fresh(name)
        suffixes = [""] if outputs == 1 else [f"_{i:02d}" for i in range(outputs)]
        return ir.node(
            op_type,
            inputs,
            attributes=attributes or {},
            outputs=[ir.Value(name=self.fresh(f"{name}/out{suffix}")) for suffix in suffixes],
            name=name,
            metadata_props=dict(metadata or {}),
        )

    def slice(self, source: ir.Value, axis: int, start: int, end: int, name: str) -> ir.Node:
        """The range from `start` to `end` of one axis (its bounds are inputs from opset 10 on)."""
        bounds = {"starts": [start], "ends": [end], "axes": [axis]}
        if self._opset < 10:
            return self.node("Slice", [source], f"{name}/Slice", bounds)
        constants = [self.constant(f"{name}/{what}", value) for what, value in bounds.items()]
        return self.node("Slice", [source, *constants], f"{name}/Slice")

    def leading_sizes(self, source: ir.Value, axes: int, name: str) -> list[ir.Node]:
        """The sizes of the first `axes` axes (Shape itself can leave out the rest from 15 on)."""
        if self._opset >= 15:
            return [self.node("Shape", [source], f"{name}/Shape", {"end": axes})]
        whole = self.node("Shape", [source], f"{name}/Shape")
        return [whole, self.slice(whole.outputs[0], 0, 0, axes, name)]

    def pad(
        self, source: ir.Value, rank: int, axis: int, before: int, after: int, name: str
    ) -> ir.Node:
        """Zeros before and after one axis of `rank` (an input from opset 11 on)."""
        pads = np.zeros(2 * rank, dtype=np.int64)
        pads[axis], pads[rank + axis] = before, after
        if self._opset < 11:
            return self.node("Pad", [source], f"{name}/Pad", {"pads": pads.tolist()})
        return self.node("Pad", [source, self.constant(f"{name}/pads", pads)], f"{name}/Pad")

    def split(self, source: ir.Value, axis: int, sizes: Sequence[int], name: str) -> ir.Node:
        """One axis dealt out to several outputs (the sizes are an input from opset 13 on)."""
        if self._opset < 13:
            attributes = {"axis": axis, "split": list(sizes)}
            return self.node("Split", [source], f"{name}/Split", attributes, outputs=len(sizes))
        inputs = [source, self.constant(f"{name}/sizes", sizes)]
        return self.node("Split", inputs, f"{name}/Split", {"axis": axis}, outputs=len(sizes))
