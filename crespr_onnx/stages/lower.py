"""The graph passes in their order: from zeroed weights to separate smaller operators."""

import onnx_ir as ir
from onnx_ir.passes import InPlacePass

from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.passes.cancel_concat_split import CancelConcatSplit
from crespr_onnx.passes.cancel_reshapes import CancelReshapes
from crespr_onnx.passes.cleanup import Cleanup
from crespr_onnx.passes.drop_channels import DropChannels
from crespr_onnx.passes.fold_batchnorm import FoldBatchNorm
from crespr_onnx.passes.gather_by_element import GatherByElement
from crespr_onnx.passes.permute_channels import PermuteChannels
from crespr_onnx.passes.separate_groups import SeparateGroups
from crespr_onnx.passes.spec import check_split
from crespr_onnx.passes.split_clusters import SplitClusters
from crespr_onnx.stages.prepare import infer_shapes


def split(masked: ir.Model, graph: ChannelGraph, layout: Layout) -> ir.Model:
    """A copy in which dropped channels and weights between clusters are gone for good.

    Args:
        masked: the model, with zeros wherever the layout stores nothing; left as it is.
        graph: its channels.
        layout: clusters and dropped channels.

    Returns:
        The small model: clusters are grouped convolutions and batched products, BatchNorm is still
        there, so that it can be fine-tuned like any other model.
    """
    model = masked.clone(deep_copy=True)
    drop = DropChannels(graph, layout)
    permute = PermuteChannels(drop.graph_after(), drop.layout_after())
    _apply(model, drop, permute, SplitClusters(permute.graph_after(), permute.layout_after()))
    infer_shapes(model)
    _apply(model, CancelReshapes(), Cleanup())
    infer_shapes(model)
    check_split(model)
    return model


def finish(small: ir.Model, form: str) -> ir.Model:
    """A copy for inference: BatchNorm folded, clusters in the form that is asked for.

    Args:
        small: what `split` made, fine-tuned; left as it is.
        form: "grouped" keeps one operator per layer; "separate" makes one per cluster, and whole
            branches where neighbouring layers are both split.
    """
    model = small.clone(deep_copy=True)
    _apply(model, FoldBatchNorm())
    if form == "separate":
        _apply(model, SeparateGroups(), CancelConcatSplit())
    _apply(model, CancelReshapes(), Cleanup())
    infer_shapes(model)
    _apply(model, GatherByElement())
    infer_shapes(model)
    check_split(model)
    return model


def _apply(model: ir.Model, *passes: InPlacePass | ir.passes.PassBase) -> None:
    for graph_pass in passes:
        graph_pass(model)
