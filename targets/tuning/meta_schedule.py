"""Schedules that TVM's MetaSchedule thinks of, for kernels that are none of our own.

Shao et al., Tensor Program Optimization with Probabilistic Programs, arXiv 2205.13603. Candidates
come from its evolutionary search; compiling and timing them is ours (`contest`). Its learned cost
model would need xgboost and more measurements than are made here: candidates are drawn at random
and bred from the fastest.

Imports TVM: only processes of `worker` import this module.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tvm

POPULATION = 24
"""Candidates that are bred at once; TVM's 512 take minutes for one kernel."""
BATCH = 8


class Search:
    """A search for one kernel, which learns from what is measured."""

    def __init__(
        self, function: tvm.tirx.PrimFunc, target: tvm.target.Target, seed: int, trials: int
    ) -> None:
        with _cheap_stacks():
            from tvm.s_tir import meta_schedule

            self._module = meta_schedule
            strategy = meta_schedule.search_strategy.EvolutionarySearch(
                population_size=POPULATION, genetic_num_iters=2, init_min_unmeasured=BATCH
            )
            self._context = meta_schedule.TuneContext(
                mod=function,
                target=target,
                space_generator="post-order-apply",
                search_strategy=strategy,
                rand_state=seed + 1,
                num_threads=1,
            )
            self._context.pre_tuning(
                trials,
                BATCH,
                self._context.generate_design_space(),
                meta_schedule.database.MemoryDatabase(),
                meta_schedule.cost_model.RandomModel(seed=seed),
            )
        self._batch: list[Any] = []

    def propose(self) -> list[tvm.s_tir.Schedule]:
        """Schedules to measure next; none if there are no more."""
        self._batch = list(self._context.generate_measure_candidates() or [])
        return [candidate.sch for candidate in self._batch]

    def learn(self, microseconds: Mapping[int, float]) -> None:
        """Tell how long those that were proposed last take, by position; some may have failed."""
        results = []
        for i in range(len(self._batch)):
            if i in microseconds:
                result = self._module.runner.RunnerResult([1e-6 * microseconds[i]], None)
            else:
                result = self._module.runner.RunnerResult(None, "it did not run, or wrongly")
            results.append(result)
        self._context.notify_runner_results(self._batch, results)


@contextmanager
def _cheap_stacks() -> Iterator[None]:
    """Without looking at the stack for every function that TVM's modules declare in TVMScript.

    For each of hundreds of functions TVM asks for the whole stack with the source around every
    frame, which takes half a minute in all; it looks there for variables that these do not use.
    """
    stack = inspect.stack
    inspect.stack = lambda context=1: []
    try:
        yield
    finally:
        inspect.stack = stack
