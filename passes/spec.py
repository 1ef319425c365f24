"""What is legal at each stage, checked between stages: after import, after split, before compile.

Each check is a function of the model that returns nothing, and raises an error that names the
node. The first speaks to users about their model; the others catch mistakes of passes as well.
"""

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from crespr_onnx.errors import ModelError, VerificationError
from crespr_onnx.passes.batched_matmul import match_blocks
from crespr_onnx.passes.fold_batchnorm import foldable_layer
from crespr_onnx.passes.surgery import CLUSTERS, constant, input_at, is_op, opset

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
# Inputs that say what shape comes out: compilers want them known.
_SHAPE_INPUTS = {
    "Expand": (1,),
    "Pad": (1, 3),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
}


def check_imported(model: ir.Model) -> None:
    """Checks a model after import and normalisation.

    Legal are models whose nodes have names of their own (marks and reports go by them) and come in
    topological order, whose constants are initializers, which are in inference mode, and which
    have no branches and loops.

    Raises:
        ModelError: naming the node and what is wrong.
    """
    if "" not in model.opset_imports:
        raise ModelError("The model imports no version of the standard operator set (domain '').")
    seen: set[str] = set()
    made = set(model.graph.inputs) | set(model.graph.initializers.values())
    for node in model.graph:
        if not node.name or node.name in seen:
            raise ModelError(
                f"{_called(node)} needs a name of its own; "
                f"{'another node has it too' if node.name else 'it has none'}."
            )
        seen.add(node.name)
        for value in node.inputs:
            if value is not None and value not in made and value.graph in (model.graph, None):
                raise ModelError(
                    f"{_called(node)} reads {value.name!r} before it is made: sort the nodes."
                )
        made.update(node.outputs)
        if is_op(node, "Constant"):
            raise ModelError(f"{_called(node)} should be an initializer: fold constants first.")
        if any(attribute.type in _GRAPHS for attribute in node.attributes.values()):
            raise ModelError(
                f"{_called(node)} of opset {opset(model)} is control flow: its condition is "
                "computed while the model runs; export the model with the branch or the number "
                "of steps fixed."
            )
        if is_op(node, "BatchNormalization", "Dropout") and _in_training(node):
            raise ModelError(
                f"{_called(node)} is in training mode: export the model for inference."
            )


def check_split(model: ir.Model) -> None:
    """Checks a model after its layers were split.

    Legal is every node marked crespr.clusters = K if it is a Conv or ConvTranspose of K groups, or
    a MatMul of [K, N, n] with a weight [K, n, m].

    Raises:
        VerificationError: naming the node, its K and the shapes found.
    """
    for node in model.graph:
        text = node.metadata_props.get(CLUSTERS)
        if text is None:
            continue
        if not text.isdecimal() or int(text) < 1:
            raise VerificationError(
                f"{_called(node)} is marked {CLUSTERS}={text!r}; expected a number from 1."
            )
        weight = constant(input_at(node, 1))
        if weight is None:
            raise VerificationError(
                f"{_called(node)} is marked {CLUSTERS} but has no constant weight."
            )
        if is_op(node, "Conv", "ConvTranspose"):
            _check_groups(node, int(text), weight.shape)
        elif is_op(node, "MatMul"):
            _check_batch(node, int(text), weight.shape)
        else:
            raise VerificationError(
                f"{_called(node)} is marked {CLUSTERS}; only Conv, ConvTranspose and MatMul can be."
            )


def check_compilable(model: ir.Model) -> None:
    """Checks a model before it goes to a compiler.

    Legal are models without Constant nodes and without BatchNormalization that could be folded,
    whose shapes are static but for the batch, and with constant pads, slices and target shapes.

    Raises:
        ModelError: naming the node and what is wrong.
    """
    for node in model.graph:
        if is_op(node, "Constant"):
            raise ModelError(f"{_called(node)} should be an initializer: fold constants first.")
        layer = foldable_layer(node)
        if layer is not None:
            raise ModelError(f"{_called(node)} can be folded into {layer.name!r}: fold it first.")
        if node.domain != "":
            continue
        for position in _SHAPE_INPUTS.get(node.op_type, ()):
            value = input_at(node, position)
            if value is not None and constant(value) is None:
                raise ModelError(
                    f"{_called(node)} computes its input {value.name!r}, which must be constant: "
                    "fold constants, or give static shapes with --input-shape."
                )
    _check_static(model)


def _check_groups(node: ir.Node, clusters: int, shape: tuple[int, ...]) -> None:
    group = node.attributes.get_int("group", 1)
    if group != clusters or shape[0] % clusters:
        raise VerificationError(
            f"{_called(node)} is marked {CLUSTERS}={clusters} but has group={group} and a weight "
            f"of shape {list(shape)}; expected group={clusters} and rows that {clusters} divides."
        )


def _check_batch(node: ir.Node, clusters: int, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[0] != clusters:
        raise VerificationError(
            f"{_called(node)} is marked {CLUSTERS}={clusters} but has a weight of shape "
            f"{list(shape)}; expected [{clusters}, n, m]."
        )
    blocks = match_blocks(node.inputs[0].producer()) if node.inputs[0] is not None else None
    if blocks is not None and (blocks.clusters, blocks.width) != (clusters, shape[1]):
        raise VerificationError(
            f"{_called(node)} has a weight of shape {list(shape)} but its input comes as "
            f"[{blocks.clusters}, N, {blocks.width}]; expected [{clusters}, N, {shape[1]}]."
        )


def _check_static(model: ir.Model) -> None:
    """Fixes the batch and infers: everything must then be static."""
    copy = model.clone()
    for value in copy.graph.inputs:
        dims = list(value.shape or ())
        if value.shape is None or any(not isinstance(dim, int) for dim in dims[1:]):
            raise ModelError(
                f"Input {value.name!r} has shape {value.shape}; all but the first dimension must "
                "be static: give --input-shape."
            )
        value.shape = ir.Shape([1, *dims[1:]] if dims and not isinstance(dims[0], int) else dims)
    for node in copy.graph:
        for output in node.outputs:
            output.shape = None
    ShapeInferencePass(check_type=False, strict_mode=False)(copy)
    for node in copy.graph:
        for output in node.outputs:
            if not output.name or (not output.uses() and not output.is_graph_output()):
                continue
            if output.shape is None or not output.shape.is_static():
                raise ModelError(
                    f"{_called(node)} makes {output.name!r} of shape {output.shape or 'unknown'}; "
                    "it must be static but for the batch: give --input-shape."
                )


def _in_training(node: ir.Node) -> bool:
    if node.op_type == "BatchNormalization":
        return node.attributes.get_int("training_mode", 0) != 0
    mode = input_at(node, 2)
    flag = constant(mode)
    return mode is not None and (flag is None or bool(flag.any()))


def _called(node: ir.Node) -> str:
    return f"{node.op_type} node {node.name!r}"
