"""Videos longer than any a model was trained on: asked in overlapping windows, answered as one.

A window is as long as the longest video of the training, so the model sees nothing it does not
know. Memory holds one window's features, whatever the length of the video. Neighbours share half of
a window, so a moment of up to half of one lies whole in at least one.

The benchmarks ask every video whole, so that is how a run with a dataset's preset is scored, in
training and afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float16, Float32

from r2t.store.errors import ConfigError
from r2t.store.features import FrameSource, VideoFeatures
from r2t.train.choices import WindowChoice
from r2t.train.grounding.window_merge import merge_moments
from r2t.train.model import DecodeConfig, Grounding, postprocess, video_score
from r2t.train.run import PRESETS, TrainConfig, TrainedOn

_UNKNOWN_WINDOW_FRAMES = 512  # for runs that do not say: 17 minutes at 0.5 fps
_MIN_WINDOW_FRAMES = 32


@dataclass(frozen=True)
class WindowPlan:
    """Windows of `num_frames`; None asks every video whole.

    Videos of up to twice as many frames, or of up to `whole_frames`, are asked whole, too.
    """

    num_frames: int | None
    whole_frames: int = 0

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 2:
            raise ConfigError(f"windows of {self.num_frames} frames: they need at least 2")

    @classmethod
    def of_run(cls, trained_on: TrainedOn) -> WindowPlan:
        """Return the windows that fit a run: the longest video that it was trained on."""
        longest = trained_on.longest_num_frames or _UNKNOWN_WINDOW_FRAMES
        return cls(max(longest, _MIN_WINDOW_FRAMES), trained_on.longest_whole_num_frames or 1)

    @property
    def limit_frames(self) -> int | None:
        """The longest video that is asked as one; None if that is any."""
        return None if self.num_frames is None else max(2 * self.num_frames, self.whole_frames)

    def divides(self, num_frames: int) -> bool:
        """Return whether a video of so many frames is asked in windows."""
        return self.limit_frames is not None and num_frames > self.limit_frames

    def windows(self, num_frames: int) -> list[slice]:
        """Return the frames of each window, in order; neighbours share half of them or more."""
        if self.num_frames is None or not self.divides(num_frames):
            return [slice(0, num_frames)]
        step = self.num_frames // 2
        last = num_frames - self.num_frames
        count = -(-last // step)
        starts = [round(place * last / count) for place in range(count + 1)]
        return [slice(start, start + self.num_frames) for start in starts]


def asking_plan(
    config: TrainConfig, trained_on: TrainedOn, windows: WindowChoice = "auto"
) -> WindowPlan:
    """Return how a run is asked about any video.

    "auto" is what the run's own settings say, and where they say "auto" as well, what fits it.
    """
    choice = config.windows if windows == "auto" else windows
    if choice == "auto":
        return WindowPlan.of_run(trained_on)
    return WindowPlan(None if choice == "off" else choice)


def scoring_plan(
    config: TrainConfig, trained_on: TrainedOn, windows: WindowChoice = "auto"
) -> WindowPlan:
    """Return how a run is asked annotated queries, to be scored: in training and afterwards.

    It is `asking_plan`, but that "auto" is the protocol of a dataset for a run with its preset:
    every video whole.
    """
    if windows == config.windows == "auto" and config.preset in PRESETS:
        return WindowPlan(None)
    return asking_plan(config, trained_on, windows)


@dataclass(frozen=True, eq=False)
class WindowAnswer:
    """What a window answered to a query, and how well each of its frames fits."""

    grounding: Grounding
    fit: Float32[np.ndarray, " frames"]


@dataclass(frozen=True)
class WindowedVideo:
    """How long a video is, and the frames of each window that it is asked in."""

    num_frames: int
    duration_seconds: float
    frame_rate_fps: float
    windows: tuple[slice, ...]

    @classmethod
    def whole(cls, video: VideoFeatures) -> WindowedVideo:
        """Take a video as one window."""
        every = (slice(0, video.num_frames),)
        return cls(video.num_frames, video.duration_seconds, video.frame_rate_fps, every)

    @classmethod
    def of(cls, source: FrameSource, plan: WindowPlan) -> WindowedVideo:
        """Divide a video as a plan says."""
        windows = tuple(plan.windows(source.num_frames))
        return cls(source.num_frames, source.duration_seconds, source.frame_rate_fps, windows)

    def window_seconds(self, window: slice) -> float:
        """Return how long a window is: the last one ends with the video."""
        end = min(window.stop / self.frame_rate_fps, self.duration_seconds)
        if window.stop == self.num_frames:
            end = self.duration_seconds
        return end - window.start / self.frame_rate_fps

    def read(self, source: FrameSource) -> Iterator[VideoFeatures]:
        """Yield the features of each window, which is as long as its part of the video."""
        for window in self.windows:
            yield replace(source.read(window), duration_seconds=self.window_seconds(window))

    def join(
        self, parts: Sequence[Float16[np.ndarray, "_ width"]]
    ) -> Float16[np.ndarray, "frames width"]:
        """Put together what is known of the frames of each window."""
        whole = np.empty((self.num_frames, parts[0].shape[1]), np.float16)
        for window, part in zip(self.windows, parts, strict=True):
            whole[window] = part
        return whole

    def stitch(self, answers: Sequence[WindowAnswer], decoding: DecodeConfig) -> Grounding:
        """Join what the windows answered to one query, their moments not yet suppressed."""
        rate, duration = self.frame_rate_fps, self.duration_seconds
        extents = np.array([[window.start / rate, window.stop / rate] for window in self.windows])
        extents[-1, 1] = duration
        shifted = [
            answer.grounding.moments + np.array([start, start, 0.0])
            for answer, (start, _) in zip(answers, extents.tolist(), strict=True)
        ]
        moments = merge_moments(shifted, extents, edge_seconds=0.5 / rate)[: decoding.max_moments]
        return Grounding(
            postprocess(moments, duration, decoding),
            self._blend([answer.grounding.saliency for answer in answers]),
            rate,
            duration,
            video_score(self._blend([answer.fit for answer in answers])),
        )

    def _blend(self, scores: Sequence[Float32[np.ndarray, " _"]]) -> Float32[np.ndarray, " frames"]:
        """Average the windows' scores of each frame, weighted by its distance from their edges."""
        total, weight = np.zeros((2, self.num_frames))
        for window, values in zip(self.windows, scores, strict=True):
            places = np.arange(len(values))
            trust = 1.0 + np.minimum(places, places[::-1])
            total[window] += trust * values
            weight[window] += trust
        return (total / weight).astype(np.float32)
