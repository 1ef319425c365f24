"""What compiling for a target leaves behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crespr_onnx.targets.place import Place
from crespr_onnx.targets.target import Target


@dataclass(frozen=True)
class Artefact:
    """A compiled model on disk.

    Attributes:
        folder: where its files are.
        files: size in bytes by file name; for another system than this machine's they are all
            that is needed there, if TVM's runtime for it was at hand.
        seconds: wall time that the compilation took.
        target: what it was compiled for.
        place: where it runs.
        needs: what else the machine that runs it must have, by what it is; see `cuda.needs_of`.
        kernels: what each kernel uses of a device; see `cubin.KernelUse`.
    """

    folder: Path
    files: Mapping[str, int]
    seconds: float
    target: Target
    place: Place
    needs: Mapping[str, Any] = field(default_factory=dict)
    kernels: Sequence[Mapping[str, Any]] = ()
