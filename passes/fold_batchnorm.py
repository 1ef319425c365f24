"""Inference-mode BatchNormalization goes into the weights of the layer before it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from crespr_onnx.passes.surgery import (
    Array,
    Names,
    add_constant,
    constant,
    input_at,
    is_op,
    only_consumer,
    remove_dead,
    set_constant,
    take_over,
)

Scale = Callable[[ir.Node, Array, NDArray[np.float64]], NDArray[np.float64]]


def _scale_conv(node: ir.Node, weight: Array, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Conv: weight [M, C/group, *kernel], output channel m is row m."""
    return np.asarray(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)))


def _scale_conv_transpose(
    node: ir.Node, weight: Array, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """ConvTranspose: weight [C, M/group, *kernel], its rows fall into one run per group."""
    group = node.attributes.get_int("group", 1)
    blocks = weight.reshape(group, -1, *weight.shape[1:])
    factors = scale.reshape(group, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
    return np.asarray(blocks * factors).reshape(weight.shape)


def _scale_gemm(node: ir.Node, weight: Array, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gemm: weight [n_in, M], or [M, n_in] with transB."""
    transposed = node.attributes.get_int("transB", 0) != 0
    return np.asarray(weight * (scale[:, None] if transposed else scale[None, :]))


_SCALE: dict[str, Scale] = {
    "Conv": _scale_conv,
    "ConvTranspose": _scale_conv_transpose,
    "Gemm": _scale_gemm,
}


def _outputs(layer: ir.Node, weight: Array) -> int:
    """Output channels of a layer."""
    if layer.op_type == "ConvTranspose":
        return int(weight.shape[1]) * layer.attributes.get_int("group", 1)
    transposed = layer.op_type == "Gemm" and layer.attributes.get_int("transB", 0) == 0
    return int(weight.shape[1 if transposed else 0])


def foldable_layer(norm: ir.Node) -> ir.Node | None:
    """The layer into which a BatchNormalization can be folded, or None.

    It can if it is in inference mode and has constant parameters, and if the Conv, ConvTranspose
    or Gemm before it feeds nothing else and shares its constant weight with no other node.
    """
    if not is_op(norm, "BatchNormalization") or norm.attributes.get_int("training_mode", 0) != 0:
        return None
    if any(output.uses() or output.is_graph_output() for output in norm.outputs[1:]):
        return None
    if norm.attributes.get_int("spatial", 1) != 1 or len(norm.inputs) != 5:
        return None
    data = norm.inputs[0]
    layer = data.producer() if data is not None else None
    if data is None or layer is None or not is_op(layer, *_SCALE) or layer.graph is not norm.graph:
        return None
    weight = input_at(layer, 1)
    array = constant(weight)
    if weight is None or array is None or only_consumer(data) is None:
        return None
    if only_consumer(weight) is None or array.dtype.kind != "f":
        return None
    n_out = _outputs(layer, array)
    parameters = [constant(value) for value in norm.inputs[1:]]
    if any(p is None or p.shape != (n_out,) for p in parameters):
        return None
    bias = input_at(layer, 2)
    if bias is None:
        return layer
    array = constant(bias)
    # The bias of a Gemm may also vary over the batch: then it is more than one number per channel.
    per_channel = array is not None and (
        array.size == 1 or (array.size == n_out and array.shape[-1] == n_out)
    )
    return layer if per_channel else None


@dataclass(frozen=True)
class FoldBatchNorm(ir.passes.InPlacePass):
    """Folds BatchNormalization into the Conv, ConvTranspose or Gemm before it.

    y = gamma (z - mean) / sqrt(var + eps) + beta with z = W x + b is W' x + b', where
    s = gamma / sqrt(var + eps), W' = s W and b' = s (b - mean) + beta (Ioffe and Szegedy, Batch
    Normalization, ICML 2015, algorithm 2 with the statistics of algorithm 1 fixed). Computed in
    float64, stored in the type of the weight. The layer's output takes the name of the
    normalised one, which is what it now holds. Layers that share their weight are left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        names = Names(model)
        modified = False
        for norm in list(model.graph):
            layer = foldable_layer(norm)
            if layer is not None:
                self._fold(model.graph, names, layer, norm)
                modified = True
        return ir.passes.PassResult(model, modified)

    def _fold(self, graph: ir.Graph, names: Names, layer: ir.Node, norm: ir.Node) -> None:
        gamma, beta, mean, variance = (
            np.asarray(constant(value), dtype=np.float64) for value in norm.inputs[1:]
        )
        scale = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))

        weight = layer.inputs[1]
        array = constant(weight)
        if weight is None or array is None:
            raise TypeError(f"{layer.name!r} passed foldable_layer without a constant weight")
        set_constant(weight, _SCALE[layer.op_type](layer, array, scale).astype(array.dtype))

        bias = input_at(layer, 2)
        old = constant(bias)
        before = np.zeros(1) if old is None else old.astype(np.float64).ravel()
        if layer.op_type == "Gemm":
            before = before * layer.attributes.get_float("beta", 1.0)
            layer.attributes.pop("beta", None)
        after = (scale * (before - mean) + beta).astype(array.dtype)
        if bias is not None and only_consumer(bias) is layer:
            set_constant(bias, after)
        else:
            layer.resize_inputs(3)
            name = names.fresh(f"{layer.name}/bias")
            layer.replace_input_with(2, add_constant(graph, name, after))

        take_over(layer.outputs[0], norm.outputs[0])
        remove_dead(norm.outputs[:1])
