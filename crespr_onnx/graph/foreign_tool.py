"""Hands models to tools that work on one protobuf message, and takes back what they made."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import onnx
import onnx_ir as ir

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.parts import weight_bytes

MAX_BYTES = 2**30
"""Bytes of weights that fit into one message together with what a tool adds."""


def to_one_message(model: ir.Model) -> onnx.ModelProto:
    """A model as one message with all weights.

    Raises:
        ModelError: if they are too many for that.
    """
    size = weight_bytes(model)
    if size > MAX_BYTES:
        raise ModelError(
            f"the model has {size / 2**30:.1f} GiB of weights; number formats other than float32 "
            "are for models of at most 1 GiB"
        )
    return ir.to_proto(model)


def read_back(proto: onnx.ModelProto, original: ir.Model) -> ir.Model:
    """What a tool made, with the metadata of the original and none of the tool's own."""
    model: ir.Model = ir.from_proto(proto)
    model.metadata_props.clear()
    model.metadata_props.update(original.metadata_props)
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps a tool from printing, logging, and setting up logging for the whole process.

    What it has to say is found in the result, which is measured.
    """
    root = logging.getLogger()
    silent, disabled = logging.NullHandler(), root.manager.disable
    # With a handler there, logging.warning() does not install one that writes to stderr.
    root.addHandler(silent)
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(silent)
