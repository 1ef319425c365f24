"""Marks on TIR blocks, by which a kernel's computation tells its schedule what it is."""

import tvm
from tvm.s_tir import Schedule

KERNEL = "crespr.kernel"
PRODUCT = "crespr.product"
STAGE = "crespr.stage"
"""A computation that is not inlined; its value is the step between the numbers it reads."""
LANES = "crespr.lanes"
VECTORS = "crespr.vectors"
ROWS = "crespr.rows"
WORK = "crespr.work"

# FuseOps' name for "element-wise operators may be fused behind this one".
OUT_ELEMENTWISE_FUSABLE = 4


def blocks_of(sch: Schedule) -> list[tvm.s_tir.schedule.SBlockRV]:
    """All blocks of the function below its root, in program order."""
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def annotation(sch: Schedule, block: tvm.s_tir.schedule.SBlockRV, key: str) -> int | str | None:
    """The value of a block's annotation, or None."""
    value = sch.get(block).annotations.get(key)
    if value is None:
        return None
    return int(value) if isinstance(value, int | tvm.tirx.IntImm) else str(value)


def reduces(sch: Schedule, block: tvm.s_tir.schedule.SBlockRV) -> bool:
    """Whether a block accumulates over an axis."""
    return sch.get(block).init is not None


def extent(sch: Schedule, loop: tvm.s_tir.schedule.LoopRV) -> int:
    """Trip count of a loop whose extent is static."""
    return int(sch.get(loop).extent)


def widest(sch: Schedule, loop: tvm.s_tir.schedule.LoopRV, limit: int = 64) -> int:
    """The largest divisor of a loop's extent up to `limit`."""
    size = extent(sch, loop)
    return max(d for d in range(1, min(size, limit) + 1) if size % d == 0)
