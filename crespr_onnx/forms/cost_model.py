"""Estimates what a compiled form costs where nothing can be timed.

The time of a model is taken for a sum over what its kernels do, with coefficients that are not
negative, fitted to recorded times (`cost_model.json`, which says to which and how). Estimates serve
to compare forms of the same layer; they are no latencies.
"""

import json
from collections.abc import Mapping
from functools import cache
from math import ceil, prod
from pathlib import Path

import onnx_ir as ir

from crespr_onnx.forms.contest import Shapes, static_dims
from crespr_onnx.passes.surgery import is_op

FEATURES = ("call", "kernels", "vector_macs", "copied", "weights")
"""What is counted: calls of the model (one), calls of kernels, vector multiply-accumulates, with
lanes that are not used, elements that are copied from one tensor to another, weights stored."""
COPIES = ("Split", "Concat", "Gather", "GatherElements", "Slice", "Pad")
FILE = Path(__file__).with_name("cost_model.json")

Features = dict[str, float]


def features_of(model: ir.Model, shapes: Shapes, lanes: int) -> Features:
    """Counts what a model does once TVM has compiled it.

    Operators on single elements are fused into what makes their operand, and a Gather into the
    products that read it; a Reshape is a view, and a Transpose of one row moves nothing.

    Args:
        model: a model whose layers have their forms.
        shapes: of its inputs, for one sample.
        lanes: float32 numbers in a vector register.
    """
    dims = static_dims(model, shapes)
    found = dict.fromkeys(FEATURES, 0.0) | {"call": 1.0}
    for node in model.graph:
        if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
            found["kernels"] += 1
            found["vector_macs"] += _vector_macs(node, dims, lanes)
            weight = node.inputs[1]
            found["weights"] += prod(dims.get(weight.name or "", (0,))) if weight else 0
        elif is_op(node, *COPIES) and _moves_numbers(node) and not _is_fused(node):
            found["kernels"] += len(node.outputs)
            found["copied"] += sum(prod(dims.get(v.name or "", (0,))) for v in node.outputs)
    return found


def _vector_macs(node: ir.Node, dims: Shapes, lanes: int) -> float:
    """Inner loops run over output channels of one cluster, in whole vectors."""
    weight = node.inputs[1]
    shape = dims.get((weight.name if weight else None) or "", ())
    data, out = (dims.get(v.name or "", ()) if v else () for v in (node.inputs[0], node.outputs[0]))
    if not shape or not out or not data:
        return 0.0
    if node.op_type in ("Gemm", "MatMul"):
        # [n, m], or [K, n, m] in clusters; the weight of a Gemm may be transposed.
        turned = node.attributes.get_int("transB", 0) == 1
        *stack, n, m = (*shape[:-2], shape[-1], shape[-2]) if turned else shape
        rows = prod(out) // max(1, m * prod(stack))
        return rows * prod(stack) * n * ceil(m / lanes)
    groups = node.attributes.get_int("group", 1)
    if node.op_type == "ConvTranspose":
        return (
            prod(data[2:])
            * groups
            * (shape[0] // groups)
            * ceil(shape[1] / lanes)
            * prod(shape[2:])
        )
    return prod(out[2:]) * groups * prod(shape[1:]) * ceil(shape[0] / groups / lanes)


def _moves_numbers(node: ir.Node) -> bool:
    """Whether it copies what is computed: shapes are known when a model is compiled."""
    data = node.inputs[0]
    return data is not None and data.dtype is not None and data.dtype.is_floating_point()


def _is_fused(node: ir.Node) -> bool:
    """A Gather that a layer reads: its kernel picks what it needs itself."""
    if not node.op_type.startswith("Gather"):
        return False
    return all(
        is_op(use.node, "Conv", "ConvTranspose", "Gemm", "MatMul", "Reshape")
        for use in node.outputs[0].uses()
    )


@cache
def load_coefficients() -> Mapping[str, float]:
    """Microseconds per unit of each feature."""
    return {name: float(x) for name, x in json.loads(FILE.read_text("utf-8"))["us"].items()}


def estimate(model: ir.Model, shapes: Shapes, lanes: int) -> float:
    """What a model costs, in units that compare forms of one model; smaller is faster."""
    coefficients = load_coefficients()
    return 1e-3 * sum(coefficients[k] * v for k, v in features_of(model, shapes, lanes).items())
