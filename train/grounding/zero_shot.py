"""Answers without training: by CLIP's own similarity of frames and sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16

import r2t.store
from r2t.store.errors import ConfigError
from r2t.store.features import FrameSource, QueryFeatures, VideoFeatures
from r2t.train.choices import WindowChoice
from r2t.train.data import embedding_of, frame_cosines, require_embeddings
from r2t.train.grounding.answerer import Answerer, Clip, Prepared
from r2t.train.grounding.similar_moments import similar_moments
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model import FROZEN_SCORE, Grounding, video_score

FROZEN_LABEL = "frozen CLIP, not trained for moments"
_FRAMES_AT_ONCE = 64  # whose tokens are in memory


def whole_plan(windows: WindowChoice = "auto") -> WindowPlan:
    """Return the plan to ask every video whole; raise `ConfigError` if windows are asked for."""
    if windows != "auto":
        raise ConfigError(
            f"--windows {windows}: without a trained run every video is asked whole, however long "
            "it is; leave it out, or give --checkpoint"
        )
    return WindowPlan(None)


@dataclass(frozen=True, eq=False)
class EmbeddedVideo:
    """CLIP's embeddings of the frames of a video: all that answers without training look at."""

    video_id: str
    embedding: Float16[np.ndarray, "frames width"]
    duration_seconds: float
    frame_rate_fps: float

    @property
    def num_frames(self) -> int:
        """Number of sampled frames."""
        return len(self.embedding)

    @property
    def num_windows(self) -> int:
        """A video of any length is asked whole."""
        return 1

    def ground(self, sentence: Float16[np.ndarray, " width"]) -> Grounding:
        """Find the sentence of an embedding: saliency is the cosine of each frame with it."""
        cosines = frame_cosines(self.embedding, sentence)
        return Grounding(
            moments=similar_moments(cosines, self.frame_rate_fps, self.duration_seconds),
            saliency=cosines.astype(np.float32),
            frame_rate_fps=self.frame_rate_fps,
            duration_seconds=self.duration_seconds,
            video_score=video_score(cosines),
            caveat=FROZEN_LABEL,
        )


class ZeroShotGrounder(Answerer):
    """Answers by the frozen CLIP alone, which was not trained for moments."""

    caveat = FROZEN_LABEL

    @classmethod
    def of_clip(cls, clip: Clip) -> ZeroShotGrounder:
        """Answer about what a CLIP makes; raise `ConfigError` if it has no embeddings."""
        spec = clip.spec()
        if clip.embedding is None:
            raise ConfigError(
                f"{spec.model} does not project frames and sentences into one space, so it cannot "
                "answer without training: take another CLIP (--model), or a trained run "
                "(--checkpoint)"
            )
        return cls(spec, clip.provenance())

    @classmethod
    def of_store(cls, store: r2t.store.FeatureStore) -> ZeroShotGrounder:
        """Answer about the features of a store; raise `ConfigError` if it has no embeddings."""
        require_embeddings(store)
        return cls(store.spec, store.provenance)

    @property
    def device(self) -> torch.device:
        """The CPU: a cosine of each frame is all there is to compute."""
        return torch.device("cpu")

    @property
    def video_score_name(self) -> str:
        """The mean cosine of the frames that fit best."""
        return FROZEN_SCORE

    def plan(self, windows: WindowChoice = "auto") -> WindowPlan:
        """Return the plan to ask every video whole; see `whole_plan`."""
        return whole_plan(windows)

    def prepare(
        self, video: VideoFeatures | FrameSource, plan: WindowPlan | None = None
    ) -> EmbeddedVideo:
        """Keep a video's embeddings; a source is read to its end, and its tokens are dropped."""
        if isinstance(video, VideoFeatures):
            embedding = embedding_of(video)
        else:
            starts = range(0, video.num_frames, _FRAMES_AT_ONCE)
            stops = (min(start + _FRAMES_AT_ONCE, video.num_frames) for start in starts)
            parts = [
                embedding_of(video.read(slice(start, stop)))
                for start, stop in zip(starts, stops, strict=True)
            ]
            embedding = np.concatenate(parts)
        return EmbeddedVideo(
            video.video_id, embedding, video.duration_seconds, video.frame_rate_fps
        )

    def ground(
        self,
        video: VideoFeatures | FrameSource | Prepared,
        queries: Sequence[QueryFeatures],
        plan: WindowPlan | None = None,
    ) -> list[Grounding]:
        """Find several queries in one video of any length."""
        if isinstance(video, VideoFeatures | FrameSource):
            video = self.prepare(video, plan)
        if not isinstance(video, EmbeddedVideo):
            raise ConfigError(f"{video!r} was prepared by a trained model: prepare it anew")
        return [video.ground(embedding_of(query)) for query in queries]
