"""Writes a model as one protobuf message, weight by weight: no copy of all of them is made.

In the wire format (protobuf.dev/programming-guides/encoding) a message in a field is its tag, its
length and its content, and the fields of a message may come in any order.
"""

from typing import IO

import onnx

from crespr_onnx.graph.parts import Parts, Weight

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def stream_message(parts: Parts, file: IO[bytes]) -> None:
    """Writes a model to a file with all its weights in the message.

    Args:
        parts: the model, taken apart; less than 2 GiB together.
        file: open for writing.
    """
    rest = onnx.ModelProto()
    rest.CopyFrom(parts.proto)
    del rest.graph.initializer[:]
    graph = rest.graph.SerializeToString(deterministic=True)
    rest.ClearField("graph")
    weights = {weight.name: weight for weight in parts.weights}
    # Each initializer up to where its raw data begins.
    initializers = [(_head(t, weights), weights.get(t.name)) for t in parts.proto.graph.initializer]
    length = len(graph) + sum(len(h) + (w.tensor.nbytes if w else 0) for h, w in initializers)
    file.write(rest.SerializeToString(deterministic=True))
    file.write(_field(_GRAPH, length) + graph)
    for head, weight in initializers:
        file.write(head)
        if weight is not None:
            file.write(weight.raw().data)


def _head(tensor: onnx.TensorProto, weights: dict[str, Weight]) -> bytes:
    """An initializer as a field of the graph, without the raw data of a large one."""
    weight = weights.get(tensor.name)
    if weight is None:
        content = bytes(tensor.SerializeToString(deterministic=True))
        return _field(_INITIALIZER, len(content)) + content
    described = onnx.TensorProto()
    described.CopyFrom(tensor)
    described.ClearField("external_data")
    described.ClearField("data_location")
    nbytes = weight.tensor.nbytes
    content = bytes(described.SerializeToString(deterministic=True)) + _field(_RAW_DATA, nbytes)
    return _field(_INITIALIZER, len(content) + nbytes) + content


def _field(number: int, length: int) -> bytes:
    """Tag and length of a field that holds a message or bytes."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits per byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
