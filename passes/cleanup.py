"""Removes what a graph does not need: operators that do nothing, unused nodes and initializers."""

import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass

from crespr_onnx.passes.remove_no_ops import RemoveNoOps
from crespr_onnx.passes.remove_unused import RemoveUnused


class Cleanup(ir.passes.Sequential):
    """No-ops out, then everything unused, then the nodes in topological order.

    Equal initializers are not merged: they would be one tied weight for training afterwards.
    """

    def __init__(self) -> None:
        super().__init__(RemoveNoOps(), RemoveUnused(), TopologicalSortPass())
