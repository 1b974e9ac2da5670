"""A header that is not what its digest says, proved by what the store's parts repeat of it.

Each part carries what the store is made with, under a digest of its own. Damage does not make a
digest hold, so a copy whose digest holds is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format.canonical_json import is_sealed, sealed
from r2t.store.format.header import HEADER_DIGEST, StoreHeader
from r2t.store.schema import FORMAT_VERSION

MADE_WITH = "made_with"
_DIGEST = "digest"
_REPEATED = ("identity", "embedding")


@dataclass(frozen=True)
class ProvenHeader:
    """A header that may be trusted, and what else a damaged one said that nothing proves."""

    header: StoreHeader
    lost: tuple[str, ...] = ()


def made_with(header: StoreHeader) -> dict[str, Any]:
    """Return what a part repeats of the header of its store."""
    values = header.to_dict()
    return sealed({name: values[name] for name in _REPEATED}, _DIGEST)


def made_with_in(attributes: Any) -> dict[str, Any] | None:
    """Return what a part's attributes repeat of the header; None if that is not whole."""
    found = cast("dict[str, Any]", attributes).get(MADE_WITH) if isinstance(attributes, dict) else 0
    if not isinstance(found, dict):
        return None
    copy = cast("dict[str, Any]", found)
    return copy if set(copy) == {*_REPEATED, _DIGEST} and is_sealed(copy, _DIGEST) else None


def prove_header(
    damaged: Mapping[str, Any],
    copies: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Sequence[str]],
    location: str,
) -> ProvenHeader | None:
    """Return what a damaged header said, as far as that is proved; None if nothing is.

    `copies` are what parts repeat, and `parts` the names of those that there are. If the header's
    own digest holds with one of these in the place of what it says, all the rest is right.
    """
    own: dict[str, Any] = {"parts": {kind: list(names) for kind, names in parts.items()}}
    made: dict[str, Any] = {}
    if copies and all(copy == copies[0] for copy in copies):
        made = {name: copies[0][name] for name in _REPEATED}
    for some, others in itertools.product(({}, own), ({}, made)):
        try:
            return ProvenHeader(StoreHeader.from_dict({**damaged, **some, **others}, location))
        except StoreError:
            continue
    if not made:
        return None
    values: dict[str, Any] = {"format_version": FORMAT_VERSION, **made, "provenance": {}, **own}
    header = StoreHeader.from_dict(sealed(values, HEADER_DIGEST), location)
    lost = (name for name in ("provenance", "card") if damaged.get(name) or not damaged)
    return ProvenHeader(header, tuple(lost))


def unproven_header(damaged: Mapping[str, Any], location: str) -> StoreHeader:
    """Return what a header says whose digest is wrong, to tell by it what else is wrong.

    Raises `StoreError` where it makes no sense.
    """
    try:
        values = sealed(damaged, HEADER_DIGEST)
    except ValueError as error:
        raise CorruptFeatureError(
            f"{location}: the store's header is damaged, and no part proves what it said: {error}; "
            "undo what was edited in zarr.json, or put that of another copy in its place"
        ) from error
    return StoreHeader.from_dict(values, location)


def is_whole_or_newer(values: Mapping[str, Any]) -> bool:
    """Whether a header that cannot be read is no damaged one of this format version."""
    version = values.get("format_version")
    is_another = type(version) is int and version != FORMAT_VERSION
    return is_another or is_sealed(values, HEADER_DIGEST)
