"""Checking one part of a store: its bytes against its digest, its rows against theirs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import query_name
from r2t.store.check.faults import Fault
from r2t.store.check.inventory import files_in, part_names
from r2t.store.errors import CorruptFeatureError, R2TError, ServerError
from r2t.store.format import (
    ColumnsDigest,
    Part,
    PartKind,
    StoreHeader,
    VideoRow,
    annotation_at,
    array_names,
    damage,
    has_only_finite,
    parse_header,
    parse_metadata,
    part_place,
    query_features_at,
    query_row_digest,
    read_headers,
    read_parts,
    require_fitting,
    rows_of_columns,
)
from r2t.store.schema import FeatureSpec
from r2t.store.sources import StoreRoot

_BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True)
class CheckedPart:
    """A part, None if it cannot be read; which of its rows hold; and what is wrong with it."""

    name: str
    part: Part | None
    sound_rows: Collection[int] = ()
    faults: list[Fault] = field(default_factory=list[Fault])

    def video_rows(self) -> list[VideoRow]:
        """Return the rows of an index part, none if it cannot be read."""
        return [] if self.part is None else rows_of_columns(self.part.columns)

    def query_rows(self) -> Iterator[tuple[int, str, str]]:
        """Yield row, id and digest of each query of a part, none if it cannot be read."""
        if self.part is not None:
            columns = self.part.columns
            pairs = zip(columns["query_id"].tolist(), columns["digest"].tolist(), strict=True)
            yield from ((row, *pair) for row, pair in enumerate(pairs))


def open_part(root: StoreRoot, kind: PartKind, name: str) -> Part:
    """Open a part by what its metadata says; raise `CorruptFeatureError` if that is damaged."""
    return open_parts(root, kind, [name])[0]


def open_parts(root: StoreRoot, kind: PartKind, names: Sequence[str]) -> list[Part]:
    """Open parts, all at once; raise `CorruptFeatureError` if the metadata of one is damaged."""
    version, store = root.header.format_version, root.group.store
    place = part_place(kind, version)
    paths = [f"{place}/{name}" for name in names]
    with damage(place if len(names) > 1 else "".join(paths)):
        contents = zip(paths, read_headers(store, paths), strict=True)
        headers = [parse_header(path, content) for path, content in contents]
        return read_parts(store, headers, kind, version=version)


def live_parts(root: StoreRoot, kind: PartKind) -> tuple[list[str], list[str]]:
    """Return the names of the parts that readers read, and of those that others replace."""
    replaced: set[str] = set()
    live: list[str] = []
    names = part_names(root, kind)
    place = part_place(kind, root.header.format_version)
    contents = read_headers(root.group.store, [f"{place}/{name}" for name in names])
    for name, content in zip(reversed(names), reversed(contents), strict=True):
        if name not in replaced:
            live.append(name)
            # What raises here is found again, and named, when the part is checked.
            with contextlib.suppress(CorruptFeatureError):
                replaced |= parse_header(f"{place}/{name}", content).replaces
    return live[::-1], [name for name in names if name in replaced]


def check_part(root: StoreRoot, kind: PartKind, name: str) -> CheckedPart:
    """Check one part of the index or of the queries; holds its columns and 16 MB of its tokens."""
    place = f"{part_place(kind, root.header.format_version)}/{name}"
    faults: list[Fault] = []
    if root.is_listed:
        files = list(files_in(root, place))
        if any(file.is_link for file in files):
            return CheckedPart(name, None, faults=[Fault("link", place, "holds a symbolic link")])
        if not any(file.key == "zarr.json" for file in files):
            return CheckedPart(name, None, faults=[Fault("foreign", place, "is no part")])
        names = array_names(kind, root.header.format_version)
        legal = re.compile(rf"zarr\.json|({'|'.join(names)})/(zarr\.json|c(/[0-9]+)+)")
        faults += [
            Fault("foreign", f"{place}/{file.key}", "the format has no place for this file")
            for file in files
            if not legal.fullmatch(file.key)
        ]
    try:
        part = open_part(root, kind, name)
        with damage(place):
            faults += _odd_metadata(root, part)
            digest = _Digest(part)
            rows: list[int] = []
            for row, problem in digest.rows(root.header) if kind == "queries" else ():
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
    recorded = part.header.digest
    if computed != recorded:
        detail = f"the stored columns have the digest {computed}, it was committed with {recorded}"
        faults.append(Fault("part", place, detail))
    if kind == "index":
        rows = list(range(len(part))) if computed == recorded else []
    return CheckedPart(name, part, rows, faults)


def _odd_metadata(root: StoreRoot, part: Part) -> list[Fault]:
    """Compare what a part repeats of its arrays' metadata with the arrays' own."""
    path, consolidated = part.header.path, part.header.consolidated
    if root.header.format_version == 1 or consolidated is None:
        return []
    files = [f"{path}/{name}" for name in consolidated]
    contents = read_headers(root.group.store, files)
    own = [
        None if content is None else parse_metadata(file, content)
        for file, content in zip(files, contents, strict=True)
    ]
    return [
        Fault("part", path, f"its zarr.json does not repeat what {name}/zarr.json says")
        for name, found in zip(consolidated, own, strict=True)
        if found != consolidated[name]
    ]


class _Digest:
    """The digest of a part's columns, whose tokens are read once, a batch of rows at a time."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._digest = ColumnsDigest()
        names = part.column_names()
        self._later = [name for name in names if "tokens" in names and name > "tokens"]
        for name in names:
            if name != "tokens" and name not in self._later:
                self._digest.add(name, part.columns[name])

    def rows(self, header: StoreHeader) -> Iterator[tuple[int, str | None]]:
        """Yield each row of a queries part and what is wrong with it."""
        part, spec = self._part, header.spec
        shape = part.arrays["tokens"].shape
        if shape[1:] != (spec.num_layers, spec.text_width):
            raise CorruptFeatureError(f"tokens {list(shape)} do not fit the store's spec")
        offsets = part.columns["tokens_offsets"]
        self._digest.begin("tokens", shape)
        for start, stop in _batches(offsets, spec):
            first = int(offsets[start])
            values = part.rows("tokens", first, int(offsets[stop]))
            self._digest.update(values)
            for row in range(start, stop):
                words = values[int(offsets[row]) - first : int(offsets[row + 1]) - first]
                yield row, _row_problem(part, row, words, header)

    def finish(self) -> str:
        for name in self._later:
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


def _row_problem(part: Part, row: int, words: NDArray[Any], header: StoreHeader) -> str | None:
    try:
        features = query_features_at(part, row, words)
        annotation = annotation_at(part, row)
        require_fitting(features, header)
    except ServerError:
        raise
    except R2TError as error:
        return str(error)
    if not has_only_finite(features.tokens):
        return "tokens hold NaN or infinity"
    computed, recorded = query_row_digest(annotation, features), str(part.columns["digest"][row])
    if computed != recorded:
        return f"its content has the digest {computed}, it was written with {recorded}"
    return None
