"""Making new nodes and constants."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from crespr_onnx.passes.surgery import Array, add_constant


def new_constant(graph: ir.Graph, name: str, array: Array | Sequence[int]) -> ir.Value:
    """Adds an initializer; a number is appended to a name that is taken."""
    unique, n = name, 1
    while unique in graph.initializers:
        unique, n = f"{name}_{n}", n + 1
    return add_constant(graph, unique, array)


def new_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    outputs: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> ir.Node:
    """A node of the default domain whose outputs are named after it."""
    suffixes = [""] if outputs == 1 else [f"_{i:02d}" for i in range(outputs)]
    return ir.node(
        op_type,
        inputs,
        attributes=attributes or {},
        outputs=[ir.Value(name=f"{name}/out{suffix}") for suffix in suffixes],
        name=name,
        metadata_props=dict(metadata or {}),
    )
