"""What can be asked about videos: what a trained model and the frozen CLIP have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from r2t.store.errors import ConfigError
from r2t.store.features import FrameSource, QueryFeatures, VideoFeatures
from r2t.store.progress import OnProgress, no_progress
from r2t.store.schema import PER_VIDEO, EmbeddingSpec, FeatureSpec
from r2t.train.choices import WindowChoice
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model import Grounding


@runtime_checkable
class Clip(Protocol):
    """What a CLIP must offer here: `r2t.extract.FrozenClip` is one."""

    @property
    def embedding(self) -> EmbeddingSpec | None:
        """What its embeddings are, None if it has none."""
        ...

    def open_video(
        self,
        path: str | Path,
        frame_rate_fps: float,
        *,
        on_frames: OnProgress = no_progress,
    ) -> AbstractContextManager[FrameSource]: ...

    def encode_query(self, text: str) -> QueryFeatures: ...

    def spec(self) -> FeatureSpec:
        """Return the identity of the features that it makes by default."""
        ...

    def provenance(self) -> dict[str, Any]: ...

    def require_made(self, spec: FeatureSpec) -> None:
        """Raise `SpecMismatchError` unless features of a spec are what this CLIP makes."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A video of which everything that depends on no query is computed."""

    @property
    def num_frames(self) -> int:
        """Number of sampled frames."""
        ...

    @property
    def duration_seconds(self) -> float:
        """How long the video is."""
        ...

    @property
    def num_windows(self) -> int:
        """In how many windows it is asked."""
        ...


class Answerer(ABC):
    """Finds sentences in videos: a `Grounder`, or a `ZeroShotGrounder` without any training.

    `spec` says which features it understands, and `provenance` what was recorded of them, such as
    "model" and "pretrained".
    """

    caveat: str | None = None
    """What people must be told beside every answer."""

    def __init__(self, spec: FeatureSpec, provenance: Mapping[str, Any]) -> None:
        self.spec = spec
        self.provenance: dict[str, Any] = dict(provenance)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    @abstractmethod
    def video_score_name(self) -> str:
        """What `Grounding.video_score` is, by which videos are ranked."""

    @abstractmethod
    def plan(self, windows: WindowChoice = "auto") -> WindowPlan:
        """Return which videos are asked in windows."""

    @abstractmethod
    def prepare(
        self, video: VideoFeatures | FrameSource, plan: WindowPlan | None = None
    ) -> Prepared:
        """Compute the part of a video that depends on no query; each query then costs less."""

    @abstractmethod
    def ground(
        self,
        video: VideoFeatures | FrameSource | Prepared,
        queries: Sequence[QueryFeatures],
        plan: WindowPlan | None = None,
    ) -> list[Grounding]:
        """Find several queries in one video; each answer is as if the query were asked alone."""

    def __call__(
        self, video: VideoFeatures | FrameSource | Prepared, query: QueryFeatures
    ) -> Grounding:
        """Find a query in a video; its moments come best first."""
        return self.ground(video, [query])[0]

    def frame_rate(self, wanted_fps: float | None = None) -> float:
        """Return the rate to sample a video at: the one wanted, or that of the known features."""
        if wanted_fps is not None:
            return wanted_fps
        if self.spec.frame_rate == PER_VIDEO:
            raise ConfigError(
                "the features have a frame rate for each video (one frame a clip): give --fps, in "
                "Python frame_rate_fps"
            )
        return float(self.spec.frame_rate)

    def ask(
        self,
        clip: Clip,
        video: str | Path,
        sentence: str,
        *,
        frame_rate_fps: float | None = None,
        windows: WindowChoice = "auto",
        on_frames: OnProgress = no_progress,
    ) -> Grounding:
        """Find a sentence in a video file of any length; moments come best first.

        A trained model asks a video much longer than those of its training in overlapping windows;
        `windows` is "off" to ask it whole, or how many frames one has. `frame_rate_fps` defaults to
        the rate of the known features. `on_frames` is called with how many frames of how many are
        encoded so far. Each call decodes the file: to ask one video often, `prepare` it.

        Raises:
            SpecMismatchError: if `clip` does not make the features that are understood here.
            AnnotationError: if the sentence is empty.
            VideoError: if the file cannot be decoded.
            ConfigError: if the known features have no rate of their own and none is given.
        """
        clip.require_made(self.spec)
        plan = self.plan(windows)
        query = clip.encode_query(sentence)
        rate = self.frame_rate(frame_rate_fps)
        with clip.open_video(video, rate, on_frames=on_frames) as source:
            (grounding,) = self.ground(source, [query], plan)
        return grounding
