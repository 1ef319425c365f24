"""The schedule of `conv2d`: threads of a block share an image patch and weights."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from crespr_onnx.targets.cuda import Capability
from crespr_onnx.targets.schedule import annotations as mark
from crespr_onnx.targets.schedule_cuda.conv2d import DILATION, STRIDE
from crespr_onnx.targets.schedule_cuda.rules import schedule_reduction
from crespr_onnx.targets.schedule_cuda.threads import inline_others
from crespr_onnx.targets.schedule_cuda.tiles import Tile, Work, choose_tile

UNROLL = 64
FEWEST_POSITIONS = 16
WEIGHT = 1
"""Which of the two that `compute_conv2d` multiplies is the weight."""


def schedule_convolution(sch: Schedule, kernel: SBlockRV, capability: Capability) -> None:
    """Schedule a function around a block made by `compute_conv2d`.

    With too few positions for the threads of a warp, a warp shares each sum instead.
    """
    work = work_of(sch, kernel, capability.multiprocessors)
    if work.height * work.width < FEWEST_POSITIONS:
        schedule_reduction(sch, kernel)
    else:
        schedule_patches(sch, kernel, work)


def schedule_patches(sch: Schedule, kernel: SBlockRV, work: Work) -> None:
    """Each block of threads computes a tile of the output, from what it copied before."""
    (image,) = (b for b in mark.blocks_of(sch) if mark.annotation(sch, b, mark.STAGE) is not None)
    last = mark.blocks_of(sch)[-1]
    inline_others(sch, image, kernel, last)
    tile = choose_tile(work)
    thread = _spread(sch, last, work.groups, tile)
    sch.set_scope(kernel, 0, "local")
    sch.set_scope(image, 0, "shared")
    weight = sch.cache_read(kernel, WEIGHT, "shared")
    sch.compute_at(kernel, thread, preserve_unit_loops=True)
    chunk = _accumulate(sch, kernel, tile)
    for staged in (image, weight):
        _copy(sch, staged, chunk, tile.threads)
    sch.decompose_reduction(kernel, chunk)


def work_of(sch: Schedule, kernel: SBlockRV, multiprocessors: int) -> Work:
    """What a block made by `compute_conv2d` computes."""
    batch, groups, per_group_out, height, width, per_group, kh, kw = (
        int(var.dom.extent) for var in sch.get(kernel).iter_vars
    )

    def both(key: str) -> tuple[int, int]:
        h, w = (mark.annotation(sch, kernel, f"{key}.{axis}") for axis in "hw")
        return int(h or 1), int(w or 1)

    return Work(
        batch=batch,
        groups=groups,
        per_group_out=per_group_out,
        per_group=per_group,
        height=height,
        width=width,
        kernel=(kh, kw),
        stride=both(STRIDE),
        dilation=both(DILATION),
        multiprocessors=multiprocessors,
    )


def _spread(sch: Schedule, last: SBlockRV, groups: int, tile: Tile) -> LoopRV:
    """Bind the loops of the result; the loop of threads, around that of a thread's rows."""
    n, o, h, w = sch.get_loops(last)
    g, o_block, o_thread, row = sch.split(o, [groups, None, tile.channels, tile.rows])
    h_block, h_thread = sch.split(h, [None, tile.height])
    w_block, w_thread = sch.split(w, [None, tile.width])
    sch.reorder(n, g, o_block, h_block, w_block, o_thread, h_thread, w_thread, row)
    sch.bind(sch.fuse(n, g, o_block, h_block, w_block), "blockIdx.x")
    thread = sch.fuse(o_thread, h_thread, w_thread)
    sch.bind(thread, "threadIdx.x")
    sch.unroll(row)
    return thread


def _accumulate(sch: Schedule, kernel: SBlockRV, tile: Tile) -> LoopRV:
    """Order a thread's loops; returns that over the chunks of channels in shared memory."""
    *_, n, g, o, h, w, ic, kh, kw = sch.get_loops(kernel)
    chunk, within = sch.split(ic, [None, tile.depth])
    sch.reorder(n, g, h, w, chunk, within, kh, kw, o)
    # As many multiply-adds in a row as the scheduler of instructions can make use of.
    steps = tile.rows
    for loop in (o, kw, kh):
        sch.unroll(loop)
        steps *= mark.extent(sch, loop) if loop is not o else 1
        if steps > UNROLL:
            break
    return chunk


def _copy(sch: Schedule, staged: SBlockRV, chunk: LoopRV, threads: int) -> None:
    """All threads of the block copy, each its share."""
    sch.compute_at(staged, chunk, preserve_unit_loops=True)
    fused = sch.fuse(*sch.get_loops(staged)[-4:])
    _, thread = sch.split(fused, [None, threads])
    sch.bind(thread, "threadIdx.x")
