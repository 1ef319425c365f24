"""Times contests, each structure once: what is known already costs nothing."""

from collections.abc import Callable, Sequence

from crespr_onnx.forms.cache import Cache
from crespr_onnx.forms.contest import Contest
from crespr_onnx.forms.engine import Engine, Times


class Clock:
    """An engine with a memory.

    Attributes:
        timed: how many contests the engine had to time.
    """

    def __init__(self, engine: Engine, cache: Cache) -> None:
        self.timed = 0
        self._engine = engine
        self._cache = cache

    def time(self, contests: Sequence[Contest], done: Callable[[float], None]) -> list[Times]:
        """The times of each contest; see `Engine.time`."""
        known: dict[str, Times] = {}
        new: dict[str, Contest] = {}
        for contest in contests:
            if len(contest.arrangements) < 2:
                known[contest.key] = {}
            elif contest.key not in known and contest.key not in new:
                kept = self._cache.find(self._key(contest), contest.arrangements)
                if kept is None:
                    new[contest.key] = contest
                else:
                    known[contest.key] = kept
        if new:
            self.timed += len(new)
            found = self._engine.time(list(new.values()), done)
            for contest, times in zip(new.values(), found, strict=True):
                known[contest.key] = times
                self._cache.keep(self._key(contest), times)
        done(1.0)
        return [known[contest.key] for contest in contests]

    def _key(self, contest: Contest) -> dict[str, str]:
        return {**self._engine.key, "models": contest.key}
