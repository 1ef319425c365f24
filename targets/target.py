"""What a target is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crespr_onnx.targets.system import System


@dataclass(frozen=True)
class Target:
    """A kind of machine that the compressed model is made for.

    Attributes:
        name: the value of ``--target``.
        description: one line for ``crespr-onnx targets``.
        compiles: whether TVM builds an artefact for it; if not, the ONNX model is the product.
        tvm: the TVM target without what only the machine itself can tell, such as its CPU.
        cores: what may follow the name and a colon, and what each adds to `tvm`.
        system: what it runs on, or None for this machine.
        library: what comes out: one that TVM's runtime loads, or one in plain C to link with.
        systems: the same for those of the `cores` where it is another.
        variant: what one of `cores` is called.
        limit: why there are no other `cores`, or "".
    """

    name: str
    description: str
    compiles: bool
    tvm: Mapping[str, Any] = field(default_factory=dict)
    cores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    system: System | None = None
    library: Literal["model.so", "libmodel.a"] = "model.so"
    systems: Mapping[str, System] = field(default_factory=dict)
    variant: str = "core"
    limit: str = ""
