"""The machines that a model can be compiled for.

Importing this package imports neither TVM nor PyTorch: compiling, running and timing happen in
processes of their own (`compile_cpu`, `check`).
"""

from crespr_onnx.errors import UsageError
from crespr_onnx.targets.target import Artefact, Target

__all__ = ["TARGETS", "Artefact", "Target", "find_target"]

TARGETS = {
    "onnx": Target("onnx", "any ONNX runtime: the model is shrunk, nothing is compiled", False),
    "cpu": Target("cpu", "the CPU of this machine, through TVM", True, {"kind": "llvm"}),
}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}; known targets: {', '.join(sorted(TARGETS))}")
    return TARGETS[name]
