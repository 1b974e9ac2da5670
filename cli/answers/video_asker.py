"""An answerer with the videos that it was asked about lately, each encoded once.

Videos are untrusted, so what is kept is bounded: how many are prepared, and how long each may be.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from pathlib import Path

import r2t.extract
import r2t.train.grounding
from r2t.store.errors import AnnotationError, AnnotationWarning, VideoError
from r2t.store.progress import OnProgress, no_progress
from r2t.train import model
from r2t.train.choices import WindowChoice


class VideoAsker:
    """Keeps what is prepared of the videos asked lately; safe to use from many threads.

    The videos asked longest ago are dropped first.
    """

    def __init__(
        self,
        answerer: r2t.train.grounding.Answerer,
        clip: r2t.extract.FrozenClip,
        *,
        frame_rate_fps: float,
        max_videos: int,
        max_seconds: float,
        windows: WindowChoice = "auto",
    ) -> None:
        self._answerer = answerer
        self._clip = clip
        self._frame_rate_fps = frame_rate_fps
        self._max_videos = max_videos
        self._max_seconds = max_seconds
        self._windows: WindowChoice = windows
        self._prepared: OrderedDict[Path, r2t.train.grounding.Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(
        self, path: Path, on_frames: OnProgress = no_progress
    ) -> r2t.train.grounding.Prepared:
        """Encode a video, or return what is kept of it; raise `VideoError` where that fails."""
        with self._lock:
            prepared = self._prepared.get(path)
            if prepared is None:
                prepared = self._encode(path, on_frames)
                self._prepared[path] = prepared
                while len(self._prepared) > self._max_videos:
                    self._prepared.popitem(last=False)
            self._prepared.move_to_end(path)
            return prepared

    def ask(self, path: Path, query: str) -> tuple[model.Grounding, list[str]]:
        """Find a sentence in a video, quickly once it is prepared; also return any warnings."""
        if not query.strip():
            raise AnnotationError("the sentence is empty: type what to look for")
        prepared = self.prepare(path)
        with self._lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AnnotationWarning)
            grounding = self._answerer(prepared, self._clip.encode_query(query))
        return grounding, [str(each.message) for each in caught]

    def forget(self, path: Path) -> None:
        """Free what is kept of a video."""
        with self._lock:
            self._prepared.pop(path, None)

    def _encode(self, path: Path, on_frames: OnProgress) -> r2t.train.grounding.Prepared:
        with self._clip.open_video(path, self._frame_rate_fps, on_frames=on_frames) as source:
            if source.duration_seconds > self._max_seconds:
                raise VideoError(
                    f"{path}: lasts {source.duration_seconds / 60:.1f} minutes; the limit here is "
                    f"{self._max_seconds / 60:g}"
                )
            return self._answerer.prepare(source, self._answerer.plan(self._windows))
