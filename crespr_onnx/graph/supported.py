"""Which kinds of ONNX models crespr-onnx takes, decided before anything is allocated."""

from collections import Counter
from collections.abc import Iterable

import onnx

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.functions import check_functions
from crespr_onnx.graph.nested import graphs_of, nodes_of

OLDEST_OPSET = 7
# An If is not among them: its condition may turn out to be constant.
CONTROL_FLOW = frozenset({"Loop", "Scan", "SequenceMap"})
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


def check_supported(model: onnx.ModelProto, *, quantised: bool = False) -> None:
    """Refuses whole classes of models, each with its reason.

    Args:
        model: what was read.
        quantised: let quantised operators pass.

    Raises:
        ModelError: without operators, inputs or outputs; for an opset outside of OLDEST_OPSET to
            the newest that the onnx package knows; for loops, quantised operators, functions that
            cannot be inlined, sparse initializers, or a name that is given twice.
    """
    graph = model.graph
    if not graph.node:
        raise ModelError("the model holds no operators; is it a whole, trained model?")
    version = _check_opset(model)
    if any(inner.sparse_initializer for inner in graphs_of(graph)):
        raise ModelError("the model stores sparse initializers; store them dense")
    for body in (graph, *model.functions):
        for index, node in enumerate(nodes_of(body)):
            _check_node(node, index, version, quantised)
    check_functions(model)
    _check_interface(graph)


def node_title(node: onnx.NodeProto, index: int, version: int | None = None) -> str:
    """How messages call a node: its name, or its position if it has none; operator and opset."""
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if not node.domain and version is not None:
        op = f"{op} of opset {version}"
    return f"node {node.name!r} ({op})" if node.name else f"node {index} ({op})"


def _check_opset(model: onnx.ModelProto) -> int:
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
    return int(opset)


def _check_node(node: onnx.NodeProto, index: int, version: int, quantised: bool) -> None:
    title = node_title(node, index, version)
    has_graph = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    if node.op_type in CONTROL_FLOW or (has_graph and node.op_type != "If"):
        raise ModelError(
            f"{title} is control flow, which is not supported; "
            "export the model with the branch or the number of steps fixed"
        )
    if quantised:
        return
    if node.op_type in QUANTISED or node.op_type.startswith(QUANTISED_PREFIXES):
        raise ModelError(
            f"{title} is quantised; give the floating-point model, "
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
