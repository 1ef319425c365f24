"""Kernels that pick what they read, so that the selection in front of a split layer is free.

A split linear layer arrives as Gather, Reshape, Transpose, MatMul, Add, Transpose and Reshape; here
it becomes one kernel and an addition that is fused into it. A convolution picks its channels while
it copies the image into place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

_CLUSTERS_FIRST = [1, 0, 2]
_INDEX_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "relax.add": np.add,
    "relax.astype": np.asarray,
    "relax.less": np.less,
    "relax.where": np.where,
}


@dataclass(frozen=True)
class Kernels:
    """A target's kernels that pick what they read.

    Attributes:
        conv2d: as `conv2d.legalize_conv2d` once it has its machine.
        matmul: as `matmul.emit_matmul` once it has its machine.
    """

    conv2d: Callable[..., relax.Expr | None]
    matmul: Callable[..., relax.Expr]


def read_selected(module: tvm.IRModule, kernels: Kernels) -> tvm.IRModule:
    """Replaces selections and the layers behind them; constants must be folded."""
    # Whole layers first: the second step would take their products out of them.
    for step in (_SplitLinear, _Selecting):
        mutator = step(module, kernels)
        for variable, function in module.functions_items():
            if isinstance(function, relax.Function):
                mutator.builder_.update_func(variable, mutator.visit_expr(function))
        module = relax.transform.DeadCodeElimination()(mutator.builder_.get())
    return module


class _Rewriter(relax.PyExprMutator):  # type: ignore[misc]  # TVM has no types
    """Looks back from a call to the calls that its arguments come from."""

    def __init__(self, module: tvm.IRModule, kernels: Kernels) -> None:
        super().__init__(module)
        self.kernels = kernels

    def made_by(self, value: relax.Expr, *ops: str) -> relax.Call | None:
        """The call of one of these operators that a value is bound to."""
        call = self.lookup_binding(value) if isinstance(value, relax.Var) else None
        return call if isinstance(call, relax.Call) and _name(call) in ops else None

    def selection(self, value: relax.Expr, axis: int) -> tuple[relax.Expr, np.ndarray] | None:
        """What a value is a constant choice of along an axis, and the positions."""
        call = self.made_by(value, "relax.take", "relax.gather_elements")
        positions = None if call is None else self._positions(call.args[1])
        if call is None or positions is None:
            return None
        rank = len(call.args[0].ty.shape)
        if call.attrs.axis is None or int(call.attrs.axis) % rank != axis % rank:
            return None
        if _name(call) == "relax.gather_elements":
            lines = positions.reshape(-1, positions.shape[-1])
            if axis % rank != rank - 1 or (lines != lines[0]).any():
                return None
            positions = lines[0]
        if positions.ndim != 1:
            return None
        size = int(call.args[0].ty.shape[axis])
        return call.args[0], np.where(positions < 0, positions + size, positions)

    def _positions(self, value: relax.Expr) -> np.ndarray | None:
        """A constant, or what the importer computes from one to allow for negative positions."""
        if isinstance(value, tvm.ir.GenericConst):
            return np.asarray(value.value.numpy())
        call = self.made_by(value, *_INDEX_ARITHMETIC)
        operands = [] if call is None else [self._positions(operand) for operand in call.args]
        if call is None or any(operand is None for operand in operands):
            return None
        return np.asarray(_INDEX_ARITHMETIC[_name(call)](*operands))


@relax.expr_functor.mutator
class _SplitLinear(_Rewriter):
    """[M, n_in] -> a product per cluster -> [M, K m]."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        if _name(call) != "relax.reshape" or len(call.ty.shape) != 2:
            return call
        swapped = self.made_by(call.args[0], "relax.permute_dims")
        if swapped is None or list(swapped.attrs.axes or ()) != _CLUSTERS_FIRST:
            return call
        biased = self.made_by(swapped.args[0], "relax.add")
        product = self.made_by(
            swapped.args[0] if biased is None else biased.args[0], "relax.matmul"
        )
        weight = _weight(product)
        source = self._source(product)
        if product is None or weight is None or weight.ndim != 3 or source is None:
            return call
        data, reads = source
        out_shape = [int(dim) for dim in call.ty.shape]
        clusters, _, columns = weight.shape
        if out_shape[1] != clusters * columns:
            return call
        kernel = self.kernels.matmul(self.builder_, data, weight, out_shape, reads)
        if biased is None:
            return kernel
        bias = biased.args[1]
        if not isinstance(bias, tvm.ir.GenericConst) or bias.value.numpy().size != out_shape[1]:
            return call
        row = relax.const(bias.value.numpy().reshape(1, -1))
        return relax.op.add(self.builder_.emit(kernel), row)

    def _source(self, product: relax.Call | None) -> tuple[relax.Expr, np.ndarray] | None:
        """What the products read, [M, n_in], and which positions each of them, [K, n]."""
        if product is None:
            return None
        swapped = self.made_by(product.args[0], "relax.permute_dims")
        if swapped is None or list(swapped.attrs.axes or ()) != _CLUSTERS_FIRST:
            return None
        parted = self.made_by(swapped.args[0], "relax.reshape")
        if parted is None or len(parted.args[0].ty.shape) != 2:
            return None
        blocks = tuple(int(dim) for dim in parted.ty.shape)[1:]
        data, positions = self.selection(parted.args[0], 1) or (
            parted.args[0],
            np.arange(int(parted.args[0].ty.shape[1])),
        )
        return data, positions.reshape(blocks)


@relax.expr_functor.mutator
class _Selecting(_Rewriter):
    """A product or convolution that reads a choice of its inputs, all of them the same."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        replaced = None
        if _name(call) == "relax.nn.conv2d":
            found = self.selection(call.args[0], 1)
            if found is not None:
                replaced = self.kernels.conv2d(self.builder_, call, *found)
        elif _name(call) == "relax.matmul":
            weight = _weight(call)
            found = self.selection(call.args[0], -1)
            if found is not None and weight is not None and weight.ndim == 2:
                data, reads = found
                out_shape = [int(dim) for dim in call.ty.shape]
                replaced = self.kernels.matmul(
                    self.builder_, data, weight[None], out_shape, reads[None]
                )
        return call if replaced is None else replaced


def _name(call: relax.Call) -> str:
    return call.op.name if isinstance(call.op, tvm.ir.Op) else ""


def _weight(product: relax.Call | None) -> np.ndarray | None:
    """The constant float32 weights of a matmul on float32."""
    if product is None or not isinstance(product.args[1], tvm.ir.GenericConst):
        return None
    weight = product.args[1].value.numpy()
    return weight if weight.dtype == np.float32 and str(product.ty.dtype) == "float32" else None
