"""Builds the PyTorch module of a graph, node by node, and records where each weight went."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import torch
from torch import fx, nn

from crespr_onnx.errors import ModelError
from crespr_onnx.training.converters.node import (
    Absorbed,
    CannotConvertError,
    Node,
    to_torch,
)
from crespr_onnx.training.converters.table import find_converter

_WAY_OUT = "run with --epochs 0 and without --data"
_HOLDER = "initializers"


@dataclass(frozen=True)
class Binding:
    """Where an initializer lives in the imported module.

    Attributes:
        module: dotted path of the submodule that holds it.
        attribute: its name there.
        transposed: whether the module stores the transpose of the initializer.
        scale: the module stores the initializer times this (alpha and beta of a Gemm).
    """

    module: str
    attribute: str
    transposed: bool = False
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Assembly:
    """A module and where it came from.

    Attributes:
        module: takes the model's inputs in order, returns its output, or a list of several.
        bindings: initializer name -> where it lives in the module.
        modules: node name -> path of the submodule that computes it.
    """

    module: fx.GraphModule
    bindings: Mapping[str, Binding]
    modules: Mapping[str, str]


def assemble(model: ir.Model) -> Assembly:
    """Makes a module of a model whose constants are folded.

    Raises:
        ModelError: naming the node, if one has no PyTorch counterpart, or if operators share an
            initializer that they read in different ways.
    """
    from onnx2torch.onnx_graph import OnnxGraph  # imports torchvision; only training needs it
    from onnx2torch.utils.safe_shape_inference import safe_shape_inference

    proto = ir.to_proto(model)
    for item in (*proto.opset_import, *proto.graph.node):
        if item.domain == "ai.onnx":
            item.domain = ""
    names = [node.name for node in proto.graph.node]
    for i, node in enumerate(proto.graph.node):
        # onnx2torch loses a node where names differ by what it replaces in them.
        node.name = f"node_{i}"
    opset = max((entry.version for entry in proto.opset_import if not entry.domain), default=1)
    graph = OnnxGraph(safe_shape_inference(proto).graph)
    return _Assembler(graph, opset).run(names)


@dataclass(eq=False)
class _Assembler:
    graph: Any
    opset: int
    root: nn.Module = field(default_factory=nn.Module)
    calls: fx.Graph = field(default_factory=fx.Graph)
    values: dict[str, fx.Node] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    held: int = 0

    def run(self, names: Sequence[str]) -> Assembly:
        self.root.add_module(_HOLDER, nn.Module())
        for i, name in enumerate(self.graph.input_values, start=1):
            self.values[name] = self.calls.placeholder(f"input_{i}")
        for node_name, raw in zip(names, self.graph.nodes.values(), strict=True):
            self._add(node_name, raw)
        outputs = [self._operand(name) for name in self.graph.output_values]
        self.calls.output(outputs[0] if len(outputs) == 1 else outputs)
        self.calls.lint()
        module = fx.GraphModule(self.root, self.calls)
        return Assembly(module, self.bindings, self.modules)

    def _add(self, name: str, raw: Any) -> None:  # noqa: ANN401 - onnx2torch has no types
        try:
            convert, version = find_converter(raw.domain, raw.operation_type, self.opset)
            node = Node(raw, self.graph, version)
            converted = convert(node)
        except CannotConvertError as error:
            raise ModelError(
                f"node '{name}' ({raw.operation_type}, opset {self.opset}) cannot be trained: "
                f"{error}; {_WAY_OUT}, or export without it"
            ) from error
        path = self._free_path(name.replace(".", "/") or node.op)
        self.root.add_module(path, converted.module)
        self.modules[name] = path
        for absorbed in converted.absorbed:
            self._bind_absorbed(path, converted.module, absorbed)
        arguments = tuple(self._operand(value) for value in converted.operands)
        call = self.calls.call_module(path, arguments)
        if len(node.outputs) == 1:
            self.values[node.outputs[0]] = call
            return
        for i, output in enumerate(node.outputs):
            if output:
                self.values[output] = self.calls.call_function(operator.getitem, (call, i))

    def _free_path(self, name: str) -> str:
        """A path for a node's module that hides neither another nor a method of modules."""
        path, i = name, 0
        while hasattr(self.root, path):
            i += 1
            path = f"{name}_{i}"
        return path

    def _operand(self, name: str) -> fx.Node | None:
        if name and name not in self.values:
            self.values[name] = self.calls.get_attr(self._hold(name))
        return self.values.get(name)

    def _hold(self, name: str) -> str:
        """The dotted path of an initializer that operators take as an argument."""
        if name in self.bindings:
            binding = self.bindings[name]
            _require_same_use(name, binding, Binding("", ""))
            return f"{binding.module}.{binding.attribute}"
        tensor = to_torch(self.graph.initializers[name].proto)
        attribute = f"onnx_initializer_{self.held}"
        self.held += 1
        holder = self.root.get_submodule(_HOLDER)
        if _is_weight(tensor):
            holder.register_parameter(attribute, nn.Parameter(tensor))
            self.bindings[name] = Binding(_HOLDER, attribute)
        else:
            holder.register_buffer(attribute, tensor)
        return f"{_HOLDER}.{attribute}"

    def _bind_absorbed(self, path: str, module: nn.Module, absorbed: Absorbed) -> None:
        tensor = getattr(module, absorbed.attribute)
        # onnx2torch gives views of the transpose; training wants memory of its own.
        tensor.data = tensor.data.contiguous().clone()
        name = absorbed.initializer
        binding = Binding(path, absorbed.attribute, absorbed.transposed, absorbed.scale)
        first = self.bindings.setdefault(name, binding)
        if first is not binding:
            _require_same_use(name, first, binding)
            shared = getattr(self.root.get_submodule(first.module), first.attribute)
            setattr(module, absorbed.attribute, shared)


def _is_weight(tensor: torch.Tensor) -> bool:
    # Scalars are settings (an epsilon, a scale) more often than weights; infinities are masks.
    return tensor.is_floating_point() and tensor.numel() > 1 and bool(torch.isfinite(tensor).all())


def _require_same_use(name: str, first: Binding, second: Binding) -> None:
    """One parameter can only stand for uses that store the initializer alike."""
    if (first.transposed, first.scale) != (second.transposed, second.scale):
        raise ModelError(
            f"initializer '{name}' cannot be trained: one operator reads it as it is, another "
            f"transposed or scaled; {_WAY_OUT}, or give each an initializer of its own"
        )
