"""The graph passes in their order: from zeroed weights to separate smaller operators."""

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes import InPlacePass

from crespr_onnx.layout import ChannelGraph, Layout
from crespr_onnx.passes.cancel_concat_split import CancelConcatSplit
from crespr_onnx.passes.cancel_reshapes import CancelReshapes
from crespr_onnx.passes.cleanup import Cleanup
from crespr_onnx.passes.drop_channels import DropChannels
from crespr_onnx.passes.fold_batchnorm import FoldBatchNorm
from crespr_onnx.passes.gather_by_element import GatherByElement
from crespr_onnx.passes.layer_forms import Form, split_layers
from crespr_onnx.passes.merge_groups import MergeGroups
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
    _apply(model, Cleanup())
    infer_shapes(model)
    check_split(model)
    return model


def fold(small: ir.Model) -> ir.Model:
    """A copy for inference, whose split layers can still take any form.

    Args:
        small: what `split` made, fine-tuned; left as it is.
    """
    model = small.clone(deep_copy=True)
    _apply(model, FoldBatchNorm())
    infer_shapes(model)
    return model


def arrange(folded: ir.Model, forms: Mapping[str, Form]) -> ir.Model:
    """A copy whose split layers have the forms that are asked for, as far as they can.

    Args:
        folded: what `fold` made, or a part of it; left as it is.
        forms: by layer; those that are not named stay grouped.
    """
    model = folded.clone(deep_copy=True)
    separate = frozenset(name for name, form in forms.items() if form == "separate")
    dense = frozenset(name for name, form in forms.items() if form == "dense")
    _apply(model, MergeGroups(dense))
    if separate:
        _apply(model, SeparateGroups(separate), CancelConcatSplit())
    _apply(model, CancelReshapes(), Cleanup())
    infer_shapes(model)
    _apply(model, GatherByElement())
    infer_shapes(model)
    check_split(model)
    return model


def finish(small: ir.Model, form: Form) -> ir.Model:
    """A copy for inference in which all split layers have one form."""
    folded = fold(small)
    return arrange(folded, dict.fromkeys(split_layers(folded), form))


def _apply(model: ir.Model, *passes: InPlacePass | ir.passes.PassBase) -> None:
    for graph_pass in passes:
        graph_pass(model)
