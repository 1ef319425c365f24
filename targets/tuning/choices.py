"""What records mean for a model: which tiles and which schedules its kernels get.

Imports TVM: only processes of `worker` import this module.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.schedule.products import Product, from_text
from crespr_onnx.targets.schedule.tiles import Tile
from crespr_onnx.targets.tuning.kernels import function_key
from crespr_onnx.targets.tuning.records import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """What is used instead of what our rules would choose.

    Attributes:
        tiles: by product.
        traces: decisions of MetaSchedule's by structural hash of the function.
    """

    tiles: Mapping[Product, Tile] = field(default_factory=dict)
    traces: Mapping[str, list[Any]] = field(default_factory=dict)

    def schedule(self, function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc | None:
        """The function with what was chosen for it, or None if nothing was."""
        trace = self.traces.get(function_key(function)) if self.traces else None
        return None if trace is None else apply_trace(function, trace)


def choices_of(records: Mapping[str, Record]) -> Choices:
    """The choices that records stand for; what is no faster than our own schedules is none."""
    tiles, traces = {}, {}
    for key, record in records.items():
        if record.tile is not None:
            tiles[from_text(key)] = Tile(*record.tile)
        if record.trace is not None:
            traces[key] = record.trace
    return Choices(tiles, traces)


def apply_trace(function: tvm.tirx.PrimFunc, trace: list[Any]) -> tvm.tirx.PrimFunc | None:
    """The function scheduled by a trace as `trace_of` gives it; None if it does not fit."""
    try:
        sch = Schedule(function)
        Trace.apply_json_to_schedule(trace, sch)
        return sch.mod["main"]
    except Exception as error:
        log.warning("a tuning record does not fit its kernel: %s", brief(error))
        return None


def trace_of(sch: Schedule) -> list[Any]:
    """The decisions of a schedule, as JSON holds them."""
    content: list[Any] = _plain(sch.trace.as_json())
    return content


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tvm.tirx.IntImm | tvm.tirx.FloatImm):
        return value.value
    return value
