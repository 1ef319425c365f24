"""The search for kernels that are faster than those of our own schedules.

Imports TVM: only processes of `worker` import this module.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import tvm

from crespr_onnx.errors import CompileError
from crespr_onnx.targets.brief import brief
from crespr_onnx.targets.schedule.machine import Machine, machine_of
from crespr_onnx.targets.schedule.pipeline import lower_for, schedule_function
from crespr_onnx.targets.schedule.products import Product
from crespr_onnx.targets.schedule.standalone import standalone
from crespr_onnx.targets.schedule.tiles import Tile, best_tiles, choose_tile, distance
from crespr_onnx.targets.tuning.choices import choices_of, trace_of
from crespr_onnx.targets.tuning.contest import Arena, Contest, Contestant, hold
from crespr_onnx.targets.tuning.kernels import (
    Kernel,
    by_call,
    kernels_of,
    model_key,
    product_arguments,
    product_key,
)
from crespr_onnx.targets.tuning.meta_schedule import Search
from crespr_onnx.targets.tuning.records import Record, append_records, read_records
from crespr_onnx.targets.tuning.request import Tuned, Tuning
from crespr_onnx.tuning_record import OWN_SCHEDULE, KernelRecord

log = logging.getLogger(__name__)

LEAST_SHARE = 0.01
"""Kernels that take less of the time of all are not worth a trial."""
MARGIN = 0.97
"""What replaces our own schedule takes at most so much of its time: more is noise."""
TILE, SEARCHED = "other tile", "MetaSchedule"

Tell = Callable[[float, str], None]
"""Told about progress: the share that is done, and what else is worth showing."""


class Tuner:
    """One search, for one model."""

    def __init__(self, module: tvm.IRModule, arena: Arena, request: Tuning, tell: Tell) -> None:
        self._module, self._arena, self._request, self._tell = module, arena, request, tell
        self._target = tvm.target.Target(dict(arena.target))
        self._machine = machine_of(self._target, arena.threads)
        self._records = read_records(request.records, arena.target)
        self._start = time.monotonic()
        self._measured = 0
        self._best = 1.0
        self._kernels = kernels_of(self._lowered({}))
        self._model = model_key(self._kernels)

    def run(self) -> Tuned:
        """Measure what is not on record yet, and record it.

        Raises:
            CompileError: not even our own schedules run, or the board does not answer.
            UsageError: the records cannot be read or written; across processes a CompileError.
        """
        known = self._records.get(self._model)
        if known is None and not self._request.trials:
            known = self._applied()
        if known is None or known.trials < self._request.trials:
            known = self._search()
            self._keep(known)
        return Tuned(
            self._model,
            dict(self._arena.target),
            tuple(KernelRecord(**row) for row in known.kernels or ()),
            self._measured,
            any(row["winner"] != OWN_SCHEDULE for row in known.kernels or ()),
            known.ratio,
        )

    def _search(self) -> Record:
        self._tell(0.0, "timing every kernel")
        times = self._own_times()
        spent = {k.key: times[k.key] * len(k.calls) for k in self._kernels}
        total = sum(spent.values())
        shares = {key: value / total for key, value in spent.items()}
        worthy = [k for k in self._kernels if shares[k.key] >= LEAST_SHARE]
        worthy.sort(key=lambda kernel: -shares[kernel.key])
        for i, kernel in enumerate(worthy):
            if time.monotonic() - self._start > self._request.limit_s:
                break
            self._announce(i, worthy)
            if kernel.product is None:
                self._try_schedules(kernel)
            else:
                self._try_tiles(kernel.product)
        return self._judge(worthy, shares)

    def _applied(self) -> Record:
        """What the records change, without measuring anything."""
        choices = choices_of(self._records)
        after = by_call(kernels_of(self._lowered(choices.tiles)))
        rows: list[dict[str, Any]] = []
        for kernel in self._kernels:
            searched = after[kernel.calls[0]].key in choices.traces
            if searched or kernel.product in choices.tiles:
                row = {"name": kernel.name, "trials": self._trials(kernel)}
                row |= dict.fromkeys(("share", "before_us", "after_us"))
                rows.append({**row, "winner": SEARCHED if searched else TILE})
        return Record(self._model, 0, None, kernels=rows)

    def _announce(self, index: int, kernels: Sequence[Kernel]) -> None:
        best = f"; best so far {1 / self._best:.2f}x" if self._best < 1.0 else ""
        name = kernels[index].name
        self._tell(index / len(kernels), f"kernel {index + 1} of {len(kernels)}: {name}{best}")

    def _own_times(self) -> dict[str, float]:
        """Microseconds per call of every kernel with our own schedule, by key."""
        contests = [Contest(self._own(kernel, self._machine), {}) for kernel in self._kernels]
        outcomes = hold(contests, self._arena)
        if all(outcome is None for outcome in outcomes):
            raise CompileError("no kernel could be timed; tuning is not possible here")
        return {
            kernel.key: 0.0 if outcome is None else outcome.reference_us
            for kernel, outcome in zip(self._kernels, outcomes, strict=True)
        }

    def _try_tiles(self, product: Product) -> None:
        """Time the tiles that are estimated to be the fastest against the one that we chose."""
        key, trials = product_key(product), self._request.trials
        known = self._records.get(key)
        if known is not None and known.trials >= trials:
            return
        found = self._fastest_tile(product, trials)
        record = Record(key, trials, 1.0)
        if found is not None and found[1] < MARGIN:
            tile, ratio = found
            record = replace(
                record, ratio=round(ratio, 4), tile=(tile.lanes, tile.vectors, tile.rows)
            )
        self._best = min(self._best, record.ratio or 1.0)
        self._keep(record)

    def _try_schedules(self, kernel: Kernel) -> None:
        """Time schedules of MetaSchedule's against our own."""
        trials = self._request.trials
        known = self._records.get(kernel.key)
        if known is not None and known.trials >= trials:
            return
        record, done = Record(kernel.key, trials, 1.0), 0
        try:
            search = Search(kernel.function, self._target, self._request.seed, trials)
        except Exception as error:
            log.info("MetaSchedule has no schedules for %s: %s", kernel.name, brief(error))
            self._keep(record)
            return
        while done < trials and (schedules := search.propose()[: trials - done]):
            others = {
                str(i): Contestant(sch.mod["main"], kernel.arguments)
                for i, sch in enumerate(schedules)
            }
            (outcome,) = hold([Contest(self._own(kernel, self._machine), others)], self._arena)
            done += len(schedules)
            self._measured += len(schedules)
            times = {} if outcome is None else outcome.others_us
            search.learn({int(name): time for name, time in times.items()})
            best = min(times, key=times.__getitem__, default="")
            if outcome is not None and best and outcome.ratio(best) < MARGIN * (record.ratio or 1):
                trace = trace_of(schedules[int(best)])
                record = replace(record, ratio=round(outcome.ratio(best), 4), trace=trace)
        self._best = min(self._best, record.ratio or 1.0)
        self._keep(record)

    def _fastest_tile(self, product: Product, trials: int) -> tuple[Tile, float] | None:
        """The fastest tile but our own, and its time over that one's."""
        own = choose_tile(self._machine, product.problem)
        untried = [t for t in best_tiles(self._machine, product.problem) if t != own]
        best: tuple[Tile, float] | None = None
        # First those that are estimated to be fast, then those like the fastest of them.
        for count in (trials - trials // 2, trials // 2):
            if best is not None:
                untried.sort(key=partial(distance, best[0] if best[1] < 1.0 else own))
            tiles, untried = untried[:count], untried[count:]
            contest = Contest(
                self._tiled(product, own),
                {str(i): self._tiled(product, tile) for i, tile in enumerate(tiles)},
                same_arguments=False,
            )
            (outcome,) = hold([contest], self._arena) if tiles else [None]
            self._measured += len(tiles)
            if outcome is not None and outcome.others_us:
                name = min(outcome.others_us, key=outcome.others_us.__getitem__)
                if best is None or outcome.ratio(name) < best[1]:
                    best = tiles[int(name)], outcome.ratio(name)
        return best

    def _judge(self, worthy: Sequence[Kernel], shares: Mapping[str, float]) -> Record:
        """What became of each kernel, measured against our own schedule once more."""
        self._tell(1.0, "comparing")
        choices = choices_of(self._records)
        machine = replace(self._machine, tiles=choices.tiles)
        after = by_call(kernels_of(self._lowered(choices.tiles)))
        contests, winners = [], []
        for kernel in worthy:
            tuned = after[kernel.calls[0]]
            searched = choices.schedule(tuned.function)
            final = self._own(tuned, machine)
            if searched is not None:
                final = replace(final, function=searched)
            tiled = kernel.product in choices.tiles
            winners.append(SEARCHED if searched is not None else TILE if tiled else OWN_SCHEDULE)
            others = {} if winners[-1] == OWN_SCHEDULE else {"tuned": final}
            contests.append(Contest(self._own(kernel, self._machine), others, not tiled))
        rows = []
        for kernel, winner, outcome in zip(
            worthy, winners, hold(contests, self._arena), strict=True
        ):
            before = 0.0 if outcome is None else outcome.reference_us
            found = None if outcome is None else outcome.others_us.get("tuned")
            rows.append(
                {
                    "name": kernel.name,
                    "share": round(shares[kernel.key], 4),
                    "trials": self._trials(kernel),
                    "before_us": round(before, 3),
                    "after_us": round(before if found is None else found, 3),
                    "winner": winner,
                }
            )
        return Record(self._model, self._request.trials, None, kernels=rows)

    def _trials(self, kernel: Kernel) -> int:
        keys = [kernel.key] if kernel.product is None else [kernel.key, product_key(kernel.product)]
        return sum(self._records[key].trials for key in keys if key in self._records)

    def _lowered(self, tiles: Mapping[Product, Tile]) -> tvm.IRModule:
        return lower_for(self._module, self._target, replace(self._machine, tiles=tiles))

    def _own(self, kernel: Kernel, machine: Machine) -> Contestant:
        return Contestant(schedule_function(kernel.function, machine), kernel.arguments)

    def _tiled(self, product: Product, tile: Tile) -> Contestant:
        function = schedule_function(standalone(product, tile), self._machine)
        return Contestant(function, product_arguments(product, product.packed(tile)))

    def _keep(self, record: Record) -> None:
        self._records[record.kernel] = record
        append_records(self._request.records, self._arena.target, [record])


def tuned_to_json(tuned: Tuned) -> dict[str, Any]:
    """What the process that asked for it reads."""
    return {**vars(tuned), "kernels": [vars(kernel) for kernel in tuned.kernels]}
