"""Columns packed into few arrays, as format version 2 keeps a part: few files, so few requests.

Texts lie side by side in one array [rows, columns], numbers in another, offsets of ragged columns
in a third. The part's attributes name the columns of each. float64 holds whole numbers exactly up
to 2^53, which is checked both ways.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from r2t.store.errors import ConfigError, CorruptFeatureError

PACKED: Mapping[str, str] = {"texts": "string", "numbers": "float64", "offsets": "int64"}
"""The packed arrays with their dtypes; each names its columns in the attribute of its name."""

_MOST = 2**53
_OFFSETS = "_offsets"

Arrays = dict[str, NDArray[Any]]


def pack_columns(columns: Mapping[str, NDArray[Any]]) -> tuple[dict[str, list[str]], Arrays]:
    """Return the names of the columns in each packed array, and all arrays of the part.

    Raises `ConfigError` on a whole number that float64 does not hold exactly.
    """
    names: dict[str, list[str]] = {}
    arrays: Arrays = {}
    ragged = {name.removesuffix(_OFFSETS) for name in columns if name.endswith(_OFFSETS)}
    for name, values in columns.items():
        packed = _packed(name, values)
        if name in ragged or packed is None:
            arrays[name] = values
        else:
            names.setdefault(packed, []).append(name)
    for packed, members in names.items():
        if packed == "numbers":
            arrays[packed] = np.stack([_exactly(name, columns[name]) for name in members], axis=1)
        else:
            arrays[packed] = np.stack([columns[name] for name in members], axis=1)
    return names, arrays


def packed_places(
    attributes: Mapping[str, Any],
    widths: Mapping[str, int],
    dtypes: Mapping[str, str],
    label: str,
) -> dict[str, tuple[str, int]]:
    """Return for each column the packed array that holds it, and its place along the second axis.

    `widths` has the packed arrays and their numbers of columns, `dtypes` all columns that there
    must be. Raises `CorruptFeatureError` if the attributes name others.
    """
    places: dict[str, tuple[str, int]] = {}
    for packed, width in widths.items():
        named = _names(attributes, packed, label)
        if len(named) != width or not places.keys().isdisjoint(named):
            raise CorruptFeatureError(f"{label}: {packed} does not hold what its attributes name")
        places |= {name: (packed, place) for place, name in enumerate(named)}
    if places.keys() != dtypes.keys():
        raise CorruptFeatureError(
            f"{label} has the columns {sorted(places)}, expected {sorted(dtypes)}"
        )
    return places


def unpacked(values: NDArray[Any], dtype: str, name: str, label: str) -> NDArray[Any]:
    """Return a column with its own dtype; raise `CorruptFeatureError` if it has no such values."""
    if dtype != "int64" or values.dtype.kind != "f":
        return np.ascontiguousarray(values)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    # Bit by bit, so that neither a fraction nor NaN nor -0.0 passes for a whole number.
    exact = whole.astype(np.float64).view(np.int64) == np.ascontiguousarray(values).view(np.int64)
    legal = exact & (np.abs(values) <= _MOST)
    if not legal.all():
        raise CorruptFeatureError(
            f"{label}: {name} holds {values[~legal][0]}, expected whole numbers up to 2^53"
        )
    return whole


def _packed(name: str, values: NDArray[Any]) -> str | None:
    if values.ndim > 1:
        return None
    if name.endswith(_OFFSETS):
        return "offsets"
    return "texts" if values.dtype.kind in "OTU" else "numbers"


def _exactly(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind == "i" and (beyond := (values > _MOST) | (values < -_MOST)).any():
        raise ConfigError(f"{name} = {values[beyond][0]}: a store counts to 2^53 = {_MOST}")
    return values.astype(np.float64)


def _names(attributes: Mapping[str, Any], packed: str, label: str) -> Collection[str]:
    found = attributes.get(packed)
    if isinstance(found, list) and all(isinstance(name, str) for name in cast("list[Any]", found)):
        return cast("list[str]", found)
    raise CorruptFeatureError(f"{label}: the attribute {packed} names no columns: {found!r}")
