"""Rows are found by their ids, however many share one and however their hashes fall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from r2t.store.format import row_ids
from r2t.store.format.row_ids import RowIds


def rows_of(*columns: Sequence[str]) -> RowIds:
    ids = [each for column in columns for each in column]
    texts = [np.array(column, np.dtypes.StringDType()) for column in columns]
    return RowIds(texts, ids.__getitem__)


@pytest.fixture(params=["hashes", "one hash for all"], autouse=True)
def hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "one hash for all":
        monkeypatch.setattr(row_ids, "hash", lambda _: 7, raising=False)


def test_each_id_is_found_where_it_first_stands() -> None:
    found = rows_of(["b", "", "é", "b"], [], ["a", "b", ""])
    assert len(found) == 7
    assert [found.first(each) for each in ("b", "", "é", "a", "c")] == [0, 1, 2, 4, None]
    assert found.repeated() == {3: 0, 5: 0, 6: 1}


def test_nothing_is_found_in_nothing() -> None:
    for found in (rows_of(), rows_of([], [])):
        assert len(found) == 0
        assert found.first("a") is None
        assert found.repeated() == {}


def test_ids_that_are_all_different_repeat_nothing() -> None:
    ids = [f"v{number}" for number in range(200)]
    found = rows_of(ids[:120], ids[120:])
    assert [found.first(each) for each in ids] == list(range(200))
    assert found.repeated() == {}
