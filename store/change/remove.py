"""Taking videos out of a store, as a takedown asks: features and sentences are gone from the disk.

The features go first. If a run is killed in between, the index still names what is gone, `verify`
says so, and the same command again finishes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from r2t.store.change.rewrite import replace_index, replace_rows
from r2t.store.check import live_parts
from r2t.store.errors import FeatureNotFoundError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import PartWriter, Publisher, node_name
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import open_publisher
from r2t.store.sources import open_root
from r2t.store.video_names import VideoNames


@dataclass(frozen=True)
class RemoveReport:
    """How many videos and queries were taken out."""

    num_videos: int
    num_queries: int


def remove_videos(
    location: str | Path,
    video_ids: Collection[str],
    *,
    query_ids: Collection[str] = (),
    keep_queries: bool = False,
    on_video: OnProgress = no_progress,
) -> RemoveReport:
    """Take videos, and the queries of them, out of a store; and single queries by id.

    Another store that shares the features by hard links keeps them.

    Raises:
        FeatureNotFoundError: if the store does not know one of them; nothing is changed then.
    """
    root = open_root(location)
    publisher = open_publisher(root, "remove videos from it")
    wanted = set(video_ids)
    with publisher.errors(), publisher.maintenance(), publisher:
        # Listed before the rows are read: a part that another run adds meanwhile stays in force.
        live, replaced = live_parts(root, "index")
        writer = PartWriter(publisher, root.header)
        store = FeatureStore.open(location)
        asked = store.queries
        _require_known_queries(location, query_ids, set(asked["query_id"].tolist()))
        of_videos = asked["video_id"].isin(() if keep_queries else wanted)
        _require_known(store, publisher, wanted, set(asked["video_id"].tolist()))
        doomed = set(asked[of_videos]["query_id"].tolist()) | set(query_ids)
        num_videos = 0
        for number, video_id in enumerate(sorted(wanted), start=1):
            num_videos += publisher.drop(f"videos/{node_name(video_id)}")
            on_video(number, len(wanted))
        indexed = store.video_rows()
        rows = [row for row in indexed if row.video_id not in wanted]
        if len(rows) < len(indexed):
            replace_index(writer, rows, [*live, *replaced])
            writer.drop("index", [*replaced, *live])
        if doomed:
            writer.drop("queries", replace_rows(writer, root, doomed))
    return RemoveReport(num_videos, len(doomed))


def sort_ids(location: str | Path, names: Collection[str]) -> tuple[list[str], list[str]]:
    """Tell ids of videos, which may be file names, from ids of queries; return both.

    Raises:
        FeatureNotFoundError: if a name is neither; it says which videos may be meant.
    """
    root = open_root(location)
    store, publisher = FeatureStore(root), open_publisher(root, "remove videos from it")
    queries = store.queries
    known = VideoNames([*store.videos["video_id"].tolist(), *queries["video_id"].tolist()])
    query_ids = set(queries["query_id"].tolist())
    videos: list[str] = []
    asked: list[str] = []
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        if (video_id := known.find(name)) is not None:
            videos.append(video_id)
        elif name in query_ids:
            asked.append(name)
        elif publisher.holds(f"videos/{node_name(name)}"):  # not in the index
            videos.append(name)
        else:
            unknown.append(known.named(name))
    if unknown:
        raise FeatureNotFoundError(
            f"{location} has no videos or queries {', '.join(unknown)}; nothing was removed"
        )
    return videos, asked


def _require_known(
    store: FeatureStore, publisher: Publisher, wanted: Collection[str], asked: Collection[str]
) -> None:
    unknown = [
        video_id
        for video_id in sorted(wanted)
        if not (
            video_id in asked
            or store.is_indexed(video_id)
            or publisher.holds(f"videos/{node_name(video_id)}")
        )
    ]
    if unknown:
        raise FeatureNotFoundError(
            f"{publisher.location} has no videos {', '.join(map(repr, unknown))}; "
            "nothing was removed"
        )


def _require_known_queries(
    location: str | Path, wanted: Collection[str], known: Collection[str]
) -> None:
    unknown = sorted(set(wanted).difference(known))
    if unknown:
        raise FeatureNotFoundError(
            f"{location} has no queries {', '.join(map(repr, unknown))}; nothing was removed"
        )
