"""The distinct kernels of a lowered model, and what they are called with.

Imports TVM: only processes of `worker` import this module.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax
from tvm.s_tir import Schedule

from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule.products import Product, from_text, to_text


@dataclass(frozen=True, eq=False)
class Argument:
    """An array that a kernel is called with.

    Attributes:
        shape: its size along each axis.
        dtype: such as float32.
        values: those that matter for where the kernel reads, or None if any will do.
    """

    shape: tuple[int, ...]
    dtype: str
    values: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function of a lowered model.

    Attributes:
        key: its structural hash, under which it is recorded.
        name: what it computes, for people.
        function: not scheduled.
        arguments: of one of its calls; the results come last.
        calls: positions of its calls among all calls of kernels.
        product: what it multiplies, if it is one of our own kernels.
    """

    key: str
    name: str
    function: tvm.tirx.PrimFunc
    arguments: tuple[Argument, ...]
    calls: tuple[int, ...]
    product: Product | None


def kernels_of(lowered: tvm.IRModule) -> list[Kernel]:
    """The distinct kernels of a module, in the order of their first calls."""
    found: dict[str, tuple[Any, list[int]]] = {}
    position = 0
    for block in lowered["main"].body.blocks:
        for binding in block.bindings:
            call = binding.value
            if _calls_kernel(call):
                _, calls = found.setdefault(call.args[0].name_hint, (call, []))
                calls.append(position)
                position += 1
    return [
        _kernel(lowered[call.args[0]], name, call, tuple(calls))
        for name, (call, calls) in found.items()
    ]


def function_key(function: tvm.tirx.PrimFunc) -> str:
    """The structural hash of a function, whatever its name."""
    return f"{tvm_ffi.structural_hash(function.without_attr('global_symbol')):016x}"


def model_key(kernels: Sequence[Kernel]) -> str:
    """A hash of all kernels and how often they are called."""
    counts: Counter[str] = Counter()
    for kernel in kernels:
        counts[kernel.key] += len(kernel.calls)
    return hashlib.sha256(repr(sorted(counts.items())).encode()).hexdigest()


def product_arguments(product: Product, tile_weights: tuple[int, ...]) -> tuple[Argument, ...]:
    """The arguments of a product's kernel alone; see `standalone`."""
    arguments = [Argument(product.data, "float32"), Argument(tile_weights, "float32")]
    if product.reads_shape is not None:
        # Spread over all there is, in an order that is neither kind nor cruel to caches.
        count = int(np.prod(product.reads_shape))
        reads = np.random.default_rng(0).integers(0, product.readable, count, np.int32)
        arguments.append(Argument(product.reads_shape, "int32", reads.reshape(product.reads_shape)))
    return (*arguments, Argument(product.result, "float32"))


def product_key(product: Product) -> str:
    """Under which a product is recorded."""
    return to_text(product)


def _kernel(
    function: tvm.tirx.PrimFunc, name: str, call: relax.Call, calls: tuple[int, ...]
) -> Kernel:
    results = call.ty.fields if isinstance(call.ty, tvm.ir.TupleType) else [call.ty]
    arguments = [_argument(value, value.ty) for value in call.args[1].fields]
    arguments += [_argument(None, kind) for kind in results]
    product = _product(function)
    title = name if product is None else f"{product} ({name})"
    return Kernel(function_key(function), title, function, tuple(arguments), calls, product)


def _calls_kernel(value: Any) -> bool:  # noqa: ANN401 - TVM's expressions have no types here
    if not isinstance(value, relax.Call) or getattr(value.op, "name", "") != "relax.call_tir":
        return False
    return len(value.args) == 2


def _argument(value: Any, kind: Any) -> Argument:  # noqa: ANN401
    dtype = str(kind.dtype)
    constant = getattr(value, "value", None)
    values = None
    if not dtype.startswith("float") and isinstance(constant, tvm.runtime.Tensor):
        values = constant.numpy()
    return Argument(tuple(int(dim) for dim in kind.shape), dtype, values)


def _product(function: tvm.tirx.PrimFunc) -> Product | None:
    sch = Schedule(function)
    for block in mark.blocks_of(sch):
        text = mark.annotation(sch, block, mark.PRODUCT)
        if text is not None:
            return from_text(str(text))
    return None


def by_call(kernels: Sequence[Kernel]) -> Mapping[int, Kernel]:
    """Which kernel is called at which position."""
    return {call: kernel for kernel in kernels for call in kernel.calls}
