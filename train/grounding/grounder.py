"""Grounder: a trained model, ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.store.frame_source import FrameSource, OnFrames
from r2t.store.schema import PER_VIDEO, FeatureSpec, QueryFeatures, VideoFeatures
from r2t.train.cpu_threads import linear_work, threads_for
from r2t.train.data import pad_second_axis
from r2t.train.devices import set_arithmetic
from r2t.train.grounding.window_plan import asking_plan
from r2t.train.grounding.windows import ground_source
from r2t.train.model import Grounding, R2Model, decode_rows
from r2t.train.run import RunFolder, TrainConfig, TrainedOn, Windows

_QUERIES_AT_ONCE = 16  # bounds memory


@dataclass(frozen=True, eq=False)
class PreparedVideo:
    """What a model makes of a video before it hears any query, on the model's device.

    At the default width of 256 it takes two thirds of the memory of ViT-B's float16 features: 15 MB
    for 150 seconds at 0.5 fps.
    """

    video_id: str
    patches: Float[Tensor, "layers frames tokens hidden"]
    duration_seconds: float
    frame_rate_fps: float

    def __repr__(self) -> str:
        return (
            f"PreparedVideo({self.video_id!r}, patches={list(self.patches.shape)}, "
            f"{self.duration_seconds:g} s at {self.frame_rate_fps:g} fps)"
        )

    @property
    def num_frames(self) -> int:
        """Number of sampled frames."""
        return self.patches.shape[1]


@runtime_checkable
class Clip(Protocol):
    """What `Grounder.ask` needs of a CLIP: `r2t.extract.clip.clip.FrozenClip` is one."""

    def open_video(
        self,
        path: str | Path,
        frame_rate_fps: float,
        *,
        on_frames: OnFrames = lambda done, total: None,
    ) -> AbstractContextManager[FrameSource]: ...

    def encode_query(self, text: str) -> QueryFeatures: ...

    def require_made(self, spec: FeatureSpec) -> None:
        """Raise `SpecMismatchError` unless features of a spec are what this CLIP makes."""
        ...


class Grounder:
    """A model and how to read its answers.

    `spec` says which features it understands; `trained_on` is the run's own record of them.
    """

    def __init__(
        self, model: R2Model, config: TrainConfig, spec: FeatureSpec, trained_on: TrainedOn
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.spec = spec
        self.trained_on = trained_on

    @property
    def provenance(self) -> dict[str, Any]:
        """What the store recorded of its features, "model" and "pretrained" among it."""
        return dict(self.trained_on.provenance or {})

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        weights: Literal["best", "last"] = "best",
        device: torch.device | str = "cpu",
    ) -> Grounder:
        """Load what `r2t train` left in a run's folder."""
        set_arithmetic()
        folder = RunFolder(Path(run))
        config, trained_on = folder.load_config()
        spec = folder.load_spec()
        model = folder.load_model(weights).to(device)
        return cls(model, config, spec, trained_on)

    def frame_rate(self, wanted_fps: float | None = None) -> float:
        """Return the rate to sample a video at: the one wanted, or that of the run's features."""
        if wanted_fps is not None:
            return wanted_fps
        if self.spec.frame_rate == PER_VIDEO:
            raise ConfigError(
                "the run was trained with a frame rate for each video (one frame a clip): give "
                "--fps, in Python frame_rate_fps"
            )
        return float(self.spec.frame_rate)

    @property
    def _width(self) -> int:
        return self.model.config.width

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def ask(
        self,
        clip: Clip,
        video: str | Path,
        sentence: str,
        *,
        frame_rate_fps: float | None = None,
        windows: Windows = "auto",
        on_frames: OnFrames = lambda done, total: None,
    ) -> Grounding:
        """Find a sentence in a video file of any length; moments come best first.

        A video much longer than those of the training is asked in overlapping windows; `windows`
        is "off" to ask it whole, or how many frames one has. `frame_rate_fps` defaults to the rate
        of the run's features. `on_frames` is called with how many frames of how many are encoded so
        far. Each call decodes the file: to ask one video often, `prepare` it. Raises `VideoError`,
        `AnnotationError` for an empty sentence, and `SpecMismatchError` where `clip` is not the one
        that the run was trained with.
        """
        clip.require_made(self.spec)
        query = clip.encode_query(sentence)
        rate = self.frame_rate(frame_rate_fps)
        with clip.open_video(video, rate, on_frames=on_frames) as source:
            plan = asking_plan(self.config, self.trained_on, windows)
            (grounding,) = ground_source(self, source, [query], plan=plan)
        return grounding

    def prepare(self, video: VideoFeatures) -> PreparedVideo:
        """Compute the part of a video that depends on no query; every query after costs less."""
        layers, _, tokens, width = video.tokens.shape
        legal = (self.spec.num_layers, self.spec.num_tokens, self.spec.vision_width)
        if (layers, tokens, width) != legal:
            raise ConfigError(
                f"{video!r} does not fit a model trained on (layers, tokens, width) = {legal}; "
                "encode the video with the CLIP model and layers that the run names"
            )
        tokens = torch.from_numpy(video.tokens).to(self.device)
        affine = None
        if video.scale is not None and video.offset is not None:
            affine = torch.from_numpy(np.stack([video.scale, video.offset])).to(self.device)
        return self.prepare_tokens(
            video.video_id, tokens, affine, video.duration_seconds, video.frame_rate_fps
        )

    def prepare_tokens(
        self,
        video_id: str,
        tokens: Tensor,
        affine: Tensor | None,
        duration_seconds: float,
        frame_rate_fps: float,
    ) -> PreparedVideo:
        """Do the same for tokens that are on the model's device; eight-bit codes have affines."""
        work = linear_work(tokens.shape[1] * tokens.shape[2], tokens.shape[3], self._width)
        with torch.inference_mode(), threads_for(work):
            patches = self.model.prepare(tokens, affine)
        return PreparedVideo(video_id, patches, duration_seconds, frame_rate_fps)

    def __call__(self, video: VideoFeatures | PreparedVideo, query: QueryFeatures) -> Grounding:
        """Find a query in a video; its moments come best first."""
        return self.ground(video, [query])[0]

    def ground(
        self, video: VideoFeatures | PreparedVideo, queries: Sequence[QueryFeatures]
    ) -> list[Grounding]:
        """Find several queries in one video; each answer is the one that the query has alone."""
        for query in queries:
            self._require_fit(query)
        prepared = self.prepare(video) if isinstance(video, VideoFeatures) else video
        groundings: list[Grounding] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            groundings += self._ground(prepared, queries[start : start + _QUERIES_AT_ONCE])
        return groundings

    def _ground(self, video: PreparedVideo, queries: Sequence[QueryFeatures]) -> list[Grounding]:
        tokens = pad_second_axis([torch.from_numpy(query.tokens) for query in queries])
        num_words = torch.tensor([query.tokens.shape[1] for query in queries])
        work = linear_work(len(queries) * video.num_frames, self._width, self._width)
        with torch.inference_mode(), threads_for(work):
            predictions = self.model.answer(
                video.patches, tokens.to(self.device), num_words.to(self.device)
            )
        return decode_rows(
            predictions,
            [video.num_frames] * len(queries),
            [video.frame_rate_fps] * len(queries),
            [video.duration_seconds] * len(queries),
            self.config.decoding,
        )

    def _require_fit(self, query: QueryFeatures) -> None:
        layers, _, width = query.tokens.shape
        legal = (self.spec.num_layers, self.spec.text_width)
        if (layers, width) != legal:
            raise ConfigError(
                f"{query!r} does not fit a model trained on (layers, text width) = {legal}; "
                "encode the query with the CLIP model and layers that the run names"
            )
