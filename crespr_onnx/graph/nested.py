"""Walks a model with all that is nested in it: branches, loop bodies and local functions."""

from collections.abc import Iterator, Sequence

import onnx


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph in an attribute of a node, wherever that is."""
    yield graph
    yield from _graphs_below(graph.node)


def nodes_of(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph or function, and of the graphs in it."""
    yield from body.node
    for inner in _graphs_below(body.node):
        yield from inner.node


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model."""
    yield from nodes_of(model.graph)
    for function in model.functions:
        yield from nodes_of(function)


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every initializer and every tensor in an attribute."""
    for graph in graphs_of(model.graph):
        yield from graph.initializer
    for function in model.functions:
        for graph in _graphs_below(function.node):
            yield from graph.initializer
        yield from _in_attributes(function.attribute_proto)
    for node in all_nodes(model):
        yield from _in_attributes(node.attribute)


def _graphs_below(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)
            for graph in attribute.graphs:
                yield from graphs_of(graph)


def _in_attributes(attributes: Sequence[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
