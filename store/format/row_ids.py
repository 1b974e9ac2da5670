"""Finding rows by their ids, without an object for each: ids are sorted by their hashes.

A million ids take 16 bytes each beside the texts themselves. Two ids of one hash are told apart by
what they are, so that no choice of ids does any harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.object_]


class RowIds:
    """Which rows an id stands in; `id_at` returns the id of a row."""

    def __init__(self, columns: Iterable[NDArray[np.str_]], id_at: Callable[[int], str]) -> None:
        hashes = [_hashes(values) for values in columns]
        whole = np.concatenate(hashes) if hashes else np.empty(0, np.int64)
        self._order = np.argsort(whole, kind="stable")  # equal ids stay in their order
        self._hashes = whole[self._order]
        self._id_at = id_at

    def __len__(self) -> int:
        """Return the number of rows, those of one id each counted."""
        return len(self._order)

    def first(self, row_id: str) -> int | None:
        """Return the first row that an id stands in, None if there is none."""
        own = hash(row_id)
        place = int(self._hashes.searchsorted(own))
        while place < len(self._hashes) and self._hashes[place] == own:
            row = int(self._order[place])
            if self._id_at(row) == row_id:
                return row
            place += 1
        return None

    def repeated(self) -> dict[int, int]:
        """Return by row the first one of the same id, for the rows that are not the first."""
        same = self._hashes[1:] == self._hashes[:-1]
        suspects = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        seen: dict[str, int] = {}
        found: dict[int, int] = {}
        for row in np.sort(self._order[suspects]).tolist():
            first = seen.setdefault(self._id_at(row), row)
            if first != row:
                found[row] = first
        return found


def _hashes(values: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, values.tolist()), np.int64, len(values))
