"""Stores and computes the finished model in narrower numbers, and says layer by layer in which."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from crespr_onnx.data import Samples
from crespr_onnx.errors import DataError, ModelError
from crespr_onnx.graph.accounting import WEIGHTED
from crespr_onnx.graph.to_float16 import to_float16
from crespr_onnx.graph.to_int8 import ARM, GPU, X86, Int8Scheme, to_int8
from crespr_onnx.record import NarrowLayer
from crespr_onnx.settings import CompressSettings
from crespr_onnx.targets import find_target

CALIBRATION_SAMPLES = 512
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A model in narrower numbers.

    Attributes:
        model: the model; its interface is that of the float32 model.
        method: what made it, in words.
        samples: how many samples it was calibrated on.
    """

    model: ir.Model
    method: str
    samples: int = 0


def check_number_format(settings: CompressSettings) -> None:
    """Refuses a number format that these settings cannot give, before any work is done.

    Raises:
        DataError: for int8 without data.
    """
    if settings.number_format == "int8" and settings.data is None:
        raise DataError(
            "--number-format int8 needs --data, on which the range of every activation is "
            "measured; give some hundred samples (no labels), or take --number-format float16"
        )


def narrow(float32: ir.Model, train: Samples | None, settings: CompressSettings) -> Narrowed:
    """The finished model in the number format that the settings ask for.

    Args:
        float32: the model; left as it is.
        train: what int8 is calibrated on: up to 512 of these samples, drawn by the seed.
        settings: number format, target and seed.

    Raises:
        ModelError: if the tool that does it cannot take the model.
    """
    try:
        if settings.number_format == "float16":
            return Narrowed(to_float16(float32), "ONNX Runtime's float16 converter")
        if train is None:
            raise DataError("int8 needs samples to calibrate on")
        order = np.random.default_rng(settings.seed).permutation(len(train))
        chosen = train.subset(np.sort(order[:CALIBRATION_SAMPLES]))
        scheme = scheme_for(settings.target)
        model = to_int8(float32, chosen.batches(_BATCH), scheme)
    except ModelError as error:
        raise ModelError(
            f"{error}; --resume with another --number-format goes on from here"
        ) from error
    method = f"ONNX Runtime's static quantiser, QDQ, least to largest value: {scheme}"
    return Narrowed(model, method, len(chosen))


def scheme_for(target: str) -> Int8Scheme:
    """What a target's processor multiplies best in int8.

    Where x86 is not ruled out, weights have seven bits: what is measured here then holds on
    processors without VNNI, whose sums would overflow with eight.
    """
    found = find_target(target)
    if found.tvm.get("kind") == "cuda":
        return GPU
    return X86 if found.system is None else ARM


def narrow_layers(model: ir.Model) -> tuple[NarrowLayer, ...]:
    """In which numbers each Conv, ConvTranspose, Gemm and MatMul is stored, and why."""
    return tuple(
        NarrowLayer(node.name or "", node.op_type, *_format(node))
        for node in model.graph
        if node.domain == "" and node.op_type in WEIGHTED
    )


def _format(node: ir.Node) -> tuple[str, str]:
    """Number format of a node, and the reason."""
    operands = [value for value in node.inputs[:2] if value is not None]
    links = [link for value in operands if (link := value.producer()) is not None]
    dequantised = [link for link in links if link.op_type == "DequantizeLinear"]
    if len(dequantised) == len(operands):
        return "int8", _scales(node, dequantised)
    types = {v.dtype if v.const_value is None else v.const_value.dtype for v in operands}
    if ir.DataType.FLOAT16 in types:
        return "float16", "weights and activations, inside of the model"
    return "float32", "kept in float32 by ONNX Runtime's tool"


def _scales(node: ir.Node, dequantised: list[ir.Node]) -> str:
    """How the weights among the operands of a node are scaled."""
    for link in dequantised:
        weights, scale = (value.const_value if value else None for value in link.inputs[:2])
        if weights is None or scale is None:
            continue
        if len(scale.shape) > 0:
            return "a scale per channel"
        if node.op_type == "MatMul" and len(weights.shape) > 2:
            return "one scale: ONNX Runtime multiplies stacked matrices with no others in int8"
        return "one scale for all weights"
    return "a product of two activations"
