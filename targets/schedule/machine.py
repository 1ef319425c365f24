"""What a schedule needs to know of a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm

    from crespr_onnx.targets.schedule.products import Product
    from crespr_onnx.targets.schedule.tiles import Tile


@dataclass(frozen=True)
class Machine:
    """The vector unit of a CPU.

    Attributes:
        lanes: float32 lanes of its widest vectors.
        registers: number of vector registers that a kernel may fill.
        threads: threads that a run may use.
        neon: whether it is that of ARM.
        tiles: those that were measured to be faster than the ones that are estimated to be.
    """

    lanes: int
    registers: int
    threads: int
    neon: bool = False
    tiles: "Mapping[Product, Tile]" = field(default_factory=dict)

    @property
    def widths(self) -> tuple[int, ...]:
        """Vector widths worth using, widest first; narrow ones suit small tensors."""
        return tuple(width for width in (16, 8, 4) if width <= self.lanes)


def machine_of(target: "tvm.target.Target", threads: int) -> Machine:
    """The machine that a TVM target describes."""
    from tvm.target import codegen

    # Not llvm_get_vector_width: it answers 512 bits for x86 CPUs without AVX-512 as well.
    if codegen.llvm_cpu_has_features("avx512vl", target):
        return Machine(lanes=16, registers=32, threads=threads)
    if codegen.llvm_cpu_has_features("avx2", target):
        return Machine(lanes=8, registers=16, threads=threads)
    triple = str(target.attrs.get("mtriple", codegen.llvm_get_system_triple()))
    if triple.startswith(("aarch64", "arm64")):
        return Machine(lanes=4, registers=32, threads=threads, neon=True)
    if not triple.startswith("arm"):
        return Machine(lanes=4, registers=16, threads=threads)
    # Where nothing fuses a multiplication and an addition, products take registers as well.
    fuses = codegen.llvm_cpu_has_features("vfp4", target)
    return Machine(lanes=4, registers=16 if fuses else 12, threads=threads, neon=True)
