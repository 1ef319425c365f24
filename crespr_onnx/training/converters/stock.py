"""The converters of onnx2torch, for the versions whose meaning they have."""

from collections.abc import Callable, Mapping

from crespr_onnx.training.converters.node import Absorbed, CannotConvertError, Converted, Node

# Parameters that onnx2torch moves into its modules, by operator: (attribute, input of the node).
_ABSORBED: Mapping[str, tuple[tuple[str, int], ...]] = {
    "Conv": (("weight", 1), ("bias", 2)),
    "ConvTranspose": (("weight", 1), ("bias", 2)),
    "Gemm": (("weight", 1), ("bias", 2)),
    "BatchNormalization": (("weight", 1), ("bias", 2), ("running_mean", 3), ("running_var", 4)),
}
# What its converters raise on a node that they were not made for.
_FAILURES = (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError)


def stock(operator: str, version: int) -> Callable[[Node], Converted]:
    """The converter that onnx2torch has for exactly this version.

    Raises:
        CannotConvertError: if it has none.
    """
    from onnx2torch.node_converters.registry import get_converter

    try:
        convert = get_converter(operator, version)
    except NotImplementedError as error:
        raise CannotConvertError("it has no PyTorch counterpart") from error

    def converter(node: Node) -> Converted:
        try:
            module, mapping = convert(node.raw, node.graph)
        except _FAILURES as error:
            reason = str(error) if isinstance(error, NotImplementedError) else repr(error)
            raise CannotConvertError(f"onnx2torch cannot convert it ({reason})") from error
        operands = tuple(mapping.inputs)
        return Converted(module, operands, _absorbed(node, operands))

    return converter


def _absorbed(node: Node, operands: tuple[str, ...]) -> tuple[Absorbed, ...]:
    if len(operands) > 1 or node.op not in _ABSORBED:
        return ()
    found = []
    for attribute, index in _ABSORBED[node.op]:
        if not node.is_initializer(index):
            continue
        transposed, scale = False, 1.0
        if node.op == "Gemm":
            transposed = attribute == "weight" and not node.get("transB", 0)
            scale = float(node.get("alpha" if attribute == "weight" else "beta", 1.0))
        found.append(Absorbed(attribute, node.inputs[index], transposed, scale))
    return tuple(found)
