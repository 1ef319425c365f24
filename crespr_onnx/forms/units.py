"""The parts of a model whose form is chosen together: split layers, and chains of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from crespr_onnx.layout import SELECTION
from crespr_onnx.passes.channel_rules import CHANNEL_RULES, UNARY
from crespr_onnx.passes.layer_forms import split_layers
from crespr_onnx.passes.separate_groups import layer_name
from crespr_onnx.passes.surgery import LAYER, clusters_of, is_op, only_consumer


@dataclass(frozen=True, eq=False)
class Unit:
    """Split layers whose form is chosen together.

    Attributes:
        layers: their names, in topological order.
        nodes: what computes them, with the selections in front, the operators between them and
            the activations behind; in topological order.
    """

    layers: tuple[str, ...]
    nodes: tuple[ir.Node, ...]

    @property
    def name(self) -> str:
        """The first of its layers."""
        return self.layers[0]


def find_units(folded: ir.Model) -> list[Unit]:
    """The units of a model whose split layers are all grouped, with their reshapes.

    Neighbours are one unit where the Concat behind the clusters of one and the Split in front of
    those of the next may cancel: both have as many clusters, only operators that keep channels
    apart lie between them, and no selection.
    """
    own = {name: _Layer(name, []) for name in split_layers(folded)}
    for node in folded.graph:
        name = node.metadata_props.get(SELECTION) or node.metadata_props.get(LAYER)
        name = name or layer_name(node)
        if name in own:
            own[name].nodes.append(node)
    layer_of = {node: name for name, layer in own.items() for node in layer.nodes}
    joined = {name: {name} for name in own}
    between: dict[str, set[ir.Node]] = {name: set() for name in own}
    for layer in own.values():
        if layer.selects:
            continue
        above, path = _neighbours(layer, layer_of)
        for name in above:
            if own[name].clusters == layer.clusters:
                _join(joined, between, name, layer.name)
                between[layer.name] |= path
    order = {node: i for i, node in enumerate(folded.graph)}
    units = []
    for name in own:
        members = joined[name]
        if name != min(members, key=list(own).index):
            continue
        nodes = {node for member in members for node in own[member].nodes} | between[name]
        nodes |= set(_activations(nodes))
        layers = tuple(member for member in own if member in members)
        units.append(Unit(layers, tuple(sorted(nodes, key=order.__getitem__))))
    return units


def part_of(folded: ir.Model, unit: Unit) -> ir.Model:
    """A unit as a model of its own; its inputs and outputs have the names that they have inside."""
    nodes = set(unit.nodes)
    inputs = dict.fromkeys(
        value
        for node in unit.nodes
        for value in node.inputs
        if value is not None and not value.is_initializer() and value.producer() not in nodes
    )
    outputs = [
        value
        for node in unit.nodes
        for value in node.outputs
        if value.is_graph_output() or any(use.node not in nodes for use in value.uses())
    ]
    graph = ir.convenience.extract(folded.graph, list(inputs), outputs)
    graph.opset_imports.update(folded.opset_imports)
    return ir.Model(graph, ir_version=folded.ir_version)


@dataclass(frozen=True, eq=False)
class _Layer:
    """One split layer with the nodes that carry its mark."""

    name: str
    nodes: list[ir.Node]

    @property
    def clusters(self) -> int:
        return max(clusters_of(node) for node in self.nodes)

    @property
    def selects(self) -> bool:
        return any(SELECTION in node.metadata_props for node in self.nodes)

    @property
    def inputs(self) -> Iterator[ir.Node]:
        """What makes the values that the layer reads."""
        for node in self.nodes:
            yield from (n for n in _producers(node) if n not in self.nodes)


def _producers(node: ir.Node) -> Iterator[ir.Node]:
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        if producer is not None:
            yield producer


def _neighbours(layer: _Layer, layer_of: dict[ir.Node, str]) -> tuple[set[str], set[ir.Node]]:
    """The split layers above one that only operators on single channels lie between, and those."""
    seen: set[ir.Node] = set()
    readers: dict[ir.Node, list[ir.Node]] = {}
    pending = list(layer.inputs)
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in layer_of or not _keeps_channels_apart(node):
            continue
        for producer in _producers(node):
            readers.setdefault(producer, []).append(node)
            pending.append(producer)
    above = [node for node in seen if node in layer_of]
    path: set[ir.Node] = set()
    pending = [reader for node in above for reader in readers.get(node, [])]
    while pending:
        node = pending.pop()
        if node not in path:
            path.add(node)
            pending += readers.get(node, [])
    return {layer_of[node] for node in above}, path


def _keeps_channels_apart(node: ir.Node) -> bool:
    dense = node.op_type == "Conv" and node.attributes.get_int("group", 1) == 1
    return node.domain == "" and node.op_type in CHANNEL_RULES and not dense


def _join(
    joined: dict[str, set[str]], between: dict[str, set[ir.Node]], first: str, second: str
) -> None:
    members, nodes = joined[first] | joined[second], between[first] | between[second]
    for name in members:
        joined[name], between[name] = members, nodes


def _activations(nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    """Operators on single elements that alone read what these nodes make, and the next ones."""
    for node in nodes:
        for value in node.outputs:
            reader = only_consumer(value)
            while reader is not None and is_op(reader, *UNARY):
                yield reader
                reader = only_consumer(reader.outputs[0])
