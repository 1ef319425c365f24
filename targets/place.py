"""Where an artefact can be run: on this machine, under emulation, on another, or nowhere."""

from dataclasses import dataclass
from typing import Literal

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.board_runtime import find_runtime
from crespr_onnx.targets.cuda_gpu import obstacle
from crespr_onnx.targets.system import compiler, emulator, is_here
from crespr_onnx.targets.target import Target


@dataclass(frozen=True)
class Place:
    """Where a target's artefacts run.

    Attributes:
        ran: the word for it in reports.
        remark: what the reader of a report must know of it, or None.
    """

    ran: Literal["here", "emulated", "remote", "nowhere"]
    remark: str | None = None


def place_of(target: Target) -> Place:
    """Where artefacts of a target run, as far as this machine and what is installed can tell."""
    if target.tvm.get("kind") == "cuda":
        reason = obstacle(target.tvm["arch"])
        if reason is None:
            return Place("here")
        return Place("nowhere", f"the artefact for {target.name} was compiled, not run: {reason}")
    system = target.system
    if system is None or is_here(system):
        return Place("here")
    name = target.name
    if (program := emulator(system)) is None:
        return Place(
            "nowhere",
            f"the artefact for {name} has not run: there is no {system.emulators[0]} with "
            f"{system.sysroot} here; apt-get install {system.packages}",
        )
    if system.wheels and not find_runtime(system):
        return Place(
            "nowhere",
            f"the artefact for {name} has not run: TVM's runtime for {system.machine} is not here; "
            f"get it with crespr-onnx targets --fetch {name.partition(':')[0]}",
        )
    try:
        compiler(system, program=True, cxx=bool(system.wheels))
    except CompileError as error:
        return Place("nowhere", f"the artefact for {name} has not run: {error}")
    return Place(
        "emulated",
        f"the artefact for {name} was run under {program.name}, where its latency is that of no "
        "board: it was not measured",
    )
