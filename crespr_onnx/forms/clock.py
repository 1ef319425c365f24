"""Times contests, each structure once: what is known already costs nothing."""

import logging
from collections.abc import Callable, Mapping, Sequence

from crespr_onnx.errors import CompileError
from crespr_onnx.forms.cache import Cache
from crespr_onnx.forms.contest import Contest
from crespr_onnx.forms.engine import Engine, Times

logger = logging.getLogger(__name__)


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
            known |= self._measure(new, done)
        done(1.0)
        return [known[contest.key] for contest in contests]

    def _measure(
        self, new: Mapping[str, Contest], done: Callable[[float], None]
    ) -> dict[str, Times]:
        try:
            found = self._engine.time(list(new.values()), done)
        except CompileError as error:
            # Another time it may work, so this is nothing to keep.
            logger.warning("forms are not timed: %s", error)
            return {key: {} for key in new}
        for contest, times in zip(new.values(), found, strict=True):
            self._cache.keep(self._key(contest), times)
        return dict(zip(new, found, strict=True))

    def _key(self, contest: Contest) -> dict[str, str]:
        return {**self._engine.key, "models": contest.key}
