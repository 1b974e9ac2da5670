"""A smaller store from a larger one: some videos, some layers, or the CLS token alone.

Videos that stay whole are brought over as in a merge, by hard links where the disk has them. Fewer
layers or tokens make another identity and other bytes; eight-bit codes and their scales are cut,
never coded anew, so that what is kept means exactly what it meant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from r2t.store.annotations import Split
from r2t.store.change.merge import (
    MergeReport,
    StoreSelection,
    add_query_rows,
    bring_all,
    read_queries,
    require_like_embeddings,
)
from r2t.store.change.rewrite import QueryRow
from r2t.store.check import check_stored_video
from r2t.store.errors import ConfigError, FeatureNotFoundError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import QueryFeatures
from r2t.store.format import TokenLayout, VideoRow, node_name
from r2t.store.parallel import map_threads
from r2t.store.progress import OnProgress, no_progress
from r2t.store.schema import FeatureSpec
from r2t.store.sources import without_credentials
from r2t.store.writer import StoreWriter


def subset_store(
    location: str | Path,
    into: str | Path,
    *,
    video_ids: Collection[str] | None = None,
    split: Split | None = None,
    layers: Sequence[int] | None = None,
    cls_only: bool = False,
    link: bool = True,
    on_video: OnProgress = no_progress,
) -> MergeReport:
    """Write the videos that are wanted, with their queries, into another store.

    `split` takes the queries of that split and their videos. `layers` are positions among the
    stored layers, ascending: (2, 3) are the last two of four. Only what is stored can be taken:
    raises `FeatureNotFoundError` if a wanted video is not. Embeddings come along whole.
    """
    source = StoreSelection.open(location)
    rows = _wanted_rows(source, video_ids, split)
    spec = source.store.spec
    positions = tuple(range(spec.num_layers)) if layers is None else tuple(layers)
    smaller = smaller_spec(spec, positions, cls_only=cls_only)
    facts = {**source.store.provenance, "subset_of": without_credentials(str(location))}
    embedding = source.store.embedding
    target = FeatureStore.create(into, smaller, facts, embedding=embedding)
    require_like_embeddings([source.store, target])
    taken = {row.video_id for row in rows}
    failures: dict[str, str] = {}

    def wanted(video_id: str) -> bool:
        return video_id in taken

    with target.writer() as writer:
        if smaller == spec:
            report = bring_all(
                target,
                writer,
                [replace(source, rows=rows)],
                link=link,
                quick=False,
                num_threads=None,
                on_video=on_video,
            )
            failures |= report.failures
        else:
            cut = _Cut(source, target, writer, positions, failures)
            done = map_threads(
                cut,
                rows,
                on_done=on_video,
            )
            report = MergeReport(done.count("cut"), 0, done.count("present"), 0, failures)
        queries = read_queries(source.store, failures, wanted)
        num_queries = add_query_rows(writer, _cut_queries(queries, positions, split))
    return replace(report, num_queries=num_queries, failures=failures)


def smaller_spec(spec: FeatureSpec, positions: Sequence[int], *, cls_only: bool) -> FeatureSpec:
    """Return the identity of a store with only some of the layers, or only the CLS token."""
    if not positions or list(positions) != sorted({*positions} & {*range(spec.num_layers)}):
        raise ConfigError(
            f"layers {list(positions)}: the store holds {spec.num_layers}, "
            f"{list(spec.vision_layers)} of the vision tower; take some of them"
        )
    return replace(
        spec,
        vision_layers=tuple(spec.vision_layers[position] for position in positions),
        text_layers=tuple(spec.text_layers[position] for position in positions),
        num_tokens=1 if cls_only else spec.num_tokens,
    )


def _wanted_rows(
    source: StoreSelection, video_ids: Collection[str] | None, split: Split | None
) -> list[VideoRow]:
    rows = source.rows
    if video_ids is not None:
        rows = [row for row in rows if row.video_id in video_ids]
        absent = sorted(set(video_ids) - {row.video_id for row in rows})
        if absent:
            raise FeatureNotFoundError(
                f"{source.root.location} has no videos {', '.join(map(repr, absent))}"
            )
    if split is not None:
        of_split = {each.video_id for each in source.store.annotations(split)}
        rows = [row for row in rows if row.video_id in of_split]
    if not rows:
        why = ""
        if split is not None:
            offered = ", ".join(sorted(set(source.store.queries["split"].tolist())))
            why = f": none has queries of split {split!r}; its splits are: {offered or 'none'}"
        raise FeatureNotFoundError(f"{source.root.location} holds none of the wanted videos{why}")
    return rows


class _Cut:
    """Writes one video after another with fewer layers or tokens; called from several threads."""

    def __init__(
        self,
        source: StoreSelection,
        target: FeatureStore,
        writer: StoreWriter,
        positions: Sequence[int],
        failures: dict[str, str],
    ) -> None:
        self._source = source
        self._target = target
        self._writer = writer
        self._positions = list(positions)
        self._failures = failures

    def __call__(self, row: VideoRow) -> str:
        video_id = row.video_id
        if self._target.has_video(video_id):
            self._writer.index(video_id)
            return "present"
        # Proved first: whatever is written gets a digest of its own.
        checked = check_stored_video(self._source.root, node_name(video_id))
        if checked.row is None:
            self._failures[video_id] = str(checked.faults[0])
            return "failed"
        self._write(video_id, row.num_frames)
        return "cut"

    def _write(self, video_id: str, num_frames: int) -> None:
        store = self._source.store
        first = store.read_video(video_id, frames=slice(0, 1))
        affine = None
        if first.scale is not None and first.offset is not None:
            affine = first.scale[self._positions], first.offset[self._positions]
        num_tokens = self._target.spec.num_tokens
        low, high = self._positions[0], self._positions[-1] + 1
        inner = [position - low for position in self._positions]
        with self._writer.video(
            video_id,
            num_frames=num_frames,
            duration_seconds=first.duration_seconds,
            frame_rate_fps=first.frame_rate_fps,
            source=first.source,
            affine=affine,
            embedding_from=first.embedding_from,
        ) as video:
            for frames in TokenLayout.of(store.spec, num_frames).shards():
                read = self._source.store.read_video(
                    video_id, layers=slice(low, high), frames=frames
                )
                tokens = np.ascontiguousarray(read.tokens[inner][:, :, :num_tokens])
                video.append(tokens, read.embedding)


def _cut_queries(
    queries: Iterable[QueryRow], positions: Sequence[int], split: Split | None
) -> Iterable[QueryRow]:
    for annotation, features in queries:
        if split in (None, annotation.split):
            tokens = np.ascontiguousarray(features.tokens[list(positions)])
            yield annotation, QueryFeatures(features.query_id, tokens, features.embedding)
