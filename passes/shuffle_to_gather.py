"""Channel shuffles, which exporters write as Reshape, Transpose and Reshape, become a Gather."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from crespr_onnx.layout import IntArray
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.surgery import (
    Dims,
    inferred_dims,
    is_op,
    only_consumer,
    remove_dead,
    take_over,
)


@dataclass(frozen=True)
class ShuffleToGather(ir.passes.InPlacePass):
    """Replaces [N, C, ...] -> [N, g, C/g, ...] -> transposed -> [N, C, ...] by a list of channels.

    ShuffleNet (Zhang et al. 2018, arXiv 1707.01083, section 3.1). A list can be folded into the
    order of the neighbours' channels, or at least be shortened when channels are dropped.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        if not any(is_op(node, "Transpose") for node in model.graph):
            return ir.passes.PassResult(model, False)
        dims, editor, modified = inferred_dims(model), Editor(model), False
        for node in list(model.graph):
            chain = _chain(node)
            order = None if chain is None else _order(chain, dims)
            if chain is None or order is None:
                continue
            first, last = chain[0], chain[-1]
            indices = editor.constant(f"{first.name}/shuffle", order)
            gather = editor.node(
                "Gather", [first.inputs[0], indices], f"{first.name}/Gather", {"axis": 1}
            )
            last.append(gather)
            take_over(gather.outputs[0], last.outputs[0])
            remove_dead(last.outputs)
            modified = True
        return ir.passes.PassResult(model, modified)


def _chain(first: ir.Node) -> tuple[ir.Node, ir.Node, ir.Node] | None:
    """Reshape, Transpose, Reshape, where nobody else reads what lies between."""
    if not is_op(first, "Reshape"):
        return None
    middle = only_consumer(first.outputs[0])
    last = only_consumer(middle.outputs[0]) if middle is not None else None
    if middle is None or last is None or last.inputs[0] is not middle.outputs[0]:
        return None
    if not is_op(middle, "Transpose") or not is_op(last, "Reshape"):
        return None
    return first, middle, last


def _order(chain: tuple[ir.Node, ir.Node, ir.Node], dims: dict[str, Dims]) -> IntArray | None:
    """Which channel each position of axis 1 shows, or None if the chain is no shuffle."""
    first, middle, last = chain
    perm = list(middle.attributes.get_ints("perm", ()))
    before, cut, after = (
        dims.get(v.name or "", ()) if v is not None else ()
        for v in (first.inputs[0], first.outputs[0], last.outputs[0])
    )
    n = len(before)
    if n < 2 or len(cut) != n + 1 or len(after) != n or perm != [0, 2, 1, *range(3, n + 1)]:
        return None
    groups, size, channels = cut[1], cut[2], before[1]
    if groups is None or size is None or channels != groups * size or after[1] != channels:
        return None
    # Space must come out as it went in, which only shows where its sizes are known.
    if cut[3:] != before[2:] or after[2:] != before[2:] or None in before[2:]:
        return None
    return np.arange(channels, dtype=np.int64).reshape(groups, size).T.ravel()
