"""Turns a float32 model into one that computes in float16, by ONNX Runtime's converter."""

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.foreign_tool import quiet, read_back, to_one_message


def to_float16(model: ir.Model) -> ir.Model:
    """A copy with weights and activations in float16.

    Operators that do not exist in float16, or lose too much there, stay in float32 between casts,
    as do inputs and outputs, so that the model is called as before. Numbers beyond the range of
    float16 are cut off at its ends.

    Args:
        model: a float32 model with less than 2 GiB of weights; it stays as it is.

    Raises:
        ModelError: if the converter cannot take the model.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = to_one_message(model)
    try:
        with quiet():
            half = convert_float_to_float16(proto, keep_io_types=True)
            _drop_repeated_casts(half.graph)
            converted = read_back(half, model)
            # The casts of inputs and outputs are appended; TVM wants nodes in their order.
            TopologicalSortPass()(converted)
    # The converter raises whatever it stumbles over.
    except Exception as error:
        raise ModelError(
            f"the model cannot be converted to float16: {error or type(error).__name__}"
        ) from error
    return converted


def _drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """Keeps one of the casts that the converter makes for each reader of a tensor, all of one name.

    It makes them where several operators that stay in float32 read the same.
    """
    seen: set[str] = set()
    for node in list(graph.node):
        if node.op_type == "Cast" and node.output[0] in seen:
            graph.node.remove(node)
        seen.update(node.output)
