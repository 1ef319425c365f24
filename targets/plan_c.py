"""The plan of a compiled model as C: the tables that ``runners/tiny.c`` runs."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

from crespr_onnx.targets.plan import ALIGNMENT, Plan, PlannedTensor, item

CONSTANTS = "constants.bin"
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""Kinds of numbers as DLPack numbers them."""

Specs = Sequence[Mapping[str, Any]]


def plan_to_c(plan: Plan, inputs: Specs, outputs: Specs) -> str:
    """C source of a plan; it includes the file `CONSTANTS` as it is assembled.

    Args:
        plan: what a run does.
        inputs: name, shape and dtype of each input, as in a manifest.
        outputs: the same of the outputs.
    """
    kernels = sorted({step.kernel for step in plan.steps})
    shapes = {shape: f"shape_{i}" for i, shape in enumerate(_shapes(plan))}
    arguments = [index for step in plan.steps for index in step.arguments]
    sections = [
        '/* Generated. */\n#include "plan.h"\n',
        *(f"Kernel __tvm_ffi_{kernel};" for kernel in kernels),
        f"static uint8_t memory[{max(plan.memory, 1)}] __attribute__((aligned({ALIGNMENT})));",
        # Assembled rather than spelled out: compilers take minutes for megabytes of numbers.
        '__asm__(".section .rodata\\n"\n'
        f'        ".balign {ALIGNMENT}\\n"\n'
        '        "plan_constants:\\n"\n'
        f'        ".incbin \\"{CONSTANTS}\\"\\n"\n'
        '        ".byte 0\\n"\n'
        '        ".previous\\n");',
        'extern uint8_t constants[] __asm__("plan_constants") '
        '__attribute__((visibility("hidden")));',
        *(
            f"static const int64_t {name}[] = {{{_numbers(shape or (0,))}}};"
            for shape, name in shapes.items()
        ),
        _table("DLTensor plan_tensors", (_tensor(t, shapes[t.shape]) for t in plan.tensors)),
        f"const int16_t plan_arguments[] = {{{_numbers(arguments or [0])}}};",
        _table("const Step plan_steps", _steps(plan)),
        f"const int plan_step_count = {len(plan.steps)};",
    ]
    for what, indices, specs in (
        ("input", plan.inputs, inputs),
        ("output", plan.outputs, outputs),
    ):
        lines = (
            _described(spec, plan.tensors[index], shapes[plan.tensors[index].shape])
            for index, spec in zip(indices, specs, strict=True)
        )
        sections += [
            f"const int16_t plan_{what}s[] = {{{_numbers(indices or (0,))}}};",
            f"const int model_{what}_count = {len(indices)};",
            _table(f"const ModelTensor model_{what}s", lines),
        ]
    return "\n".join(sections) + "\n"


def quoted(text: str) -> str:
    """A C string literal."""
    octal = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return '"' + "".join(octal) + '"'


def _shapes(plan: Plan) -> Iterable[tuple[int, ...]]:
    return sorted({tensor.shape for tensor in plan.tensors})


def _tensor(tensor: PlannedTensor, shape: str) -> str:
    kind, size = item(tensor.dtype)
    return (
        f"{{{tensor.place} + {tensor.offset}, {{1, 0}}, {len(tensor.shape)}, "
        f"{{{CODES[kind]}, {8 * size}, 1}}, (int64_t*){shape}, 0, 0}}"
    )


def _steps(plan: Plan) -> Iterable[str]:
    first = 0
    for step in plan.steps:
        count = len(step.arguments)
        yield f"{{__tvm_ffi_{step.kernel}, {quoted(step.kernel)}, {first}, {count}}}"
        first += count


def _described(spec: Mapping[str, Any], tensor: PlannedTensor, shape: str) -> str:
    kind, size = item(tensor.dtype)
    bytes_ = prod(tensor.shape) * size
    name = quoted(spec["name"])
    return f"{{{name}, '{kind}', {size}, {len(tensor.shape)}, {shape}, {bytes_}}}"


def _table(head: str, lines: Iterable[str]) -> str:
    rows = list(lines) or ["{0}"]
    return f"{head}[] = {{\n" + "".join(f"  {row},\n" for row in rows) + "};"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
