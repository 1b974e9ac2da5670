"""Merging stores: teammates extracted different halves, or the same archive was cut in pieces.

Everything that could refuse is found out before anything is written: unequal identities, and one
id with two contents. Videos are brought in several at a time, each proved and committed whole, so
that the same merge may be run again after an interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from r2t.store.change.bring import bring_video
from r2t.store.change.rewrite import QueryRow
from r2t.store.errors import (
    CorruptFeatureError,
    R2TError,
    ServerError,
    SpecMismatchError,
    StoreError,
)
from r2t.store.feature_store import FeatureStore
from r2t.store.format import QUERIES_PER_PART, VideoRow, query_row_digest
from r2t.store.parallel import map_threads
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import publisher_at
from r2t.store.schema import EmbeddingSpec
from r2t.store.sources import StoreRoot, is_url, open_root, without_credentials
from r2t.store.wording import FEW_NAMES
from r2t.store.writer import StoreWriter


@dataclass(frozen=True)
class MergeReport:
    """What a merge did: videos brought in, of which `num_linked` share their bytes with a source.

    `num_present` videos were there already. `failures` says by id which videos and queries of the
    sources are damaged, and were left out. `num_unequal` ids of videos and queries meant two
    things, and only what came first was kept of them.
    """

    num_videos: int
    num_linked: int
    num_present: int
    num_queries: int
    failures: dict[str, str]
    num_unequal: int = 0


@dataclass(frozen=True, eq=False)
class StoreSelection:
    """A store to take from, and the rows of the videos that are wanted of it."""

    root: StoreRoot
    store: FeatureStore
    rows: list[VideoRow]

    @classmethod
    def open(cls, location: str | Path, video_ids: Collection[str] | None = None) -> StoreSelection:
        """Open a store; `video_ids` None wants all of its indexed videos."""
        root = open_root(location)
        store = FeatureStore(root)
        rows = store.video_rows()
        return cls(
            root, store, [row for row in rows if video_ids is None or row.video_id in video_ids]
        )


def merge_stores(
    sources: Sequence[str | Path],
    into: str | Path,
    *,
    link: bool = True,
    quick: bool = False,
    keep_first: bool = False,
    num_threads: int | None = None,
    on_video: OnProgress = no_progress,
) -> MergeReport:
    """Bring all videos and queries of some stores into another, which is made if need be.

    `link` shares files on one disk, so that a merge takes no space; `quick` trusts the tokens'
    bytes. Of videos with one digest the first one stays, with its own embeddings. If one id means
    two things, `keep_first` keeps what the target has, or else what the first source has.

    Raises `SpecMismatchError` or `StoreError`, before anything is written, if the stores were made
    with other settings, or with other embeddings, or without `keep_first` one id means two things,
    and `ServerError` if a server fails meanwhile: the same merge again goes on from there.
    """
    opened = [StoreSelection.open(location) for location in sources]
    for other in opened[1:]:
        opened[0].store.spec.require_equal(
            other.store.spec,
            action="merge these stores",
            names=(opened[0].root.location, other.root.location),
        )
    _require_one_version(opened)
    stores = [source.store for source in opened]
    require_like_embeddings(stores)
    if publisher_at(into).exists():
        present = FeatureStore.open(into)
        present.spec.require_equal(
            opened[0].store.spec,
            action=f"merge into {into}",
            names=(into, opened[0].root.location),
        )
        present.header.require_current(str(into))
        require_like_embeddings([present, opened[0].store])
        stores = [present, *stores]
    unequal = _disagreements(stores)
    if not keep_first:
        _require_none(unequal)
    merged = [without_credentials(str(location)) for location in sources]
    provenance = {**opened[0].store.provenance, "merged": merged}
    first = opened[0].store
    target = FeatureStore.create(into, first.spec, provenance, embedding=first.embedding)
    with target.writer() as writer:
        report = bring_all(
            target,
            writer,
            opened,
            link=link,
            quick=quick,
            num_threads=num_threads,
            on_video=on_video,
        )
        failures = dict(report.failures)
        num_queries = 0
        for source in opened:
            target.refresh()
            queries = read_queries(source.store, failures, held=target.query_digests())
            num_queries += add_query_rows(writer, queries)
    return replace(report, num_queries=num_queries, failures=failures, num_unequal=len(unequal))


def _require_one_version(sources: Sequence[StoreSelection]) -> None:
    """Raise `StoreError` if some stores have another format version than the rest."""
    by_version = {source.root.header.format_version: source for source in sources}
    if len(by_version) > 1:
        oldest = by_version[min(by_version)].root.location
        raise StoreError(
            f"cannot merge these stores: {oldest} has format version {min(by_version)}, "
            f"{by_version[max(by_version)].root.location} version {max(by_version)}; "
            f"`r2t store upgrade {oldest}` first"
        )


def require_like_embeddings(stores: Sequence[FeatureStore]) -> None:
    """Raise `SpecMismatchError` unless all stores have the same embeddings, or all have none."""
    for other in stores[1:]:
        if other.embedding != stores[0].embedding:
            told = [
                f"{store.location} has {_described(store.embedding)}"
                for store in (stores[0], other)
            ]
            raise SpecMismatchError(
                f"cannot bring these stores together: {', '.join(told)}. Give another target, or "
                "make them alike: `r2t store upgrade` adds embeddings to a store of format "
                "version 1, `r2t extract` to a new one"
            )


def _described(embedding: EmbeddingSpec | None) -> str:
    if embedding is None:
        return "no embeddings"
    return f"embeddings of width {embedding.width} by the rule {embedding.rule}"


def require_agreement(stores: Iterable[FeatureStore]) -> None:
    """Raise `StoreError` if an id of a video or query has unequal digests in two stores."""
    _require_none(_disagreements(stores))


def _disagreements(stores: Iterable[FeatureStore]) -> list[str]:
    """Say of each id that has unequal digests what it names, and the first two stores' names."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    conflicts: dict[tuple[str, str], str] = {}
    for store in stores:
        videos = store.videos
        digests = dict(zip(videos["video_id"], videos["digest"], strict=True))
        for kind, of_kind in (("video", digests), ("query", store.query_digests())):
            for name, digest in of_kind.items():
                first = seen.setdefault((kind, name), (digest, store.location))
                if first[0] != digest:
                    conflicts.setdefault(
                        (kind, name), f"{kind} {name!r} in {first[1]} and {store.location}"
                    )
    return list(conflicts.values())


def _require_none(conflicts: Sequence[str]) -> None:
    if conflicts:
        more = len(conflicts) - FEW_NAMES
        raise StoreError(
            "one id, two contents: "
            + "; ".join(conflicts[:FEW_NAMES])
            + (f" and {more} more" if more > 0 else "")
            + ". Nothing was written. If they differ by rounding, since other machines made them, "
            "`r2t store merge --keep-first` takes what the first store has; otherwise remove one "
            "of each with `r2t store remove`, or rename it"
        )


def bring_all(
    target: FeatureStore,
    writer: StoreWriter,
    sources: Sequence[StoreSelection],
    *,
    link: bool,
    quick: bool,
    num_threads: int | None,
    on_video: OnProgress,
) -> MergeReport:
    """Bring the wanted videos that the target lacks, the first source that has one giving it."""
    wanted: dict[str, tuple[StoreRoot, VideoRow]] = {}
    for source in sources:
        for row in source.rows:
            wanted.setdefault(row.video_id, (source.root, row))
    failures: dict[str, str] = {}

    def bring(video_id: str) -> str:
        root, row = wanted[video_id]
        if target.has_video(video_id):
            writer.index(video_id)
            return "present"
        try:
            shared = bring_video(writer, root, row, link=link, quick=quick)
        except CorruptFeatureError as error:
            failures[video_id] = str(error)
            return "failed"
        return "linked" if shared and not is_url(target.location) else "copied"

    done = map_threads(
        bring,
        list(wanted),
        num_threads=num_threads,
        on_done=on_video,
    )
    linked, copied, present = (done.count(word) for word in ("linked", "copied", "present"))
    return MergeReport(linked + copied, linked, present, 0, failures)


def read_queries(
    store: FeatureStore,
    failures: dict[str, str],
    wanted: Callable[[str], bool] | None = None,
    held: Collection[str] = (),
) -> Iterable[QueryRow]:
    """Yield a store's queries, proved, but for those whose ids are `held` already.

    `wanted` tells by video id. Damaged ones are reported.
    """
    digests = store.query_digests()
    for annotation in store.annotations():
        if annotation.query_id in held or not (wanted is None or wanted(annotation.video_id)):
            continue
        try:
            features = store.read_query(annotation.query_id)
            sound = query_row_digest(annotation, features) == digests[annotation.query_id]
            if not sound:
                raise CorruptFeatureError("its content is not what its digest says")
        except ServerError:
            raise
        except R2TError as error:
            failures[annotation.name] = f"{store.location}: {error}"
        else:
            yield annotation, features


def add_query_rows(writer: StoreWriter, queries: Iterable[QueryRow]) -> int:
    """Add queries, a part at a time, and return how many were new."""
    num_new = 0
    batch: list[QueryRow] = []
    for query in queries:
        batch.append(query)
        if len(batch) == QUERIES_PER_PART:
            num_new += _add(writer, batch)
            batch = []
    return num_new + _add(writer, batch)


def _add(writer: StoreWriter, batch: Sequence[QueryRow]) -> int:
    return writer.add_queries([each for each, _ in batch], [features for _, features in batch])
