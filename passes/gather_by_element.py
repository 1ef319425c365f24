"""Selections along the last axis become GatherElements, which runtimes do faster than Gather."""

from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from crespr_onnx.layout import SELECTION
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.surgery import constant, is_op, opset, remove_dead, take_over

FEWEST = 64
"""Selections of fewer channels stay: shaping the indices for a batch costs more than it gains."""
_GATHER_ELEMENTS_SINCE = 11


@dataclass(frozen=True)
class GatherByElement(InPlacePass):
    """Replaces a Gather [..., n] -> [..., m] that split_clusters.py put in front of a layer.

    Gather copies blocks, which along the last axis are single elements, at several nanoseconds
    each. GatherElements reads them one by one, but wants indices of the shape of its output: but
    for batches of one they are expanded when the model is loaded, or when it runs.
    """

    def call(self, model: ir.Model) -> PassResult:
        """Changes the model in place, which must have the shapes of its values inferred."""
        modified = False
        if opset(model) >= _GATHER_ELEMENTS_SINCE:
            work = _Replacement(Editor(model))
            for node in list(model.graph):
                modified |= work.replace(node)
        return PassResult(model, modified)


@dataclass(frozen=True, eq=False)
class _Replacement:
    """Replaces nodes one by one.

    Attributes:
        editor: makes new nodes.
        shapes: what the indices into a value are expanded to.
    """

    editor: Editor
    shapes: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def replace(self, node: ir.Node) -> bool:
        """Replaces a node if it is such a Gather and that pays; tells whether it did."""
        layer = node.metadata_props.get(SELECTION)
        if layer is None or not is_op(node, "Gather"):
            return False
        data, selection = node.inputs[0], constant(node.inputs[1])
        if data is None or data.shape is None or selection is None or len(data.shape) < 2:
            return False
        axis = len(data.shape) - 1
        single = all(dim == 1 for dim in data.shape[:-1])
        if node.attributes.get_int("axis", 0) != axis or (len(selection) < FEWEST and not single):
            return False
        row = selection.reshape(*[1] * axis, -1)
        indices = self.editor.constant(f"{layer}/selection", row)
        added = []
        if not single:
            added += self._shape(data, axis)
            added.append(
                self.editor.node("Expand", [indices, self.shapes[data]], f"{layer}/Expand")
            )
            indices = added[-1].outputs[0]
        added.append(
            self.editor.node(
                "GatherElements",
                [data, indices],
                f"{layer}/GatherElements",
                {"axis": axis},
                metadata=node.metadata_props,
            )
        )
        node.prepend(added)
        take_over(added[-1].outputs[0], node.outputs[0])
        remove_dead(node.outputs)
        return True

    def _shape(self, data: ir.Value, axis: int) -> list[ir.Node]:
        """The nodes that make the shape to expand indices to, unless they are there already.

        The axis of the selection is 1 in it, which leaves that axis as it is.
        """
        if data in self.shapes:
            return []
        name = f"{data.name}/leading"
        sizes = self.editor.leading_sizes(data, axis, name)
        parts = [sizes[-1].outputs[0], self.editor.constant(f"{name}/one", [1])]
        shape = self.editor.node("Concat", parts, f"{name}/Concat", {"axis": 0})
        self.shapes[data] = shape.outputs[0]
        return [*sizes, shape]
