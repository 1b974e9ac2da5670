"""Tokens of a video that is behind a URL or in a zip, moved in few requests and only as asked for.

A shard answers two questions: where its chunks lie (its index, a read at its end), and what they
hold. Ranges that touch are one request of up to 16 MB; several are made at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from r2t.store.errors import CorruptFeatureError
from r2t.store.format import (
    ByteRange,
    ShardRange,
    TokenLayout,
    find_shard_ranges,
    parse_index,
    shard_key,
)
from r2t.store.sources.cache import ByteCache
from r2t.store.sources.sources import Source

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_REQUEST_BYTES = 16 * 2**20
_AT_ONCE = 8


@dataclass(frozen=True)
class RemoteShards:
    """The shards of one token array, at the key `folder` of a source.

    What was read is kept in the cache under the video's `digest`, so that it cannot outlive a
    video that was replaced.
    """

    source: Source
    folder: str
    layout: TokenLayout
    digest: str
    cache: ByteCache | None = None

    def find(self, layers: range, frames: range) -> list[ShardRange]:
        """Return where tokens lie, in C order of [layers, frames, …]; one request per shard."""
        return find_shard_ranges(
            self.layout, layers, frames, lambda shards: _at_once(self._index, shards)
        )

    def ranges(self, wanted: Iterable[ShardRange]) -> list[ByteRange] | None:
        """Return the same bytes as ranges of files on this machine, None if they are elsewhere."""
        ranges: list[ByteRange] = []
        for piece in wanted:
            found = self.source.local_file(shard_key(self.folder, piece.shard))
            if found is None:
                return None
            ranges.append(ByteRange(found[0], found[1] + piece.offset, piece.num_bytes))
        return ranges

    def read_into(self, wanted: Sequence[ShardRange], out: memoryview) -> None:
        """Fill `out`, bytes, with the ranges one after another."""
        targets: list[tuple[ShardRange, memoryview]] = []
        done = 0
        for piece in wanted:
            targets += _pieces(piece, out[done : done + piece.num_bytes])
            done += piece.num_bytes
        for _ in _at_once(self._fetch, _touching(targets)):
            pass

    def _index(self, shard: int) -> list[int]:
        layout, key = self.layout, shard_key(self.folder, shard)
        name = f"{self.source.location}/{key}"
        at = layout.layers * layout.chunk_bytes
        # One byte more than there should be: a shard of the usual size then tells its size too.
        raw = self._read(key, at, at + layout.index_bytes + 1, layout.index_bytes)
        size = at + layout.index_bytes
        if raw is None:
            raise CorruptFeatureError(f"{name} is missing; extract this video again")
        if len(raw) != layout.index_bytes:
            size = self.source.size(key) or 0
            start = max(0, size - layout.index_bytes)
            raw = self._read(key, start, size, layout.index_bytes) or b""
        return parse_index(raw, size, layout, name)

    def _fetch(self, group: list[tuple[ShardRange, memoryview]]) -> None:
        first, last = group[0][0], group[-1][0]
        key = shard_key(self.folder, first.shard)
        start, stop = first.offset, last.offset + last.num_bytes
        content = self._read(key, start, stop, stop - start)
        if content is None or len(content) != stop - start:
            raise CorruptFeatureError(
                f"{self.source.location}/{key} ends too early; extract this video again"
            )
        view = memoryview(content)
        for piece, target in group:
            begin = piece.offset - start
            target[:] = view[begin : begin + piece.num_bytes]

    def _read(self, key: str, start: int, stop: int, expected: int) -> bytes | None:
        if self.cache is None:
            return self.source.read(key, start, stop)
        name = f"{self.source.location}\n{self.digest}\n{key}\n{start}-{stop}"
        content = self.cache.get(name)
        if content is None:
            content = self.source.read(key, start, stop)
            if content is not None and len(content) == expected:
                self.cache.put(name, content)
        return content


def _pieces(piece: ShardRange, out: memoryview) -> list[tuple[ShardRange, memoryview]]:
    pieces: list[tuple[ShardRange, memoryview]] = []
    for start in range(0, piece.num_bytes, _REQUEST_BYTES):
        stop = min(start + _REQUEST_BYTES, piece.num_bytes)
        pieces.append(
            (ShardRange(piece.shard, piece.offset + start, stop - start), out[start:stop])
        )
    return pieces


def _touching(
    targets: list[tuple[ShardRange, memoryview]],
) -> list[list[tuple[ShardRange, memoryview]]]:
    """Group ranges that follow one another in a shard, into requests of bounded size."""
    groups: list[list[tuple[ShardRange, memoryview]]] = []
    for piece, out in sorted(targets, key=lambda target: (target[0].shard, target[0].offset)):
        if groups:
            first, last = groups[-1][0][0], groups[-1][-1][0]
            touches = (last.shard, last.offset + last.num_bytes) == (piece.shard, piece.offset)
            if touches and piece.offset + piece.num_bytes - first.offset <= _REQUEST_BYTES:
                groups[-1].append((piece, out))
                continue
        groups.append([(piece, out)])
    return groups


def _at_once(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterable[_Result]:
    """Work on items in threads, a few at a time, and yield the results in order."""
    waiting = iter(items)
    while batch := list(islice(waiting, _AT_ONCE)):
        if len(batch) == 1:
            yield work(batch[0])
            continue
        with ThreadPoolExecutor(len(batch), thread_name_prefix="r2t-fetch") as pool:
            yield from pool.map(work, batch)
