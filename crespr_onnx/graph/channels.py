"""Finds the channels of a model: which tensor axes hang together, and which nodes weigh them.

A union-find over channel ids, filled by one rule per operator (`crespr_onnx.graph.rules`). What no
rule covers freezes the channels that it touches, with the reason, so nothing is ever guessed.
"""

from dataclasses import dataclass, replace

import onnx_ir as ir

from crespr_onnx.graph.accounting import stored_weights
from crespr_onnx.graph.rules import RULES
from crespr_onnx.graph.tracker import ChannelTracker, NotUnderstoodError
from crespr_onnx.layout import ChannelGraph


@dataclass(frozen=True)
class Obstacle:
    """A node that the channel analysis could not follow.

    Attributes:
        node: its name.
        op: its operator.
        reason: what about it is not understood.
    """

    node: str
    op: str
    reason: str


def find_channels(model: ir.Model) -> tuple[ChannelGraph, tuple[Obstacle, ...]]:
    """Analyses a model whose constants are folded and whose shapes are inferred.

    Returns:
        The channel graph, and the nodes that keep their neighbours dense. An input of the model has
        no channel axis of its own: what reads it first says which axis it reads, and that side
        stays as it is.
    """
    tracker = ChannelTracker()
    obstacles: list[Obstacle] = []
    for node in model.graph:
        tracker.enter(node)
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        touches = [axis for v in node.inputs if (axis := tracker.axis_of(v)) is not None]
        try:
            if rule is None:
                raise NotUnderstoodError("no rule for this operator")
            rule(node, tracker)
        except NotUnderstoodError as why:
            for axis in touches:
                tracker.freeze(axis.channels, f"read by {node.op_type} '{node.name}': {why}")
            # A node on data without channels (a shape computation, say) is nobody's obstacle.
            if touches:
                obstacles.append(Obstacle(node.name or "", node.op_type, str(why)))
    for output in model.graph.outputs:
        axis = tracker.axis_of(output)
        if axis is not None:
            tracker.freeze(axis.channels, f"'{output.name}' is a graph output")
    graph = tracker.build()
    opaque = max(0, stored_weights(model) - graph.weights)
    return replace(graph, opaque_weights=opaque), tuple(obstacles)
