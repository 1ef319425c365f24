"""Sizes and bounds that are computed at run time, but known, become constants."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.known_entries import known_entries
from crespr_onnx.passes.surgery import constant_ints, input_at, is_op

_SIZES: Mapping[str, tuple[int, ...]] = {
    "Expand": (1,),
    "Pad": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
}
"""Inputs that hold sizes or bounds, by operator."""


@dataclass(frozen=True)
class FixSizes(ir.passes.InPlacePass):
    """Replaces sizes and bounds all of whose entries follow from dimensions that are fixed.

    PyTorch's `chunk`, for one, is exported as Slices whose bounds are computed from the number of
    channels. What only the batch decides stays. Reshapes are the matter of `FixReshapeTargets`.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        editor, modified = Editor(model), False
        for node in model.graph:
            if not is_op(node, *_SIZES):
                continue
            for index in _SIZES[node.op_type]:
                computed = input_at(node, index)
                if computed is None or constant_ints(computed) is not None:
                    continue
                entries = known_entries(computed) or []
                sizes = [entry for entry in entries if isinstance(entry, int)]
                if not sizes or len(sizes) < len(entries):
                    continue
                editor.set_input(node, index, f"{node.name}/input_{index}", sizes)
                modified = True
        return ir.passes.PassResult(model, modified)
