"""A small channel graph with layouts, made by hand, for the tests of layouts and of their JSON."""

from dataclasses import replace

import numpy as np
from internal_selections import internal_selections

from crespr_onnx.layout import (
    ChannelGraph,
    ChannelGroup,
    Layout,
    WeightedEdge,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def bools(*rows: list[int]) -> np.ndarray:
    """A selection: per input whether each cluster reads it."""
    return np.array(rows, dtype=np.bool_)


def edge(
    name: str, inputs: np.ndarray, outputs: np.ndarray, kernel: int = 1, frozen: str | None = None
) -> WeightedEdge:
    return WeightedEdge(name, "Conv", name, 1, 0, inputs, outputs, kernel, 1, frozen)


X, A, B, Y = ints(0, 1), ints(2, 3, 4, 5), ints(6, 7, 8, 9), ints(10, 11, 12)
GRAPH = ChannelGraph(
    groups=(
        ChannelGroup("x", X, "'x' is a graph input"),
        ChannelGroup("a", A, None),
        ChannelGroup("b", B, None),
        ChannelGroup("y", Y, "'y' is a graph output"),
    ),
    edges=(
        edge("first", X, A),
        edge("inner", A, B, kernel=9),
        edge("both", np.concatenate([A, B]), B),
        edge("stiff", A, B, frozen="is already grouped"),
        edge("last", np.repeat(B, 2), Y),
    ),
    values={},
    constants={},
    moves={},
    opaque_weights=7,
)
#                       x     a            b               y
PLAIN = Layout(ints(0, 0, 0, 1, -1, -1, 1, 0, 1, 0, 0, 0, 0), ints(1, 2, 2, 1))
LAYOUT = replace(PLAIN, selections=internal_selections(GRAPH, PLAIN))
# The clusters of b share a's first channel, one of them reads what is dropped, all of y reads half.
SHARING = replace(
    PLAIN,
    selections={
        "inner": bools([1, 1], [0, 1], [1, 0], [0, 0]),
        "last": bools([1], [0], [1], [0], [1], [0], [1], [0]),
    },
)
