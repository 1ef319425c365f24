"""A union-find over whole arrays of ids, with a reason attached to each set."""

import numpy as np

from crespr_onnx.layout import IntArray

_NONE = np.iinfo(np.int64).max


class UnionFind:
    """Sets of integer ids; each set goes by its lowest id.

    All operations take arrays and run without a Python loop over ids: layers have thousands of
    channels, and models thousands of layers.
    """

    def __init__(self) -> None:
        self._size = 0
        self._parent = np.zeros(64, dtype=np.int64)
        self._reason = np.zeros(64, dtype=np.int64)
        self._reasons: list[str] = []

    def __len__(self) -> int:
        return self._size

    def fresh(self, n: int) -> IntArray:
        """`n` new ids, each a set of its own."""
        start, self._size = self._size, self._size + n
        if self._size > len(self._parent):
            room = np.zeros(self._size, dtype=np.int64)  # doubles at least
            self._parent = np.concatenate([self._parent, room])
            self._reason = np.concatenate([self._reason, room])
        ids = np.arange(start, self._size, dtype=np.int64)
        self._parent[ids], self._reason[ids] = ids, _NONE
        return ids

    def find(self, ids: IntArray) -> IntArray:
        """For each id the lowest id of its set."""
        roots = self._parent[ids]
        while not np.array_equal(above := self._parent[roots], roots):
            roots = above
        self._parent[ids] = roots
        return roots

    def unite(self, a: IntArray, b: IntArray) -> None:
        """Joins the sets of `a` and `b`, position by position; both have the same length."""
        first, second = self.find(a), self.find(b)
        while (differ := first != second).any():
            low = np.minimum(first, second)[differ]
            high = np.maximum(first, second)[differ]
            # Of several sets that want the same one, the lowest gets it; the others, in the next
            # round, meet there.
            np.minimum.at(self._parent, high, low)
            np.minimum.at(self._reason, self.find(high), self._reason[high])
            first, second = self.find(a), self.find(b)

    def mark(self, ids: IntArray, reason: str) -> None:
        """Gives the sets of `ids` a reason; of several, the first that was given stands."""
        np.minimum.at(self._reason, self.find(ids), len(self._reasons))
        self._reasons.append(reason)

    def reasons(self, ids: IntArray) -> list[str | None]:
        """For each id the reason of its set, or None."""
        numbers = self._reason[self.find(ids)].tolist()
        return [None if n == _NONE else self._reasons[n] for n in numbers]
