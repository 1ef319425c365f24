"""What compiling for a target leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    """

    folder: Path
    files: Mapping[str, int]
    seconds: float
    target: Target
    place: Place
