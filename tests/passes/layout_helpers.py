"""Small models with a layout given by group, for the tests of the passes that lower one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
from internal_selections import internal_selections
from pass_helpers import assert_interface_kept, assert_same_outputs

from crespr_onnx.graph.channels import find_channels
from crespr_onnx.layout import ChannelGraph, Layout, dense_layout
from crespr_onnx.stages.masking import mask_weights
from crespr_onnx.stages.prepare import infer_shapes


def channels_of(proto: onnx.ModelProto) -> ChannelGraph:
    """The channels of a model."""
    model = ir.from_proto(proto)
    infer_shapes(model)
    return find_channels(model)[0]


def layout_of(graph: ChannelGraph, **labels: Sequence[int]) -> Layout:
    """A layout with labels by group; the other groups are shared. `__2` in a name means `#2`.

    Clusters read those of the same label, where both sides of an edge have as many.
    """
    layout = dense_layout(graph)
    by_name = {group.name: i for i, group in enumerate(graph.groups)}
    for name, wanted in labels.items():
        i = by_name[name.replace("__", "#")]
        assert graph.groups[i].frozen is None, graph.groups[i].frozen
        layout.labels[graph.groups[i].channels] = wanted
        layout.clusters[i] = max(wanted) + 1
    return replace(layout, selections=internal_selections(graph, layout))


def masked(proto: onnx.ModelProto, graph: ChannelGraph, layout: Layout) -> onnx.ModelProto:
    """The model with zeros wherever the layout stores nothing, and with all shapes."""
    model = ir.from_proto(proto)
    infer_shapes(model)
    mask_weights(model, graph, layout)
    return ir.to_proto(model)


def reordered(
    pass_: ir.passes.PassBase, before: onnx.ModelProto, *, modified: bool = True
) -> onnx.ModelProto:
    """Runs a pass that reorders channels; unlike `apply`, it may not run twice by one graph."""
    model = ir.from_proto(before)
    infer_shapes(model)
    assert pass_(model).modified == modified
    after = ir.to_proto(model)
    # The shapes that the pass wrote must be those that inference finds.
    onnx.checker.check_model(after, full_check=True)
    assert_interface_kept(before, after)
    assert_same_outputs(before, after)
    return after


def attribute(model: onnx.ModelProto, node: str, name: str) -> object:
    """An attribute of the node with this name."""
    (found,) = [n for n in model.graph.node if n.name == node]
    return {a.name: onnx.helper.get_attribute_value(a) for a in found.attribute}[name]


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the initializers."""
    return {t.name: tuple(t.dims) for t in model.graph.initializer}


def equal(array: np.ndarray, expected: np.ndarray) -> bool:
    """Whether an array is exactly another."""
    return array.shape == expected.shape and bool((array == expected).all())
