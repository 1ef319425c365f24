"""Measured times that later runs need not measure again, one small file for each contest."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crespr_onnx.cache_folder import cache_folder
from crespr_onnx.errors import UsageError
from crespr_onnx.files import write_atomic

SCHEMA = "1"
"""Part of every key: with another way of measuring, old times are worth nothing."""

logger = logging.getLogger(__name__)

Key = Mapping[str, str]


@dataclass(frozen=True)
class Cache:
    """Times by what was measured.

    Attributes:
        folder: where the files are; it is made when there is something to keep.
    """

    folder: Path

    def find(self, key: Key, names: Mapping[str, object]) -> dict[str, float] | None:
        """The milliseconds that were kept for a key, or None. Damaged files count as none.

        Args:
            key: what was measured, and on what.
            names: what was timed; what could not be run has no time.
        """
        try:
            content = json.loads(self._path(key).read_text("utf-8"))
            times = {str(name): float(time) for name, time in content["milliseconds"].items()}
            sound = content["key"] == _whole(key) and times.keys() <= names.keys()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return times if sound and all(0 < t < math.inf for t in times.values()) else None

    def keep(self, key: Key, times: Mapping[str, float]) -> None:
        """Keeps times for later runs; where nothing can be written, they are measured again."""
        content = {"key": _whole(key), "milliseconds": dict(times)}
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(content, indent=1) + "\n")
        except (OSError, UsageError) as error:
            logger.info("measured times are not kept: %s", error)

    def _path(self, key: Key) -> Path:
        text = json.dumps(_whole(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def user_cache() -> Cache:
    """The cache of this user: below the folder that CRESPR_CACHE names, if it does."""
    return Cache(cache_folder() / "forms")


def _whole(key: Key) -> dict[str, str]:
    return {"schema": SCHEMA, **key}
