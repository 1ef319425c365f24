"""ONNX to PyTorch and back: a trainable module whose parameters are bound to initializers.

The module only ever lends its weights: they are written back to the graph that it was imported
from, so names, dynamic dimensions and untouched operators of that graph stay as they are.
"""

import numpy as np
import onnx_ir as ir
import torch

from crespr_onnx.training.assemble import Assembly, assemble


class ImportedModel(Assembly):
    """A PyTorch module and what ties it to the ONNX model that it was made from."""

    def tensor(self, initializer: str) -> torch.Tensor:
        """The tensor that an initializer is bound to, as the module stores it."""
        binding = self.bindings[initializer]
        tensor = getattr(self.module.get_submodule(binding.module), binding.attribute)
        assert isinstance(tensor, torch.Tensor)
        return tensor

    def write_back(self, model: ir.Model) -> None:
        """Copies the module's current weights into the initializers of a model, in place."""
        for name, binding in self.bindings.items():
            value = model.graph.initializers[name]
            assert value.const_value is not None
            tensor = self.tensor(name).detach().cpu()
            # NumPy has no bfloat16 of its own; float32 holds it exactly.
            array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
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
    assembly = assemble(model)
    return ImportedModel(assembly.module, assembly.bindings, assembly.modules)
