"""The machines that a model can be compiled for.

Importing this package imports neither TVM nor PyTorch: compiling, running and timing happen in
processes of their own (`compile`, `check`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crespr_onnx.errors import UsageError
from crespr_onnx.targets import cuda
from crespr_onnx.targets.system import AARCH64, ARMV7
from crespr_onnx.targets.target import Target

__all__ = ["TARGETS", "Target", "find_target"]


def _mcpu(*names: str) -> Mapping[str, Mapping[str, Any]]:
    return {name: {"mcpu": name} for name in names}


# Weights that LLVM loads far ahead end on the stack: so with its model of the Cortex-A57, which it
# has for these as well (a third more instructions in convolutions), not with those of others that
# have the same instructions; and with its older scheduler, which it takes for 32-bit cores (3.4
# times as many).
SCHEDULED_AS = {
    "cortex-a72": {"mcpu": "generic"},
    "cortex-a76": {"mcpu": "neoverse-n1"},
    "cortex-a78": {"mcpu": "neoverse-n1"},
}
NEWER_SCHEDULER = "+use-misched"

TARGETS = {
    "onnx": Target("onnx", "any ONNX runtime: the model is shrunk, nothing is compiled", False),
    "cpu": Target("cpu", "the CPU of this machine, through TVM", True, {"kind": "llvm"}),
    "arm64": Target(
        "arm64",
        "64-bit ARM boards with Linux, through TVM",
        True,
        {"kind": "llvm", "mtriple": AARCH64.triple, "mcpu": "generic"},
        {
            **_mcpu("generic", "cortex-a53", "cortex-a55", *SCHEDULED_AS),
            **_mcpu("neoverse-n1", "neoverse-v1"),
            **SCHEDULED_AS,
        },
        AARCH64,
    ),
    "armv7": Target(
        "armv7",
        "32-bit ARM boards with NEON, as a static library in plain C",
        True,
        {"kind": "llvm", "mtriple": "armv7l-linux-gnueabihf", "mcpu": "cortex-a7",
         "mattr": ["+neon", NEWER_SCHEDULER], "mfloat-abi": "hard"},
        _mcpu("cortex-a7", "cortex-a8", "cortex-a9", "cortex-a15", "cortex-a17"),
        ARMV7,
        "libmodel.a",
    ),
    "cuda": Target(
        "cuda",
        f"CUDA devices, through TVM; alone it means {cuda.DEFAULT} "
        f"({cuda.CAPABILITIES[cuda.DEFAULT].boards})",
        True,
        cuda.tvm_target(cuda.DEFAULT),
        {name: cuda.tvm_target(name) for name in cuda.CAPABILITIES},
        cuda.CAPABILITIES[cuda.DEFAULT].system,
        systems={name: found.system for name, found in cuda.CAPABILITIES.items()},
        variant="capability",
        limit=cuda.LOWEST,
    ),
}  # fmt: skip


def find_target(name: str) -> Target:
    """The target of that name; ``arm64:cortex-a72`` is one for a certain core.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    family, colon, core = name.partition(":")
    if family not in TARGETS:
        raise UsageError(f"unknown target {name!r}; known targets: {', '.join(sorted(TARGETS))}")
    target = TARGETS[family]
    if not colon:
        return target
    if not target.cores:
        raise UsageError(f"target {family!r} has no variants such as {core!r}; use {family!r}")
    if core not in target.cores:
        known = ", ".join(target.cores)
        many = "capabilities" if target.variant == "capability" else f"{target.variant}s"
        raise UsageError(
            f"unknown {target.variant} {core!r} of target {family!r}; known {many}: {known}"
            + (f"\n{target.limit}." if target.limit else "")
        )
    system = target.systems.get(core, target.system)
    return replace(target, name=name, tvm={**target.tvm, **target.cores[core]}, system=system)
