"""Checking one part of a store: its bytes against its digest, its rows against theirs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from r2t.store.annotations import query_name
from r2t.store.check.faults import Fault
from r2t.store.check.inventory import files_in, names_in
from r2t.store.errors import CorruptFeatureError, R2TError, ServerError
from r2t.store.format import (
    PART_COLUMNS,
    ColumnsDigest,
    Part,
    PartKind,
    VideoRow,
    annotation_at,
    attributes_of,
    damage,
    has_only_finite,
    part_replaces,
    query_row_digest,
    read_part,
    require_group,
    rows_of_columns,
    zarr_reads,
)
from r2t.store.schema import FeatureSpec, QueryFeatures
from r2t.store.sources import StoreRoot

_BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True)
class CheckedPart:
    """A part, None if it cannot be read; which of its rows hold; and what is wrong with it."""

    name: str
    part: Part | None
    sound_rows: list[int] = field(default_factory=list[int])
    faults: list[Fault] = field(default_factory=list[Fault])

    def video_rows(self) -> list[VideoRow]:
        """Return the rows of an index part, none if it cannot be read."""
        return [] if self.part is None else rows_of_columns(self.part.columns)


def open_part(root: StoreRoot, kind: PartKind, name: str) -> Part:
    """Read a part's columns, tokens left on disk; raise `CorruptFeatureError` if it has damage."""
    with damage(f"{kind}/{name}"):
        return read_part(require_group(root.group, f"{kind}/{name}"), kind)


def live_parts(root: StoreRoot, kind: PartKind) -> tuple[list[str], list[str]]:
    """Return the names of the parts that readers read, and of those that others replace."""
    replaced: set[str] = set()
    live: list[str] = []
    names = names_in(root, kind)
    for name in reversed(names):
        if name not in replaced:
            live.append(name)
            # What raises here is found again, and named, when the part is checked.
            with contextlib.suppress(CorruptFeatureError):
                replaced |= part_replaces(require_group(root.group, f"{kind}/{name}"))
    return live[::-1], [name for name in names if name in replaced]


def check_part(root: StoreRoot, kind: PartKind, name: str) -> CheckedPart:
    """Check one part of the index or of the queries; holds its columns and 16 MB of its tokens."""
    place = f"{kind}/{name}"
    files = list(files_in(root, place))
    if any(file.is_link for file in files):
        return CheckedPart(name, None, faults=[Fault("link", place, "holds a symbolic link")])
    if not any(file.key == "zarr.json" for file in files):
        return CheckedPart(name, None, faults=[Fault("foreign", place, "is no part")])
    scalars, ragged = PART_COLUMNS[kind]
    names = (*scalars, *ragged, *(f"{column}_offsets" for column in ragged))
    legal = re.compile(rf"zarr\.json|({'|'.join(names)})/(zarr\.json|c(/[0-9]+)+)")
    faults = [
        Fault("foreign", f"{place}/{file.key}", "the format has no place for this file")
        for file in files
        if not legal.fullmatch(file.key)
    ]
    try:
        part = open_part(root, kind, name)
        with damage(place):
            recorded = attributes_of(require_group(root.group, place)).get("digest")
            digest = _Digest(part)
            rows: list[int] = []
            for row, problem in digest.rows(root.spec) if kind == "queries" else ():
                if problem is None:
                    rows.append(row)
                else:
                    named = (part.columns[key][row] for key in ("query_id", "video_id", "text"))
                    faults.append(
                        Fault("query", place, f"{query_name(*map(str, named))}: {problem}")
                    )
            computed = digest.finish()
    except ServerError:
        raise
    except R2TError as error:
        return CheckedPart(name, None, faults=[*faults, Fault("part", place, str(error))])
    if computed != recorded:
        detail = f"the stored columns have the digest {computed}, it was committed with {recorded}"
        faults.append(Fault("part", place, detail))
    if kind == "index":
        rows = list(range(len(part.columns["digest"]))) if computed == recorded else []
    return CheckedPart(name, part, rows, faults)


class _Digest:
    """The digest of a part's columns, whose tokens are read once, a batch of rows at a time."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._digest = ColumnsDigest()
        self._rows = part.tokens is not None
        for name in sorted(part.columns):
            if self._rows and name > "tokens":
                break
            self._digest.add(name, part.columns[name])

    def rows(self, spec: FeatureSpec) -> Iterator[tuple[int, str | None]]:
        """Yield each row of a queries part and what is wrong with it."""
        tokens = cast("zarr.Array[Any]", self._part.tokens)
        if tokens.shape[1:] != (spec.num_layers, spec.text_width):
            raise CorruptFeatureError(f"tokens {list(tokens.shape)} do not fit the store's spec")
        offsets = self._part.columns["tokens_offsets"]
        self._digest.begin("tokens", tokens.shape)
        for start, stop in _batches(offsets, spec):
            first = int(offsets[start])
            with zarr_reads("tokens"):
                values = np.asarray(tokens[first : int(offsets[stop])])
            self._digest.update(values)
            for row in range(start, stop):
                words = values[int(offsets[row]) - first : int(offsets[row + 1]) - first]
                yield row, _row_problem(self._part, row, words)

    def finish(self) -> str:
        if self._rows:
            for name in sorted(self._part.columns):
                if name > "tokens":
                    self._digest.add(name, self._part.columns[name])
        return self._digest.finish()


def _batches(offsets: NDArray[np.int64], spec: FeatureSpec) -> Iterator[tuple[int, int]]:
    most_words = max(1, _BATCH_BYTES // (spec.num_layers * spec.text_width * 2))
    start, num_rows = 0, len(offsets) - 1
    while start < num_rows:
        stop = int(offsets.searchsorted(int(offsets[start]) + most_words, side="right")) - 1
        stop = min(max(stop, start + 1), num_rows)
        yield start, stop
        start = stop


def _row_problem(part: Part, row: int, words: Any) -> str | None:
    try:
        features = QueryFeatures(
            str(part.columns["query_id"][row]), np.ascontiguousarray(np.swapaxes(words, 0, 1))
        )
        annotation = annotation_at(part, row)
    except R2TError as error:
        return str(error)
    if not has_only_finite(features.tokens):
        return "tokens hold NaN or infinity"
    computed, recorded = query_row_digest(annotation, features), str(part.columns["digest"][row])
    if computed != recorded:
        return f"its content has the digest {computed}, it was written with {recorded}"
    return None
