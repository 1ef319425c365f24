"""Functions that a model defines itself: bounded, then put in place of their calls."""

from graphlib import CycleError, TopologicalSorter

import onnx
import onnx_ir as ir
from onnx_ir.passes import PreconditionError
from onnx_ir.passes.common import InlinePass

from crespr_onnx.errors import ModelError
from crespr_onnx.graph.nested import nodes_of

MAX_NODES = 200_000
"""Nodes that a model may have once its functions are inlined."""

Key = tuple[str, str, str]


def check_functions(model: onnx.ModelProto) -> None:
    """Makes sure that inlining ends, and ends in a graph of reasonable size.

    Raises:
        ModelError: if functions call each other in a circle, are defined twice, or call each other
            so often that MAX_NODES is exceeded.
    """
    calls: dict[Key, list[Key]] = {}
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        if key in calls:
            raise ModelError(f"function {function.name!r} is defined more than once")
        calls[key] = [_key(node) for node in nodes_of(function)]
    sorter = TopologicalSorter({key: set(inner) & calls.keys() for key, inner in calls.items()})
    try:
        order = list(sorter.static_order())
    except CycleError as error:
        names = " -> ".join(key[1] for key in error.args[1])
        raise ModelError(
            f"functions of the model call each other in a circle ({names}); export it again"
        ) from error
    sizes: dict[Key, int] = {}
    for key in order:
        sizes[key] = sum(sizes.get(call, 1) for call in calls[key])
    total = sum(sizes.get(_key(node), 1) for node in nodes_of(model.graph)) if sizes else 0
    if total > MAX_NODES:
        raise ModelError(
            f"the functions of the model stand for {total} operators, more than {MAX_NODES}; "
            "export it without functions"
        )


def inline_functions(model: ir.Model) -> None:
    """Puts the bodies of functions in place of their calls, in place.

    Raises:
        ModelError: if a function cannot be inlined, as for another opset than the model's.
    """
    try:
        InlinePass()(model)
    except (PreconditionError, ValueError) as error:
        raise ModelError(
            f"a function of the model cannot be inlined ({error}); inline it with "
            "onnx.inliner.inline_local_functions(model, convert_version=True) and save it again"
        ) from error
    model.functions.clear()


def _key(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type, node.overload
