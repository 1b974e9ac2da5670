"""Grounder: a trained model, ready to be asked."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float16, Float32
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.store.features import FrameSource, QueryFeatures, VideoFeatures
from r2t.store.schema import FeatureSpec
from r2t.train.choices import WindowChoice
from r2t.train.cpu_threads import linear_work, threads_for
from r2t.train.data import embedding_of, pad_priors, pad_second_axis, prior_features
from r2t.train.devices import set_arithmetic
from r2t.train.grounding.answerer import Answerer, Clip, Prepared
from r2t.train.grounding.prepared import PreparedVideo, PreparedWindow, RefinedWindow
from r2t.train.grounding.windows import WindowAnswer, WindowedVideo, WindowPlan, asking_plan
from r2t.train.grounding.zero_shot import ZeroShotGrounder
from r2t.train.model import (
    FROZEN_SCORE,
    LEARNED_SCORE,
    DecodeConfig,
    Grounding,
    R2Model,
    Refined,
    decode_rows,
    frame_fit,
)
from r2t.train.run import RunFolder, TrainConfig, TrainedOn

_QUERIES_AT_ONCE = 16  # bounds memory


class Grounder(Answerer):
    """A trained model that can be asked about videos.

    `spec` says which features it understands; `trained_on` is the run's own record of them.
    """

    def __init__(
        self, model: R2Model, config: TrainConfig, spec: FeatureSpec, trained_on: TrainedOn
    ) -> None:
        super().__init__(spec, trained_on.provenance or {})
        self.model = model.eval()
        self.config = config
        self.trained_on = trained_on

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        weights: Literal["best", "last"] = "best",
        device: torch.device | str = "cpu",
    ) -> Grounder:
        """Load what `r2t train` wrote into a run's folder.

        Raises:
            ConfigError: if the folder holds no run, or what it holds is damaged.
        """
        set_arithmetic()
        folder = RunFolder(Path(run))
        config, trained_on = folder.load_config()
        spec = folder.load_spec()
        model = folder.load_model(weights).to(device)
        return cls(model, config, spec, trained_on)

    @classmethod
    def zero_shot(cls, clip: Clip) -> ZeroShotGrounder:
        """Return what answers by a frozen CLIP alone, without any training.

        Raises:
            ConfigError: if the CLIP has no embeddings.
        """
        return ZeroShotGrounder.of_clip(clip)

    @property
    def video_score_name(self) -> str:
        """What `Grounding.video_score` is: CLIP's own cosine, or without a prior a learned one."""
        return FROZEN_SCORE if self.has_prior else LEARNED_SCORE

    @property
    def has_prior(self) -> bool:
        """Whether the model takes a prior, so that what it is asked with needs embeddings."""
        return self.model.config.prior

    @property
    def _width(self) -> int:
        return self.model.config.width

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def plan(self, windows: WindowChoice = "auto") -> WindowPlan:
        """Return which videos are asked in windows; "auto" is what the run says or what fits it."""
        return asking_plan(self.config, self.trained_on, windows)

    def prepare(
        self, video: VideoFeatures | FrameSource, plan: WindowPlan | None = None
    ) -> PreparedVideo:
        """Compute the part of a video that depends on no query; each query then costs less.

        A source is prepared in the windows of `plan`, by default the run's; features are one.
        """
        windowed, parts = self._divide(video, plan)
        return PreparedVideo(video.video_id, windowed, list(parts))

    def ground(
        self,
        video: VideoFeatures | FrameSource | Prepared,
        queries: Sequence[QueryFeatures],
        plan: WindowPlan | None = None,
    ) -> list[Grounding]:
        """Find several queries in one video; each answer is as if the query were asked alone.

        A source may be of any length: it is read in the windows of `plan`, by default the run's,
        and one of them is in memory at a time. Features are asked whole, a prepared video in the
        windows that it has.
        """
        if isinstance(video, VideoFeatures | FrameSource):
            return self.ground_windows(*self._divide(video, plan), queries)
        if not isinstance(video, PreparedVideo):
            raise ConfigError(f"{video!r} was not prepared by a trained model: prepare it anew")
        return self.ground_windows(video.windowed, video.parts, queries)

    def ground_windows(
        self,
        windowed: WindowedVideo,
        parts: Iterable[PreparedWindow],
        queries: Sequence[QueryFeatures],
        embedding: Float16[np.ndarray, "frames embedding"] | None = None,
    ) -> list[Grounding]:
        """Find queries in the windows of a video, given one after another, and join the answers.

        A model with a prior decodes as it goes if the `embedding` of the whole video is given. Else
        that is put together from the windows', so what was found in each is kept until the last.
        """
        for query in queries:
            self._require_fit(query)
        decoding = self.config.decoding
        refined: Iterable[RefinedWindow] = (self._refine(part, queries) for part in parts)
        priors = None
        if self.has_prior:
            if embedding is None:
                refined = list(refined)
                embedding = windowed.join([each.known_embedding for each in refined])
            found = [prior_features(embedding, embedding_of(query)) for query in queries]
            priors = pad_priors(found, windowed.num_frames)
        if len(windowed.windows) == 1:
            return [
                found.grounding
                for part in refined
                for found in self._answer(part, priors, decoding)
            ]
        # Suppression and rounding wait until all windows have answered.
        undecided = replace(decoding, suppression="none", unit_seconds=None)
        answers = [
            self._answer(part, None if priors is None else priors[:, frames], undecided)
            for part, frames in zip(refined, windowed.windows, strict=True)
        ]
        return [windowed.stitch(found, decoding) for found in zip(*answers, strict=True)]

    def prepare_tokens(
        self,
        tokens: Tensor,
        affine: Tensor | None,
        duration_seconds: float,
        frame_rate_fps: float,
        embedding: Float16[np.ndarray, "frames embedding"] | None = None,
    ) -> PreparedWindow:
        """Prepare tokens that are on the model's device; eight-bit codes have affines."""
        work = linear_work(tokens.shape[1] * tokens.shape[2], tokens.shape[3], self._width)
        with torch.inference_mode(), threads_for(work):
            patches = self.model.prepare(tokens, affine)
        return PreparedWindow(patches, duration_seconds, frame_rate_fps, embedding)

    def _divide(
        self, video: VideoFeatures | FrameSource, plan: WindowPlan | None
    ) -> tuple[WindowedVideo, Iterator[PreparedWindow]]:
        if isinstance(video, VideoFeatures):
            return WindowedVideo.whole(video), iter([self._prepare_features(video)])
        windowed = WindowedVideo.of(video, plan or self.plan())
        return windowed, map(self._prepare_features, windowed.read(video))

    def _prepare_features(self, video: VideoFeatures) -> PreparedWindow:
        layers, _, tokens, width = video.tokens.shape
        legal = (self.spec.num_layers, self.spec.num_tokens, self.spec.vision_width)
        if (layers, tokens, width) != legal:
            raise ConfigError(
                f"{video!r} does not fit a model trained on (layers, tokens, width) = {legal}; "
                "encode the video with the CLIP model and layers that the run names"
            )
        embedding = embedding_of(video) if self.has_prior else None
        tokens = torch.from_numpy(video.tokens).to(self.device)
        affine = None
        if video.scale is not None and video.offset is not None:
            affine = torch.from_numpy(np.stack([video.scale, video.offset])).to(self.device)
        return self.prepare_tokens(
            tokens, affine, video.duration_seconds, video.frame_rate_fps, embedding
        )

    def _refine(self, window: PreparedWindow, queries: Sequence[QueryFeatures]) -> RefinedWindow:
        refined: list[Refined] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            chosen = queries[start : start + _QUERIES_AT_ONCE]
            tokens = pad_second_axis([torch.from_numpy(query.tokens) for query in chosen])
            num_words = torch.tensor([query.tokens.shape[1] for query in chosen])
            with self._inference(len(chosen) * window.num_frames):
                refined.append(
                    self.model.refine(
                        window.patches, tokens.to(self.device), num_words.to(self.device)
                    )
                )
        return RefinedWindow(
            refined,
            window.num_frames,
            window.duration_seconds,
            window.frame_rate_fps,
            window.embedding,
        )

    def _answer(
        self,
        window: RefinedWindow,
        priors: Float32[Tensor, "queries frames 2"] | None,
        decoding: DecodeConfig,
    ) -> list[WindowAnswer]:
        found: list[WindowAnswer] = []
        for part in window.parts:
            rows = slice(len(found), len(found) + part.num_queries)
            prior = None if priors is None else priors[rows].to(self.device)
            with self._inference(part.num_queries * window.num_frames):
                predictions = self.model.read(part, prior)
            lengths = [window.num_frames] * part.num_queries
            groundings = decode_rows(
                predictions,
                lengths,
                [window.frame_rate_fps] * part.num_queries,
                [window.duration_seconds] * part.num_queries,
                decoding,
            )
            found += map(WindowAnswer, groundings, frame_fit(predictions, lengths))
        return found

    @contextmanager
    def _inference(self, num_frames: int) -> Generator[None]:
        """Compute without gradients, by as many threads as work on so many frames is worth."""
        work = linear_work(num_frames, self._width, self._width)
        with torch.inference_mode(), threads_for(work):
            yield

    def _require_fit(self, query: QueryFeatures) -> None:
        layers, _, width = query.tokens.shape
        legal = (self.spec.num_layers, self.spec.text_width)
        if (layers, width) != legal:
            raise ConfigError(
                f"{query!r} does not fit a model trained on (layers, text width) = {legal}; "
                "encode the query with the CLIP model and layers that the run names"
            )
