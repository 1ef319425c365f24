"""Which kinds of ONNX models crespr-onnx takes, decided before anything is allocated."""

from collections import Counter
from collections.abc import Iterable

import onnx

from crespr_onnx.errors import ModelError

OLDEST_OPSET = 7
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
QUANTISED = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MatMulBnb4",
        "ConvInteger",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QMoE",
        "GatherBlockQuantized",
    }
)
QUANTISED_PREFIXES = ("QLinear", "QOrdered")


def check_supported(model: onnx.ModelProto) -> None:
    """Refuses whole classes of models, each with its reason.

    Raises:
        ModelError: without operators, inputs or outputs; for an opset outside of OLDEST_OPSET to
            the newest that the onnx package knows; for control flow, quantised operators, local
            functions, sparse initializers, or a name that is given twice.
    """
    graph = model.graph
    if not graph.node:
        raise ModelError("the model holds no operators; is it a whole, trained model?")
    _check_opset(model)
    if model.functions:
        names = sorted(function.name for function in model.functions)
        raise ModelError(
            f"the model defines functions of its own ({_some(names)}), which are not supported; "
            "inline them with onnx.inliner.inline_local_functions and save it again"
        )
    if graph.sparse_initializer:
        raise ModelError("the model stores sparse initializers; store them dense")
    for index, node in enumerate(graph.node):
        _check_node(node, index)
    _check_interface(graph)


def node_title(node: onnx.NodeProto, index: int) -> str:
    """How messages call a node: its name, or its position if it has none; and its operator."""
    return f"node {node.name!r} ({node.op_type})" if node.name else f"node {index} ({node.op_type})"


def _check_opset(model: onnx.ModelProto) -> None:
    newest = onnx.defs.onnx_opset_version()
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1:
        raise ModelError(
            f"the model imports the ONNX operators {len(versions)} times; exactly one opset "
            "must be declared; export it again"
        )
    (opset,) = versions
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"opset {opset} is older than {OLDEST_OPSET}, the oldest supported; "
            "convert the model with onnx.version_converter"
        )
    if opset > newest:
        raise ModelError(
            f"opset {opset} is newer than {newest}, the newest that onnx {onnx.__version__} knows; "
            "export with an older opset or upgrade onnx"
        )


def _check_node(node: onnx.NodeProto, index: int) -> None:
    has_graph = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    if node.op_type in CONTROL_FLOW or has_graph:
        raise ModelError(
            f"{node_title(node, index)} is control flow, which is not supported; "
            "export the model with the branch or the number of steps fixed"
        )
    if node.op_type in QUANTISED or node.op_type.startswith(QUANTISED_PREFIXES):
        raise ModelError(
            f"{node_title(node, index)} is quantised; give the floating-point model, "
            "and quantise the compressed one afterwards"
        )


def _check_interface(graph: onnx.GraphProto) -> None:
    initializers = [tensor.name for tensor in graph.initializer]
    inputs = [value.name for value in graph.input]
    outputs = [value.name for value in graph.output]
    computed = [name for node in graph.node for name in node.output if name]
    if set(inputs) <= set(initializers):
        raise ModelError("the model has no inputs, so its outputs are constant")
    if not outputs:
        raise ModelError("the model has no outputs; export it with its outputs declared")
    _check_unique("initializer", initializers)
    _check_unique("input", inputs)
    _check_unique("output", outputs)
    _check_unique("value", [*computed, *(set(inputs) | set(initializers))])
    for value in (*graph.input, *graph.output):
        tensor = value.type.WhichOneof("value") == "tensor_type"
        if tensor and not value.type.tensor_type.HasField("shape"):
            raise ModelError(
                f"{value.name!r} declares no shape; declare its rank, with names for the dynamic "
                "dimensions"
            )


def _check_unique(role: str, names: Iterable[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ModelError(f"{role} {twice[0]!r} is defined more than once; names must be unique")


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
