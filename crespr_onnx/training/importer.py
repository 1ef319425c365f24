"""ONNX to PyTorch and back: a trainable module whose parameters are bound to initializers.

The module only ever lends its weights: they are written back to the graph that it was imported
from, so names, dynamic dimensions and untouched operators of that graph stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from crespr_onnx.errors import ModelError
from crespr_onnx.training.newer_opsets import accept_newer_opsets

# Parameters that onnx2torch moves into its modules, by operator: (attribute, input of the node).
_ABSORBED: Mapping[str, tuple[tuple[str, int], ...]] = {
    "Conv": (("weight", 1), ("bias", 2)),
    "ConvTranspose": (("weight", 1), ("bias", 2)),
    "Gemm": (("weight", 1), ("bias", 2)),
    "BatchNormalization": (("weight", 1), ("bias", 2), ("running_mean", 3), ("running_var", 4)),
    "InstanceNormalization": (("weight", 1), ("bias", 2)),
    "LayerNormalization": (("weight", 1), ("bias", 2)),
}

_WAY_OUT = "run with --epochs 0 and without --data"


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
class ImportedModel:
    """A PyTorch module and what ties it to the ONNX model that it was made from.

    Attributes:
        module: takes the model's inputs in order, returns its outputs.
        bindings: initializer name -> where it lives in the module.
        modules: node name -> path of the submodule that computes it.
    """

    module: fx.GraphModule
    bindings: Mapping[str, Binding]
    modules: Mapping[str, str]

    def tensor(self, initializer: str) -> torch.Tensor:
        """The tensor that an initializer is bound to, as the module stores it."""
        binding = self.bindings[initializer]
        tensor = getattr(self.module.get_submodule(binding.module), binding.attribute)
        assert isinstance(tensor, torch.Tensor)
        return tensor

    def parameter(self, initializer: str) -> torch.Tensor:
        """The leaf tensor behind `tensor`: the same, unless the weight is parametrized."""
        binding = self.bindings[initializer]
        owner = self.module.get_submodule(binding.module)
        if parametrize.is_parametrized(owner, binding.attribute):
            parametrizations = owner.get_submodule(f"parametrizations.{binding.attribute}")
            original = parametrizations.original
            assert isinstance(original, torch.Tensor)
            return original
        return self.tensor(initializer)

    def write_back(self, model: ir.Model) -> None:
        """Copies the module's current weights into the initializers of a model, in place."""
        for name, binding in self.bindings.items():
            value = model.graph.initializers[name]
            assert value.const_value is not None
            array = self.tensor(name).detach().cpu().numpy()
            if binding.scale != 1.0:
                array = array / np.float32(binding.scale)
            array = np.ascontiguousarray(array.T if binding.transposed else array)
            value.const_value = ir.Tensor(array.astype(value.const_value.dtype.numpy()), name=name)


def import_model(model: ir.Model) -> ImportedModel:
    """Imports a model whose constants are folded, with every weight trainable.

    Raises:
        ModelError: if an operator has no PyTorch counterpart here, naming node, operator and opset,
            or if operators share an initializer that they read in different ways.
    """
    from onnx2torch import convert  # imports torchvision; only training needs it

    accept_newer_opsets()
    proto = ir.to_proto(model)
    try:
        module = convert(proto, attach_onnx_mapping=True)
    except NotImplementedError as error:
        raise ModelError(_unsupported(model, error)) from error
    initializers = {tensor.name for tensor in proto.graph.initializer}
    producers = {v.name: node for node in model.graph for v in node.outputs}
    bindings: dict[str, Binding] = {}
    modules: dict[str, str] = {}
    for call in list(module.graph.nodes):
        if call.op != "call_module":
            continue
        path = str(call.target)
        submodule = module.get_submodule(path)
        mapping = submodule.onnx_mapping
        node = producers[mapping.outputs[0]]
        modules[node.name or ""] = path
        _bind_absorbed(node, path, submodule, initializers, bindings, module)
        names = [name for name in mapping.inputs if name]
        arguments = [a for a in (*call.args, *call.kwargs.values()) if a is not None]
        for argument, name in zip(arguments, names, strict=False):
            if isinstance(argument, fx.Node) and argument.op == "get_attr":
                _bind_buffer(argument, name, bindings, module)
    module.recompile()
    return ImportedModel(module, bindings, modules)


def _unsupported(model: ir.Model, error: Exception) -> str:
    from onnx2torch.node_converters.registry import get_converter

    version = model.opset_imports.get("", 0)
    for node in model.graph:
        try:
            get_converter(
                domain=node.domain,
                operation_type=node.op_type,
                version=model.opset_imports.get(node.domain, version),
            )
        except NotImplementedError:
            return (
                f"node '{node.name}' ({node.op_type}, opset {version}) cannot be trained: "
                f"it has no PyTorch counterpart; {_WAY_OUT}, or export without it"
            )
    return f"the model cannot be trained: {error}; {_WAY_OUT}"


def _bind_absorbed(
    node: ir.Node,
    path: str,
    submodule: nn.Module,
    initializers: set[str],
    bindings: dict[str, Binding],
    module: fx.GraphModule,
) -> None:
    for attribute, index in _ABSORBED.get(node.op_type, ()):
        value = node.inputs[index] if index < len(node.inputs) else None
        tensor = getattr(submodule, attribute, None)
        if value is None or value.name not in initializers or not isinstance(tensor, torch.Tensor):
            continue
        transposed, scale = False, 1.0
        if node.op_type == "Gemm":
            given = {a.name: a.value for a in node.attributes.values()}
            transposed = attribute == "weight" and not given.get("transB", 0)
            scale = float(given.get("alpha" if attribute == "weight" else "beta", 1.0))
        binding = Binding(path, attribute, transposed, scale)
        # The importer gives views of the transpose; training wants memory of its own.
        tensor.data = tensor.data.contiguous().clone()
        first = bindings.setdefault(value.name or "", binding)
        if first is not binding:
            _require_same_use(value.name or "", first, binding)
            setattr(
                submodule, attribute, getattr(module.get_submodule(first.module), first.attribute)
            )


def _bind_buffer(
    argument: fx.Node, name: str, bindings: dict[str, Binding], module: fx.GraphModule
) -> None:
    """Makes a constant operand trainable; uses of one initializer share one parameter."""
    path, _, attribute = str(argument.target).rpartition(".")
    if name in bindings:
        _require_same_use(name, bindings[name], Binding(path, attribute))
        argument.target = f"{bindings[name].module}.{bindings[name].attribute}"
        return
    owner = module.get_submodule(path)
    tensor = getattr(owner, attribute)
    # Scalars are settings (an epsilon, a scale) more often than weights.
    if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.numel() > 1:
        delattr(owner, attribute)
        owner.register_parameter(attribute, nn.Parameter(tensor.clone()))
        bindings[name] = Binding(path, attribute)


def _require_same_use(name: str, first: Binding, second: Binding) -> None:
    """One parameter can only stand for uses that store the initializer alike."""
    if (first.transposed, first.scale) != (second.transposed, second.scale):
        raise ModelError(
            f"initializer '{name}' cannot be trained: one operator reads it as it is, another "
            f"transposed or scaled; {_WAY_OUT}, or give each an initializer of its own"
        )
