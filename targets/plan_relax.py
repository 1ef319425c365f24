"""The plan of a scheduled Relax module.

Imports TVM: only processes of `worker` import this module.
"""

import hashlib
from math import prod
from typing import Any, Literal

import tvm
from numpy.typing import NDArray
from tvm import relax

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.plan import Plan, PlannedTensor, Step, aligned, item

STORAGE = "relax.memory.alloc_storage"
IN_STORAGE = "relax.memory.alloc_tensor"
FRESH = "relax.builtin.alloc_tensor"
VIEWS = ("relax.reshape", "relax.memory.view")


def lower_to_calls(module: tvm.IRModule) -> tvm.IRModule:
    """Make every kernel write to memory that is planned ahead."""
    return tvm.transform.Sequential(
        [
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )(module)


def plan_of(module: tvm.IRModule) -> Plan:
    """The plan of what `lower_to_calls` returned.

    Raises:
        CompileError: the model needs more than calls of kernels on arrays of fixed sizes.
    """
    return _Planner(module).plan()


class _Planner:
    """Follows a function binding by binding; values are tensors, storages, or tuples of tensors."""

    def __init__(self, module: tvm.IRModule) -> None:
        self.module = module
        self.tensors: list[PlannedTensor] = []
        self.steps: list[Step] = []
        self.memory = 0
        self.constants = bytearray()
        self.values: dict[Any, Any] = {}
        self.known: dict[tuple[object, ...], int] = {}

    def plan(self) -> Plan:
        main = self.module["main"]
        inputs = [self._fresh(param.ty) for param in main.params]
        self.values.update(zip(main.params, inputs, strict=True))
        for block in main.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = self._value(binding.value)
        result = self._value(main.body.body)
        outputs = result if isinstance(result, tuple) else (result,)
        return Plan(
            tuple(self.tensors),
            tuple(self.steps),
            tuple(inputs),
            outputs,
            self.memory,
            bytes(self.constants),
        )

    def _value(self, value: Any) -> Any:  # noqa: ANN401 - TVM's expressions have no types here
        if isinstance(value, relax.Var):
            return self.values[value]
        if isinstance(value, relax.Tuple):
            return tuple(self._value(field) for field in value.fields)
        if isinstance(value, relax.TupleGetItem):
            return self._value(value.tuple_value)[int(value.index)]
        if isinstance(value, relax.Call):
            return self._call(value)
        return self._constant(value)

    def _call(self, call: Any) -> Any:  # noqa: ANN401
        if isinstance(call.op, tvm.ir.GlobalVar):
            kernel = self.module[call.op]
            if not isinstance(kernel, tvm.tirx.PrimFunc):
                raise CompileError(f"function {call.op.name_hint} is no kernel")
            arguments = tuple(self._value(argument) for argument in call.args)
            self.steps.append(Step(str(kernel.attrs["global_symbol"]), arguments))
            return None
        name = call.op.name if isinstance(call.op, tvm.ir.Op) else str(call.op)
        if name == STORAGE:
            return self._reserve(int(call.args[0].values[0]))
        if name == IN_STORAGE:
            offset = self._value(call.args[0]) + int(call.args[1])
            return self._tensor("memory", offset, _shape(call.args[2]), str(call.ty.dtype))
        if name == FRESH:
            return self._fresh(call.ty)
        if name in VIEWS:
            source = self.tensors[self._value(call.args[0])]
            return self._tensor(source.place, source.offset, _shape(call.ty.shape), source.dtype)
        raise CompileError(f"{name} needs TVM's runtime, and there is none for this target")

    def _constant(self, value: Any) -> int:  # noqa: ANN401
        if not isinstance(getattr(value, "value", None), tvm.runtime.Tensor):
            raise CompileError(f"a {type(value).__name__} is no array of fixed size")
        array = value.value.numpy()
        # What several kernels read is stored once.
        key = (array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).digest())
        if key not in self.known:
            self.known[key] = self._store(array)
        return self.known[key]

    def _store(self, array: NDArray[Any]) -> int:
        offset = aligned(len(self.constants))
        self.constants.extend(bytes(offset - len(self.constants)) + array.tobytes())
        return self._tensor("constants", offset, array.shape, str(array.dtype))

    def _fresh(self, kind: Any) -> int:  # noqa: ANN401
        """A tensor whose memory nothing else uses."""
        shape, dtype = _shape(kind.shape), str(kind.dtype)
        return self._tensor("memory", self._reserve(prod(shape) * item(dtype)[1]), shape, dtype)

    def _reserve(self, size: int) -> int:
        offset = self.memory
        self.memory += aligned(size)
        return offset

    def _tensor(
        self,
        place: Literal["constants", "memory"],
        offset: int,
        shape: tuple[int, ...],
        dtype: str,
    ) -> int:
        self.tensors.append(PlannedTensor(place, offset, shape, dtype))
        return len(self.tensors) - 1


def _shape(shape: Any) -> tuple[int, ...]:  # noqa: ANN401
    sizes = getattr(shape, "values", shape)
    try:
        return tuple(int(size) for size in sizes)
    except TypeError as error:
        raise CompileError(f"shape {shape} is not fixed") from error
