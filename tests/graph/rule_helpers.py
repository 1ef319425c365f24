"""Small models for the tests of the channel rules, and short questions about what was found.

Every model starts with a layer of four channels called `a`, which get the ids 0 to 3 since the
analysis numbers channels in the order in which values carry them.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from crespr_onnx.graph.channels import Obstacle, find_channels
from crespr_onnx.layout import ChannelGraph, WeightedEdge
from crespr_onnx.stages.prepare import infer_shapes

A = [0, 1, 2, 3]
STARTS = {
    "conv": ("float[N, 3, 6, 6] x", "a = Conv(x, wa)", (4, 3, 1, 1)),
    "dense": ("float[N, 6] x", "a = Gemm(x, wa)", (6, 4)),
    "free": ("float[N, 3, H, W] x", "a = Conv(x, wa)", (4, 3, 1, 1)),
    "fixed": ("float[2, 3, 1, 1] x", "a = Conv(x, wa)", (4, 3, 1, 1)),
    "tokens": ("float[N, 5, 6] x", "a = MatMul(x, wa)", (6, 4)),
}


@dataclass(frozen=True)
class Analysis:
    """What the analysis found, with channel ids as lists."""

    graph: ChannelGraph
    obstacles: tuple[Obstacle, ...]

    def axis(self, value: str) -> tuple[int, list[int]]:
        """Axis and ids of an activation."""
        found = self.graph.values[value]
        return found.axis, found.channels.tolist()

    def constant(self, name: str) -> dict[int, list[int]]:
        """Ids on each bound axis of an initializer."""
        return {a.axis: a.channels.tolist() for a in self.graph.constants.get(name, ())}

    def reasons(self, value: str) -> set[str | None]:
        """Why the channels of an activation are frozen."""
        channels = self.graph.values[value].channels
        return {self.graph.groups[i].frozen for i in self.graph.groups_on(channels)}

    def edge(self, name: str) -> WeightedEdge:
        """The edge of a node."""
        (edge,) = [e for e in self.graph.edges if e.name == name]
        return edge

    def found(self) -> list[tuple[str, str]]:
        """Operator and reason of each obstacle."""
        return [(o.op, o.reason) for o in self.obstacles]


def analyse(
    body: str,
    *,
    start: str = "conv",
    opset: int = 17,
    inputs: str = "",
    outputs: str = "",
    **arrays: object,
) -> Analysis:
    """Channels of a model: the start, then the body; without outputs none of its values is one."""
    given, layer, weight = STARTS[start]
    if not outputs:  # something else is returned, so that this freezes nothing
        inputs = ", ".join(["float[N, M] other", *([inputs] if inputs else [])])
        outputs, body = "float[N, M] same", f"{body} same = Identity(other)"
    heads = ", ".join([given, *([inputs] if inputs else [])])
    text = f"g ({heads}) => ({outputs}) {{ {layer} {body} }}"
    return analyse_graph(text, opset, wa=weight, **arrays)


def analyse_graph(text: str, opset: int = 17, **arrays: object) -> Analysis:
    """Channels of the model with this graph; a tuple stands for zeros of that shape."""
    return Analysis(*find_channels(prepared(text, opset, **arrays)))


def prepared(text: str, opset: int = 17, **arrays: object) -> ir.Model:
    """A model from the text of its graph, ready for the analysis."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    for i, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type.lower()}_{i}"
    for name, array in arrays.items():
        data = np.zeros(array, np.float32) if isinstance(array, tuple) else np.asarray(array)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model
