"""Split layers as separate ops: a grouped Conv or batched MatMul becomes Split, K ops, Concat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from crespr_onnx.passes.batched_matmul import match_batched_matmul
from crespr_onnx.passes.edit import Editor
from crespr_onnx.passes.surgery import (
    CLUSTERS,
    LAYER,
    MODULE,
    Array,
    clusters_of,
    constant,
    is_op,
    module_suffix,
    remove_dead,
    take_over,
    with_channels,
)


@dataclass(frozen=True)
class SeparateGroups(ir.passes.InPlacePass):
    """Lowers split layers to one op per cluster.

    A Conv or ConvTranspose with the mark crespr.clusters = K, or a batched MatMul of matrices with
    its reshapes (see `BatchedMatMul`), becomes Split, K ops named `<layer>/module_00` and so on,
    and Concat. Layers without the mark, and those whose reshapes were already cancelled, stay.

    Attributes:
        layers: names of the layers to lower, None for all.
    """

    layers: frozenset[str] | None = None

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        editor = Editor(model)
        made: dict[_Part, tuple[ir.Value, ...]] = {}
        modified = False
        for node in list(model.graph):
            clusters, name = clusters_of(node), layer_name(node)
            if clusters < 2 or (self.layers is not None and name not in self.layers):
                continue
            layer = _match(node, clusters)
            if layer is not None:
                _separate(editor, made, name, layer)
                modified = True
        return ir.passes.PassResult(model, modified)


_Part = tuple[ir.Value, int, str]
"""An initializer, and the K and the operator that it is cut for: layers that share it share those.
"""


def layer_name(node: ir.Node) -> str:
    """The layer that a node belongs to."""
    return node.metadata_props.get(LAYER) or node.name or ""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A split layer, form aside.

    Attributes:
        marked: the node that carries the marks.
        last: the node whose output is the layer's.
        data: input of the layer, channels on axis 1.
        n_in: channels of the input.
        n_out: channels of the output.
        op_type: operator of one module.
        attributes: of one module.
        parameters: per parameter its initializer and the part of each module.
    """

    marked: ir.Node
    last: ir.Node
    data: ir.Value
    n_in: int
    n_out: int
    op_type: str
    attributes: tuple[ir.Attr, ...]
    parameters: tuple[tuple[ir.Value, Sequence[Array]], ...]


def _match(node: ir.Node, clusters: int) -> _Layer | None:
    if is_op(node, "Conv", "ConvTranspose"):
        return _match_conv(node, clusters)
    return _match_matmul(node) if is_op(node, "MatMul") else None


def _match_conv(node: ir.Node, clusters: int) -> _Layer | None:
    group = node.attributes.get_int("group", 1)
    parameters = []
    for value in node.inputs[1:]:
        array = constant(value)
        if value is None or array is None or array.shape[0] % clusters:
            return None
        # Conv weight [M, C/group, ...], ConvTranspose weight [C, M/group, ...]: modules are rows.
        parameters.append((value, np.split(array, clusters)))
    if node.inputs[0] is None or not parameters or group % clusters:
        return None
    rows, columns = constant_shape(node.inputs[1])
    n_in, n_out = columns * group, rows
    if node.op_type == "ConvTranspose":
        n_in, n_out = n_out, n_in
    kept = [attribute for name, attribute in node.attributes.items() if name != "group"]
    kept.append(ir.AttrInt64("group", group // clusters))
    return _Layer(
        node, node, node.inputs[0], n_in, n_out, node.op_type, tuple(kept), tuple(parameters)
    )


def constant_shape(value: ir.Value | None) -> tuple[int, int]:
    """First two dimensions of a constant."""
    array = constant(value)
    return (0, 0) if array is None else (int(array.shape[0]), int(array.shape[1]))


def _match_matmul(node: ir.Node) -> _Layer | None:
    found = match_batched_matmul(node)
    if found is None or found.rank != 2 or node.inputs[1] is None:
        return None
    clusters, n_in, n_out = found.weight.shape
    parameters: list[tuple[ir.Value, Sequence[Array]]] = [(node.inputs[1], list(found.weight))]
    if found.bias is not None and found.bias_value is not None:
        parameters.append((found.bias_value, list(found.bias.reshape(clusters, n_out))))
    return _Layer(
        node, found.last, found.data, clusters * n_in, clusters * n_out, "Gemm", (),
        tuple(parameters),
    )  # fmt: skip


def _separate(
    editor: Editor, made: dict[_Part, tuple[ir.Value, ...]], name: str, layer: _Layer
) -> None:
    clusters = clusters_of(layer.marked)
    suffixes = [module_suffix(index, clusters) for index in range(clusters)]
    for value, arrays in layer.parameters:
        key = (value, clusters, layer.op_type)
        if key not in made:
            parts = zip(suffixes, arrays, strict=True)
            made[key] = tuple(editor.constant(f"{value.name}/{s}", array) for s, array in parts)
    split = editor.split(layer.data, 1, [layer.n_in // clusters] * clusters, name)
    result = layer.last.outputs[0]
    modules = []
    for index, (suffix, part) in enumerate(zip(suffixes, split.outputs, strict=True)):
        with_channels(part, layer.data, layer.n_in // clusters)
        own = [made[value, clusters, layer.op_type][index] for value, _ in layer.parameters]
        marks = {k: v for k, v in layer.marked.metadata_props.items() if k != CLUSTERS}
        marks.update({LAYER: name, MODULE: str(index)})
        output = ir.val(editor.fresh(f"{name}/{suffix}/output"))
        with_channels(output, result, layer.n_out // clusters)
        modules.append(
            ir.Node(
                "", layer.op_type, [part, *own], layer.attributes, outputs=[output],
                name=editor.fresh(f"{name}/{suffix}"), metadata_props=marks,
            )
        )  # fmt: skip
    outputs = [module.outputs[0] for module in modules]
    concat = editor.node("Concat", outputs, f"{name}/Concat", {"axis": 1})
    editor.graph.insert_before(layer.last, [split, *modules, concat])
    take_over(concat.outputs[0], result)
    remove_dead([result])
