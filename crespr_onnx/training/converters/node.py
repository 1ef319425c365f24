"""What converters read and return: a node of the graph, and a module that computes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from torch import Tensor, nn

Ints: TypeAlias = Tensor | Sequence[int] | int
"""Whole numbers, known at import or computed by the model."""

Function: TypeAlias = Callable[..., Tensor | tuple[Tensor | None, ...]]


class CannotConvertError(Exception):
    """A node has no PyTorch counterpart; the text is the reason, without the node."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the model that is imported.

    Attributes:
        raw: the node as onnx2torch represents it.
        graph: the graph as onnx2torch represents it.
        version: that introduced the operator as the model means it.
    """

    raw: Any
    graph: Any
    version: int

    @property
    def op(self) -> str:
        """The operator."""
        return str(self.raw.operation_type)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, empty where one is left out, without those left out at the end."""
        names = list(self.raw.input_values)
        while names and not names[-1]:
            names.pop()
        return tuple(names)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, empty where one is left out."""
        return tuple(self.raw.output_values)

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes by name: numbers, texts, tensors, and lists of these."""
        return {a.name: _attribute(a) for a in self.raw.proto.attribute}

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - attributes are of any type
        """An attribute, or a default."""
        return self.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def has_output(self, index: int) -> bool:
        """Whether an output is asked for."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def is_initializer(self, index: int) -> bool:
        """Whether an input is an initializer."""
        return self.has(index) and self.inputs[index] in self.graph.initializers

    def constant(self, index: int) -> Tensor | None:
        """The value of an input, if it is given and an initializer."""
        if not self.is_initializer(index):
            return None
        return to_torch(self.graph.initializers[self.inputs[index]].proto)

    def shape(self, index: int) -> tuple[int | None, ...] | None:
        """The shape of an input as far as it is known."""
        if self.is_initializer(index):
            return tuple(self.graph.initializers[self.inputs[index]].proto.dims)
        info = self.graph.value_info.get(self.inputs[index])
        if info is None or not info.type.tensor_type.HasField("shape"):
            return None
        dims = info.type.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)

    def as_input(self, name: str, index: int) -> dict[int, Any]:
        """For `apply`: what older versions have as an attribute and newer ones as an input."""
        return {index: self.attributes[name]} if name in self.attributes else {}


@dataclass(frozen=True)
class Absorbed:
    """An initializer that a module holds as a tensor of its own.

    Attributes:
        attribute: the tensor's name in the module.
        initializer: the initializer's name.
        transposed: whether the module stores the transpose.
        scale: the module stores the initializer times this.
    """

    attribute: str
    initializer: str
    transposed: bool = False
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Converted:
    """A module that computes a node.

    Attributes:
        module: returns a tensor if the node has one output, else a sequence with one for each.
        operands: names of the values that it is called with; an empty one stands for None.
        absorbed: initializers that it holds itself.
    """

    module: nn.Module
    operands: tuple[str, ...]
    absorbed: tuple[Absorbed, ...] = field(default=())


Converter: TypeAlias = Callable[[Node], Converted]


class Apply(nn.Module):
    """Calls a function of tensors.

    Args:
        function: what to compute.
        fixed: arguments that are known at import, by position; operands take the others.
        count: how many positional arguments there are.
        single: whether only the first of several results is wanted.
        settings: keyword arguments.
    """

    def __init__(
        self,
        function: Function,
        fixed: Mapping[int, Any],
        count: int,
        single: bool,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.function = function
        self.fixed = dict(fixed)
        self.count = count
        self.single = single
        self.settings = dict(settings)

    def forward(self, *operands: Tensor) -> Tensor | tuple[Tensor | None, ...] | None:
        """Puts the operands where no argument is fixed."""
        rest = iter(operands)
        arguments = [
            self.fixed[i] if i in self.fixed else next(rest, None) for i in range(self.count)
        ]
        result = self.function(*arguments, **self.settings)
        return result[0] if self.single and isinstance(result, tuple) else result

    def extra_repr(self) -> str:
        """For printing."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return ", ".join(x for x in (getattr(self.function, "__name__", ""), settings) if x)


def apply(
    node: Node,
    function: Function,
    *,
    read: Sequence[int] = (),
    given: Mapping[int, Any] | None = None,
    **settings: Any,  # noqa: ANN401 - whatever the function takes
) -> Converted:
    """Converts a node to a function of its inputs.

    Args:
        node: the node.
        function: takes the inputs by position, None for one that is left out; those after the
            last that is given need a default. Of several results the first are the outputs.
        read: indices of the inputs that are settings rather than data. Where such an input is
            constant, the function gets a number or list, else a tensor.
        given: arguments by position that do not come from inputs.
        settings: keyword arguments of the function.
    """
    fixed = dict(given or {})
    count = max([len(node.inputs), *(index + 1 for index in fixed)])
    operands = []
    for index in range(count):
        if index in fixed:
            continue
        if not node.has(index):
            fixed[index] = None
        elif index in read and node.is_initializer(index):
            constant = node.constant(index)
            fixed[index] = None if constant is None else constant.tolist()
        else:
            operands.append(node.inputs[index])
    single = len(node.outputs) == 1
    return Converted(Apply(function, fixed, count, single, settings), tuple(operands))


def ints(numbers: Ints) -> list[int]:
    """A list of numbers that may be computed by the model."""
    values = numbers.tolist() if isinstance(numbers, Tensor) else numbers
    return [int(values)] if isinstance(values, int | float) else [int(v) for v in values]


def to_torch(tensor: onnx.TensorProto) -> Tensor:
    """The values of an ONNX tensor.

    Raises:
        CannotConvertError: if PyTorch has no such element type.
    """
    array = onnx.numpy_helper.to_array(tensor)
    if tensor.data_type == onnx.TensorProto.BFLOAT16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    try:
        return torch.from_numpy(array.copy())
    except TypeError as error:
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise CannotConvertError(f"PyTorch has no tensors of {name}") from error


def _attribute(attribute: onnx.AttributeProto) -> Any:  # noqa: ANN401
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return to_torch(value)
    if isinstance(value, Sequence):
        return [v.decode() if isinstance(v, bytes) else v for v in value]
    return value
