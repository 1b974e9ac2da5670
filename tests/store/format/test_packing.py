"""Whole numbers survive float64 exactly, or are refused, whichever way they go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from r2t.store.errors import ConfigError, CorruptFeatureError
from r2t.store.format.packing import pack_columns, packed_places, unpacked

WIDTHS = {"texts": 1, "numbers": 2}
DTYPES = {"name": "string", "count": "int64", "seconds": "float64"}


def packed(count: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return pack_columns(
        {
            "name": np.array(["a", "é"], np.dtypes.StringDType()),
            "count": np.array([0, count]),
            "seconds": np.array([-0.0, np.nan]),
        }
    )


def unpacked_columns(arrays: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    places = packed_places(names, WIDTHS, DTYPES, "part")
    return {
        name: unpacked(arrays[packed][:, place], DTYPES[name], name, "part")
        for name, (packed, place) in places.items()
    }


@pytest.mark.parametrize("count", [0, -1, 1, 2**31, 2**53 - 1, 2**53, -(2**53)])
def test_columns_come_back_as_they_were(count: int) -> None:
    names, arrays = packed(count)
    assert names == {"texts": ["name"], "numbers": ["count", "seconds"]}
    assert {name: values.shape for name, values in arrays.items()} == {
        "texts": (2, 1),
        "numbers": (2, 2),
    }
    found = unpacked_columns(arrays, names)
    assert found["count"].dtype == np.int64
    assert found["count"].tolist() == [0, count]
    assert found["name"].tolist() == ["a", "é"]
    assert found["seconds"].tobytes() == np.array([-0.0, np.nan]).tobytes()


@pytest.mark.parametrize("count", [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
def test_what_float64_cannot_count_is_not_written(count: int) -> None:
    with pytest.raises(ConfigError, match=r"count = .*2\^53"):
        packed(count)


@pytest.mark.parametrize("value", [0.5, -0.0, np.nan, np.inf, -np.inf, 2.0**53 + 2, 1e300])
def test_what_is_no_whole_number_is_not_read(value: float) -> None:
    names, arrays = packed(7)
    arrays["numbers"][1, 0] = value
    with pytest.raises(CorruptFeatureError, match=r"part: count holds .*whole numbers"):
        unpacked_columns(arrays, names)


@pytest.mark.parametrize(
    "names",
    [
        {"texts": ["name"]},
        {"texts": ["name"], "numbers": ["count"]},
        {"texts": ["name"], "numbers": ["count", "count"]},
        {"texts": ["name"], "numbers": ["count", "other"]},
        {"texts": ["count"], "numbers": ["count", "seconds"]},
        {"texts": "n", "numbers": ["count", "seconds"]},
        {"texts": ["name"], "numbers": [["count"], "seconds"]},
    ],
)
def test_names_that_do_not_fit_are_damage(names: dict[str, Any]) -> None:
    with pytest.raises(CorruptFeatureError, match="part"):
        packed_places(names, WIDTHS, DTYPES, "part")
