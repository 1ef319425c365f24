"""The least time that a model can take: its MACs and bytes at the machine's peak.

The roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009, doi 10.1145/1498765.1498785)
with one refinement: bytes are held against the bandwidth of a buffer as large as all of them, so
that a model which fits a cache is held to the speed of that cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from crespr_onnx.bench.record import ModelRecord, PeakRecord
from crespr_onnx.bench.subjects import Contestant, Subject
from crespr_onnx.errors import ModelError
from crespr_onnx.graph.accounting import node_costs
from crespr_onnx.targets.check import Peak, probe_peak
from crespr_onnx.targets.probe import LEAST_BYTES, MOST_BYTES

METHOD = (
    "gflops: fastest float32 product of square matrices by numpy or ONNX Runtime; gigabytes_per_s: "
    "fastest of a matrix-vector product, a maximum and a copy over a buffer of that many bytes; "
    "what a timed model reached counts as well, and what fewer threads reached"
)


@dataclass(frozen=True)
class Work:
    """What one call has to do at least.

    Attributes:
        macs: multiply-accumulates, or None where they could not be counted.
        bytes: weights, inputs and outputs, each read or written once.
    """

    macs: int | None
    bytes: int

    @property
    def footprint(self) -> int:
        """The bytes within what is probed, as a power of two so that few sizes have to be."""
        return int(min(max(2 ** (max(self.bytes, 1).bit_length() - 1), LEAST_BYTES), MOST_BYTES))


@dataclass(frozen=True)
class Call:
    """A call that was timed: what it did, on how many threads, in how many milliseconds."""

    work: Work
    threads: int
    milliseconds: float


@dataclass(frozen=True)
class Floor:
    """Least milliseconds of a call, and what takes that long."""

    milliseconds: float
    bound_by: Literal["macs", "bytes"]


def model_record(contestant: Contestant, subject: Subject) -> ModelRecord:
    """Sizes of a model; macs are None where ONNX Runtime is needed to find shapes and fails."""
    loaded = contestant.loaded
    try:
        costs = node_costs(loaded.model, subject.input_shapes or None)
    except ModelError:
        costs = ()
    counted = [cost.macs for cost in costs]
    return ModelRecord(
        name=contestant.name,
        path=str(loaded.path),
        sha256=loaded.sha256,
        bytes=loaded.bytes,
        macs=None if None in counted or not counted else sum(c or 0 for c in counted),
        # What several layers share is in the cost of each of them.
        weight_bytes=min(sum(cost.bytes for cost in costs), loaded.bytes),
    )


def find_peaks(calls: Sequence[Call]) -> tuple[Peak, ...]:
    """The machine's peak for every number of threads and every footprint that was timed.

    Raises:
        CompileError: a process that measures crashed or hung.
    """
    footprints = sorted({call.work.footprint for call in calls})
    probed = [probe_peak(footprints, count) for count in sorted({c.threads for c in calls})]
    return raise_peaks(probed, calls)


def raise_peaks(probed: Sequence[Peak], calls: Sequence[Call]) -> tuple[Peak, ...]:
    """Probed peaks, fewest threads first, as high as what was reached while calls were timed.

    A probe is no better than its code and its moment: whatever went faster is a ceiling, too.
    """
    raised: list[Peak] = []
    for peak in probed:
        mine = [call for call in calls if call.threads <= peak.threads]
        lower = [p for p in probed if p.threads <= peak.threads]
        gflops = [2e-6 * (call.work.macs or 0) / call.milliseconds for call in mine]
        gigabytes = {
            size: [1e-6 * c.work.bytes / c.milliseconds for c in mine if c.work.footprint == size]
            for size in peak.gigabytes
        }
        raised.append(
            replace(
                peak,
                gflops=max(gflops + [p.gflops for p in lower]),
                gigabytes={
                    size: max(reached + [p.gigabytes[size] for p in lower])
                    for size, reached in gigabytes.items()
                },
            )
        )
    return tuple(raised)


def floor_of(work: Work, peak: Peak) -> Floor | None:
    """The floor of a call, or None if its MACs are not known."""
    if work.macs is None:
        return None
    arithmetic = 2e-6 * work.macs / peak.gflops
    memory = 1e-6 * work.bytes / peak.gigabytes[work.footprint]
    return Floor(arithmetic, "macs") if arithmetic >= memory else Floor(memory, "bytes")


def peak_record(peak: Peak) -> PeakRecord:
    """A peak as it is recorded."""
    bandwidths = {str(size): value for size, value in peak.gigabytes.items()}
    return PeakRecord(peak.threads, peak.gflops, bandwidths, METHOD)
