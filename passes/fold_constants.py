"""Constant nodes and arithmetic on constants become plain initializers."""

import logging
import math
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from onnxscript.optimizer import FOLDED_FROM_KEY, fold_constants_ir

from crespr_onnx.errors import ModelError
from crespr_onnx.passes.surgery import constant_ints, input_at, remove_dead

logger = logging.getLogger(__name__)

# A domain that the model does not import.
_HIDDEN = "crespr.hidden"
# What exporters compute shapes, pads and slice bounds with. The output of each is bounded by its
# inputs, except for those with an entry in `_elements`.
_ARITHMETIC = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Range",
        "ReduceProd",
        "Reshape",
        "Shape",
        "Sign",
        "Size",
        "Slice",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
        "Xor",
    ]
)


def _elements(node: ir.Node) -> int:
    """Elements of the output of an operator whose inputs say how large it is (0 for the others)."""
    if node.op_type == "ConstantOfShape":
        return math.prod(constant_ints(node.inputs[0]) or [])
    if node.op_type == "Expand":
        data = node.inputs[0]
        size = data.const_value.size if data is not None and data.const_value is not None else 1
        return size * math.prod(constant_ints(node.inputs[1]) or [])
    if node.op_type == "Tile":
        return math.prod(constant_ints(node.inputs[1]) or [])
    if node.op_type == "Range":
        start, limit, delta = (constant_ints(input_at(node, i)) for i in range(3))
        if not start or not limit or not delta or delta[0] == 0:
            return -1
        return max(0, math.ceil((limit[0] - start[0]) / delta[0]))
    return 0


@dataclass(frozen=True)
class FoldConstants(ir.passes.InPlacePass):
    """Makes Constant nodes and what is computed from constants alone plain initializers.

    Folded are integers, booleans and single floating-point numbers: what exporters compute pads,
    shapes and slice bounds with. Tensors of floating-point numbers are weights, which keep their
    names and the operators that read them. The evaluation is onnxscript's; it runs on a copy of
    the model, from which only the values of folded tensors are taken over, so that its other
    rewrites (Dropout, Identity, If, ...) stay out and no name changes.

    Attributes:
        max_elements: larger tensors are neither read nor written by the folding.

    Raises:
        ModelError: a Constant node is sparse.
    """

    max_elements: int = 1024

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if node.op_type == "Constant" and "sparse_value" in node.attributes:
                raise ModelError(
                    f"Constant node {node.name!r} holds a sparse tensor; only dense ones are "
                    "supported: export the model with dense weights."
                )
        lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        lifted = lift(model).modified
        return ir.passes.PassResult(model, self._fold(model) or lifted)

    def _fold(self, model: ir.Model) -> bool:
        folded = self._folded(model)
        modified = False
        for node in list(model.graph):
            if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
                continue
            output = node.outputs[0]
            tensor = folded.get(output.name or "")
            if tensor is None:
                continue
            operands = list(node.inputs)
            initializer = ir.val(
                output.name, const_value=tensor, metadata_props=dict(output.metadata_props)
            )
            output.replace_all_uses_with(initializer)
            model.graph.remove(node, safe=True)
            model.graph.register_initializer(initializer)
            remove_dead(operands)
            modified = True
        return modified

    def _folded(self, model: ir.Model) -> dict[str, ir.TensorProtocol]:
        """The tensors that folding a copy of the model computes, by name."""
        copy = model.clone()
        for node in ir.traversal.RecursiveGraphIterator(copy.graph):
            if node.op_type == "If":
                # Resolved there, it would take its folded condition away with it.
                node.domain = _HIDDEN
        try:
            fold_constants_ir(
                copy,
                input_size_limit=self.max_elements,
                output_size_limit=self.max_elements,
                should_fold=self._may_fold,
            )
        except RuntimeError as error:
            logger.warning("Constants are left as they are, since folding failed: %s", error)
            return {}
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
        return {
            name: value.const_value
            for name, value in copy.graph.initializers.items()
            # Only results carry this key: names that onnxscript makes up must not match ours.
            if FOLDED_FROM_KEY in value.meta
            and value.const_value is not None
            and value.const_value.size <= self.max_elements
        }

    def _may_fold(self, node: ir.Node) -> bool:
        if node.op_type not in _ARITHMETIC or node.domain != "":
            return False
        for value in node.inputs:
            tensor = value.const_value if value is not None else None
            if tensor is None:
                continue
            whole = tensor.dtype.is_integer() or tensor.dtype == ir.DataType.BOOL
            if tensor.size > (self.max_elements if whole else 1):
                return False
        return 0 <= _elements(node) <= self.max_elements
