"""Joining small parts into few large ones, since opening a store takes requests for each part.

A joined part replaces those it was made of from the moment it appears, and takes their place in the
order of writing. So readers see the rows in the old parts or in the new one, and a run that is
killed leaves one or the other. Parts that others add meanwhile stay as they are. Every byte that is
copied is checked against its part's digest, so damage is never carried on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2t.store.check import live_parts, open_parts, part_names
from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.format import (
    KINDS,
    WIDE,
    ColumnsDigest,
    Part,
    PartKind,
    PartWriter,
    Streamed,
    following_part_name,
    load_columns,
)
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import open_publisher
from r2t.store.sources import StoreRoot, open_root

MAX_ROWS: dict[PartKind, int] = {"index": 250_000, "queries": 100_000}
"""Most rows of a joined part, whose plain columns are held in memory."""

_MAX_BYTES = 2**31  # of a joined part, which is made ready beside the store
_SMALL_ROWS = 10_000
_MAX_JOINED = 5_000  # parts in one, whose metadata names them all
_BLOCK_BYTES = 16 * 2**20
_KEYS: dict[PartKind, str] = {"index": "video_id", "queries": "query_id"}


@dataclass(frozen=True)
class CompactReport:
    """How many parts there were and are, and how many of them were joined."""

    num_parts_before: int
    num_parts_after: int
    num_joined: int


@dataclass(frozen=True)
class _Size:
    name: str
    num_rows: int
    num_bytes: int


def compact_store(location: str | Path, *, on_part: OnProgress = no_progress) -> CompactReport:
    """Join small parts of a store into few; safe beside readers and running extractions.

    Nothing of the videos is read. Replaced parts are removed. `on_part` is told how many of the
    parts to be joined are done.

    Raises:
        CorruptFeatureError: A part is damaged; parts joined so far stay joined.
        StoreError: Two rows of one id differ, the store can only be read, or another command is
            changing it.
    """
    root = open_root(location)
    publisher = open_publisher(root, "join its parts")
    before = _num_parts(root)
    with publisher.errors(), publisher.maintenance(), publisher:
        writer = PartWriter(publisher, root.header)
        num_joined = join_parts(writer, root, on_part=on_part)
        writer.record()  # a run that was killed may have left it behind
    return CompactReport(before, _num_parts(root), num_joined)


def join_parts(writer: PartWriter, root: StoreRoot, *, on_part: OnProgress = no_progress) -> int:
    """Join small parts for a command that holds the store; return how many there were.

    Parts that others replace are removed first.
    """
    groups: list[tuple[PartKind, list[str]]] = []
    for kind in KINDS:
        live, replaced = live_parts(root, kind)
        if replaced:
            writer.drop(kind, replaced)
        groups.extend((kind, group) for group in _groups(_sizes(root, kind, live), kind))
    total, done = sum(len(names) for _, names in groups), 0
    for kind, names in groups:
        _join(writer, open_parts(root, kind, names), kind)
        writer.drop(kind, names)
        done += len(names)
        on_part(done, total)
    return total


def _num_parts(root: StoreRoot) -> int:
    return sum(len(part_names(root, kind)) for kind in KINDS)


def _sizes(root: StoreRoot, kind: PartKind, names: Sequence[str]) -> list[_Size]:
    return [
        _Size(
            part.name,
            len(part),
            sum(array.shape[0] * array.row_bytes for array in part.arrays.values()),
        )
        for part in open_parts(root, kind, names)
    ]


def _groups(parts: Sequence[_Size], kind: PartKind) -> Iterator[list[str]]:
    """Yield names of neighbours to be joined; parts that are large already stay as they are.

    So does a part that is not small and larger than all that it would be joined with: otherwise
    every joining would write the same rows again.
    """
    group: list[_Size] = []
    for part in [*parts, None]:
        large = part is None or _too_large([part], kind, 0.5)
        if part is None or large or _too_large([*group, part], kind, 1.0):
            while len(group) > 1 and _outweighs(group[0], group[1:]):
                group = group[1:]
            if len(group) > 1:
                yield [each.name for each in group]
            group = []
        if part is not None and not large:
            group.append(part)


def _outweighs(part: _Size, others: Sequence[_Size]) -> bool:
    rows = part.num_rows
    return rows > _SMALL_ROWS and rows > sum(each.num_rows for each in others)


def _too_large(group: Sequence[_Size], kind: PartKind, share: float) -> bool:
    return (
        sum(each.num_rows for each in group) > share * MAX_ROWS[kind]
        or sum(each.num_bytes for each in group) > share * _MAX_BYTES
        or len(group) > _MAX_JOINED
    )


def _join(writer: PartWriter, parts: Sequence[Part], kind: PartKind) -> None:
    joined = _Joined(parts, kind)
    replaces = {part.name for part in parts}.union(*(part.header.replaces for part in parts))
    name = following_part_name(max(part.name for part in parts))
    writer.commit(kind, joined.columns(), sorted(replaces), name=name, check=joined.require_sound)


class _Joined:
    """Several parts as one: of equal rows the first is kept; each part's digest is recomputed."""

    def __init__(self, parts: Sequence[Part], kind: PartKind) -> None:
        self._parts = parts
        self._names = parts[0].column_names()
        for part in parts:
            if part.column_names() != self._names:
                raise CorruptFeatureError(f"{part.label} has other columns than {parts[0].label}")
        load_columns(parts, [name for name in self._names if name not in WIDE])
        self._digests = [ColumnsDigest() for _ in parts]
        self._kept = _kept_rows(parts, _KEYS[kind])

    def columns(self) -> dict[str, Streamed]:
        """Return the columns, whose blocks are to be taken in the order of their names."""
        first = self._parts[0]
        # Packed columns keep the order in which the first part has them.
        order = [*(name for name in first.places if name not in WIDE), *self._names]
        return {name: self._column(name) for name in dict.fromkeys(order)}

    def require_sound(self) -> None:
        """Raise `CorruptFeatureError` if what was read is not what the parts' digests say."""
        for part, digest in zip(self._parts, self._digests, strict=True):
            if digest.finish() != part.header.digest:
                raise CorruptFeatureError(
                    f"{part.label} is damaged: its columns are not what its digest says; it was "
                    "not joined; `r2t store repair` sets it aside"
                )

    def _column(self, name: str) -> Streamed:
        if name.endswith("_offsets"):
            counts = [self._counts(number, name) for number in range(len(self._parts))]
            offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
            return Streamed(offsets.shape, offsets.dtype, self._offsets(name, offsets))
        num_rows = sum(self._num_rows(number, name) for number in range(len(self._parts)))
        array = self._parts[0].arrays[name] if name in WIDE else None
        inner = () if array is None else array.shape[1:]
        dtype = self._parts[0].columns[name].dtype if array is None else np.dtype(array.dtype)
        for part in self._parts if array is not None else ():
            if part.arrays[name].shape[1:] != inner:
                raise CorruptFeatureError(
                    f"{part.label}: {name} has another width than in {self._parts[0].label}"
                )
        return Streamed((num_rows, *inner), dtype, self._blocks(name))

    def _counts(self, number: int, offsets: str) -> NDArray[np.int64]:
        counts = np.diff(self._parts[number].columns[offsets])
        kept = self._kept[number]
        return counts if kept is None else counts[kept]

    def _num_rows(self, number: int, name: str) -> int:
        if f"{name}_offsets" in self._names:
            return int(self._counts(number, f"{name}_offsets").sum())
        kept = self._kept[number]
        return len(self._parts[number]) if kept is None else int(kept.sum())

    def _offsets(self, name: str, joined: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for part, digest in zip(self._parts, self._digests, strict=True):
            digest.add(name, part.columns[name])
        yield joined

    def _blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield a column's values, part after part, a block of each at a time."""
        for part, digest, kept in zip(self._parts, self._digests, self._kept, strict=True):
            if name not in WIDE:
                values = part.columns[name]
                digest.add(name, values)
                yield values if kept is None else values[kept]
                continue
            if kept is not None and f"{name}_offsets" in self._names:
                kept = np.repeat(kept, np.diff(part.columns[f"{name}_offsets"]))
            array = part.arrays[name]
            digest.begin(name, array.shape)
            step = max(1, _BLOCK_BYTES // max(1, array.row_bytes))
            for start in range(0, array.shape[0], step):
                stop = min(start + step, array.shape[0])
                block = part.rows(name, start, stop)
                digest.update(block)
                yield block if kept is None else block[kept[start:stop]]


def _kept_rows(parts: Sequence[Part], key: str) -> list[NDArray[np.bool_] | None]:
    """Return for each part which rows are kept, None for all: of equal ones the first.

    Raises `StoreError` if two rows of one id differ.
    """
    seen: dict[str, str] = {}
    kept: list[NDArray[np.bool_] | None] = []
    for part in parts:
        pairs = zip(part.columns[key].tolist(), part.columns["digest"].tolist(), strict=True)
        own = np.ones(len(part), np.bool_)
        for row, (row_id, digest) in enumerate(pairs):
            first = seen.get(row_id)
            if first is None:
                seen[row_id] = digest
            elif first == digest:
                own[row] = False
            else:
                raise StoreError(
                    f"{part.label}: {key} {row_id!r} is another one in an earlier part; "
                    "`r2t store verify` names both"
                )
        kept.append(None if own.all() else own)
    return kept
