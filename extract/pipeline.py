"""One extraction: skip what is done, then decode ‖ encode ‖ write, and set aside what fails.

Here, decoding runs in processes that can be killed, the model and the writing in threads of their
own (`local_run`); on a cluster each worker does all three (`cluster`). A video appears in the
store when it is complete, so an extraction may end at any point and the next one goes on there.
Queries are stored after the videos, and only those of stored videos.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r2t.extract.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.fetch import VideoLocation
from r2t.extract.pending import Quarantine, name_videos, sort_videos
from r2t.extract.queries import (
    Rewording,
    find_rewordings,
    require_sentences,
    require_unambiguous,
    store_queries,
    stored_only,
    warn_of_late_moments,
    without_impossible,
)
from r2t.extract.run import ExtractProgress, LeftServer, LocalRun, Stage, Tally, busiest_stage
from r2t.store.annotations import Annotation
from r2t.store.check import warn_of_other_cuts
from r2t.store.feature_store import FeatureStore
from r2t.store.progress import OnProgress, no_progress
from r2t.store.video_names import VideoNames, match_videos
from r2t.store.writer import StoreWriter

if TYPE_CHECKING:
    from r2t.extract.run import Cluster, ClusterRun


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did. Reasons are keyed by video id.

    `left` are servers that answer nobody: their videos have not failed. `refused` have file names
    that can be no id. Where each video has a frame rate of its own, by
    its labels, those without any are `unlabelled` and were left out. `changed` are stored, but of
    another file than is there now. `quarantined` failed in an earlier extraction, and were left;
    `missing_videos` counts the queries of each annotated video that is neither stored nor among the
    given files, and `near_misses` says what some of these may be meant for. These queries and those
    of failed videos are `num_withheld_queries`, which wait for an extraction that has their videos.
    `impossible_queries` have a moment wholly outside their video and were left out, with the reason
    by query id. `rewordings` are stored sentences that new ones seem to replace; both are in the
    store.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]
    left: tuple[LeftServer, ...]
    refused: Mapping[str, str]
    unlabelled: tuple[str, ...]
    changed: Mapping[str, str]
    quarantined: Mapping[str, str]
    missing_videos: Mapping[str, int]
    near_misses: Mapping[str, str]
    impossible_queries: Mapping[str, str]
    rewordings: tuple[Rewording, ...]
    num_frames: int
    num_new_queries: int
    num_known_queries: int
    num_withheld_queries: int
    seconds: float
    stages: tuple[Stage, ...]
    interrupted: bool
    quarantine_path: str

    @property
    def complete(self) -> bool:
        """Whether every video and query that was asked for, and has a frame rate, is stored."""
        wanting = self.failed or self.left or self.refused or self.changed or self.quarantined
        withheld = self.missing_videos or self.impossible_queries
        return not (wanting or withheld or self.interrupted)

    @property
    def bottleneck(self) -> Stage | None:
        """The stage that set the pace, if any frame was extracted."""
        return busiest_stage(self.stages)


def extract_videos(
    config: ExtractConfig,
    clip: FrozenClip,
    store: FeatureStore,
    videos: Sequence[VideoLocation],
    annotations: Sequence[Annotation],
    on_progress: Callable[[ExtractProgress], None] = lambda progress: None,
    *,
    cluster: Cluster | None = None,
    on_checked: OnProgress = no_progress,
) -> ExtractReport:
    """Extract the features of videos and of their queries into a store made for this model.

    Does only what the store lacks. A video that fails is set aside and named in the report. With a
    cluster, its workers extract the videos, and this process the queries. `on_checked` is called
    with how many of the stored videos have been compared with their files. SIGINT and SIGTERM end
    the extraction early: complete videos stay, and the report says so.

    Raises:
        SpecMismatchError: if the store was made with another CLIP or other settings.
        AnnotationError: if a sentence is empty, or an id has two meanings.
        StoreError: if the store cannot be written; what was committed before stays intact.
    """
    began = time.monotonic()
    store.spec.require_equal(
        clip.spec(config.frame_rate, config.dtype),
        action=f"add to {store.location}",
        names=(store.location, "this extraction"),
    )
    stored_names = VideoNames(store.videos["video_id"].tolist())
    paths, refused = name_videos(videos, stored_names)
    names = VideoNames([*paths, *stored_names])
    annotations, stored = require_unambiguous(store, match_videos(annotations, names))
    require_sentences(clip, (each for each in annotations if each.query_id not in stored))
    quarantine = Quarantine(store.location)
    found = sort_videos(config, store, paths, annotations, quarantine, on_checked)
    tally = Tally(len(found.jobs), on_progress)
    with store.writer() as writer, _sigterm_as_interrupt():
        for video_id in found.skipped:
            writer.index(video_id)
        queries, interrupted = _StoredQueries(), False
        try:
            _run(config, clip, store, cluster, tally).extract_videos(writer, found.jobs)
            writer.flush()
            store.refresh()
            queries = _store_queries(clip, store, writer, annotations, stored, paths)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            quarantine.update(failed=tally.failed, resolved={*found.skipped, *tally.done})
    return ExtractReport(
        done=tuple(tally.done),
        skipped=found.skipped,
        failed=tally.failed,
        left=tuple(tally.left),
        refused=refused,
        unlabelled=found.unlabelled,
        changed=found.changed,
        quarantined=found.quarantined,
        missing_videos=queries.missing_videos,
        near_misses={name: hint for name in queries.missing_videos if (hint := names.hint(name))},
        impossible_queries=queries.impossible,
        rewordings=queries.rewordings,
        num_frames=tally.num_frames,
        num_new_queries=queries.num_new,
        num_known_queries=sum(each.query_id in stored for each in annotations),
        num_withheld_queries=queries.num_withheld,
        seconds=time.monotonic() - began,
        stages=tally.stages,
        interrupted=interrupted,
        quarantine_path=quarantine.location,
    )


@dataclass(frozen=True)
class _StoredQueries:
    """What became of the queries, as `ExtractReport` has it."""

    num_new: int = 0
    num_withheld: int = 0
    missing_videos: Mapping[str, int] = field(default_factory=dict[str, int])
    impossible: Mapping[str, str] = field(default_factory=dict[str, str])
    rewordings: tuple[Rewording, ...] = ()


def _store_queries(
    clip: FrozenClip,
    store: FeatureStore,
    writer: StoreWriter,
    annotations: Sequence[Annotation],
    stored: Mapping[str, Annotation],
    paths: Mapping[str, VideoLocation],
) -> _StoredQueries:
    """Store the queries of stored videos that are not stored yet, and warn of odd ones."""
    wanted, missing = stored_only(store, annotations, paths)
    unstored = [each for each in wanted if each.query_id not in stored]
    new, impossible = without_impossible(store, unstored)
    rewordings = find_rewordings(stored, annotations, new)
    store_queries(clip, writer, new)
    warn_of_other_cuts(store, wanted)
    warn_of_late_moments(store, [each for each in wanted if each.query_id not in impossible])
    return _StoredQueries(
        num_new=len(new),
        num_withheld=len(annotations) - len(wanted),
        missing_videos=missing,
        impossible=impossible,
        rewordings=tuple(rewordings),
    )


def why_no_embeddings(clip: FrozenClip, store: FeatureStore) -> str | None:
    """Say why an extraction into a store adds no embeddings; None if it adds them."""
    if store.embedding is not None:
        return None
    if clip.embedding is None:
        return f"{clip.model} has no embeddings, so none are stored: {clip.heads}"
    return f"{store.location} was made without embeddings, so none are added to it"


def _run(
    config: ExtractConfig,
    clip: FrozenClip,
    store: FeatureStore,
    cluster: Cluster | None,
    tally: Tally,
) -> LocalRun | ClusterRun:
    if cluster is None:
        return LocalRun(config, clip, tally)
    from r2t.extract.run import ClusterRun

    return ClusterRun(cluster, config, store, tally)


@contextmanager
def _sigterm_as_interrupt() -> Generator[None]:
    """Let SIGTERM end the extraction as Ctrl-C does; signals belong to the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
