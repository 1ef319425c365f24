"""From operators to fused functions, with kernels of our own where there are any."""

from collections.abc import Callable, Mapping

import tvm
from tvm import relax

from crespr_onnx.targets.schedule.selected import Kernels, read_selected

Legalizer = Callable[[relax.BlockBuilder, relax.Call], relax.Expr | None]
"""Replaces a call of an operator by a kernel of ours; None if that does not apply."""


def lower(
    module: tvm.IRModule, legalizers: Mapping[str, Legalizer], kernels: Kernels
) -> tvm.IRModule:
    """Replaces operators by functions and fuses these; none of them is scheduled yet.

    Args:
        module: as imported.
        legalizers: ours by operator; TVM's own take what they leave.
        kernels: those that pick what they read.
    """
    plain = tvm.transform.Sequential(
        [
            relax.backend.DispatchSampling(),
            relax.backend.DispatchSortScan(),
            relax.transform.DecomposeOpsForInference(),
            relax.transform.CanonicalizeBindings(),
            relax.transform.FoldConstant(),
        ]
    )(module)
    ours = {op: _or_default(op, legalizer) for op, legalizer in legalizers.items()}
    return tvm.transform.Sequential(
        [
            # First everything else, so that weights that are computed become constants.
            relax.transform.LegalizeOps(skip_ops=list(ours)),
            relax.transform.FoldConstant(),
            relax.transform.LegalizeOps(ours),
            relax.transform.FoldConstant(),
            relax.transform.DeadCodeElimination(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            # A reshape on its own becomes a view; once scheduled it is not recognised.
            relax.transform.RewriteDataflowReshape(),
            relax.transform.DeadCodeElimination(),
        ]
    )(read_selected(plain, kernels))


def _or_default(op: str, ours: Legalizer) -> Callable[[relax.BlockBuilder, relax.Call], relax.Expr]:
    default = tvm.ir.Op.get(op).get_attr("FLegalize")

    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        replaced = ours(builder, call)
        return default(builder, call) if replaced is None else replaced

    return legalize
