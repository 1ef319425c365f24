"""What a target is, and what compiling for one leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A kind of machine that the compressed model is made for.

    Attributes:
        name: the value of ``--target``.
        description: one line for ``crespr-onnx targets``.
        compiles: whether TVM builds an artefact for it; if not, the ONNX model is the product.
        tvm: the TVM target without what only the machine itself can tell, such as its CPU.
    """

    name: str
    description: str
    compiles: bool
    tvm: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artefact:
    """A compiled model on disk.

    Attributes:
        folder: where its files are.
        files: size in bytes by file name, all that is needed to run it besides TVM's runtime.
        seconds: wall time that the compilation took.
    """

    folder: Path
    files: Mapping[str, int]
    seconds: float
