"""Videos longer than any a model was trained on: asked in overlapping windows, answered as one.

Memory holds one window's features, whatever the length of the video. A window is as long as the
longest video of the training, so the model sees nothing but what it knows; neighbours share half of
it, so a moment of up to half a window lies whole in at least one. `window_merge` joins the answers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from r2t.store.errors import ConfigError
from r2t.store.frame_source import FrameSource
from r2t.store.schema import QueryFeatures
from r2t.train.decode import DecodeConfig, Grounding, postprocess
from r2t.train.window_merge import merge_moments

if TYPE_CHECKING:
    from r2t.train.grounder import Grounder

LONGEST_TRAINED = "longest_num_frames"  # in a run's record of its features
_UNKNOWN_WINDOW_FRAMES = 512  # for runs that do not say: 17 minutes at 0.5 fps
_MIN_WINDOW_FRAMES = 32


@dataclass(frozen=True)
class WindowPlan:
    """Windows of `num_frames`; videos of up to `limit_frames`, twice that, are asked whole."""

    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames < 2:
            raise ConfigError(f"windows of {self.num_frames} frames: they need at least 2")

    @classmethod
    def of_run(cls, trained_on: Mapping[str, Any]) -> WindowPlan:
        """Return the windows that fit a run: the longest video that it was trained on."""
        longest = trained_on.get(LONGEST_TRAINED, _UNKNOWN_WINDOW_FRAMES)
        if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
            raise ConfigError(f"the run says {LONGEST_TRAINED} = {longest!r}: not a count")
        return cls(max(longest, _MIN_WINDOW_FRAMES))

    @property
    def limit_frames(self) -> int:
        """The longest video that is asked as one."""
        return 2 * self.num_frames

    def windows(self, num_frames: int) -> list[slice]:
        """Return the frames of each window, in order; neighbours share half of them or more."""
        if num_frames <= self.limit_frames:
            return [slice(0, num_frames)]
        step = self.num_frames // 2
        last = num_frames - self.num_frames
        count = -(-last // step)
        starts = [round(place * last / count) for place in range(count + 1)]
        return [slice(start, start + self.num_frames) for start in starts]


def ground_source(
    grounder: Grounder,
    source: FrameSource,
    queries: Sequence[QueryFeatures],
    *,
    plan: WindowPlan | None = None,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> list[Grounding]:
    """Find queries in a video of any length, one window in memory at a time.

    `plan` defaults to what fits the run. `on_window` hears how many windows of how many are done.
    """
    plan = plan or WindowPlan.of_run(grounder.trained_on)
    windows = plan.windows(source.num_frames)
    if len(windows) == 1:
        groundings = grounder.ground(source.read(windows[0]), queries)
        on_window(1, 1)
        return groundings
    decoding = grounder.config.decoding
    undecided = replace(
        grounder.config, decoding=replace(decoding, suppression="none", unit_seconds=None)
    )
    # The same model; suppression and rounding wait until all windows have answered.
    asked = copy.copy(grounder)
    asked.config = undecided
    answers: list[list[Grounding]] = []
    for window in windows:
        features = source.read(window)
        end = min(window.stop / source.frame_rate_fps, source.duration_seconds)
        if window.stop == source.num_frames:
            end = source.duration_seconds
        seconds = end - window.start / source.frame_rate_fps
        answers.append(asked.ground(replace(features, duration_seconds=seconds), queries))
        on_window(len(answers), len(windows))
    return [
        stitch([answer[place] for answer in answers], windows, source, decoding)
        for place in range(len(queries))
    ]


def stitch(
    answers: Sequence[Grounding],
    windows: Sequence[slice],
    source: FrameSource,
    decoding: DecodeConfig,
) -> Grounding:
    """Join what the windows of a video answered to one query, their moments not yet suppressed."""
    rate, duration = source.frame_rate_fps, source.duration_seconds
    extents = np.array([[window.start / rate, window.stop / rate] for window in windows])
    extents[-1, 1] = duration
    shifted = [
        answer.moments + np.array([start, start, 0.0])
        for answer, (start, _) in zip(answers, extents.tolist(), strict=True)
    ]
    moments = merge_moments(shifted, extents, edge_seconds=0.5 / rate)[: decoding.max_moments]
    return Grounding(
        postprocess(moments, duration, decoding),
        _blend([answer.saliency for answer in answers], windows, source.num_frames),
        rate,
        duration,
    )


def _blend(
    scores: Sequence[Float32[np.ndarray, " _"]], windows: Sequence[slice], num_frames: int
) -> Float32[np.ndarray, " frames"]:
    """Average what windows say about a frame, each the more the farther it is from its edges."""
    total, weight = np.zeros((2, num_frames))
    for window, values in zip(windows, scores, strict=True):
        places = np.arange(len(values))
        trust = 1.0 + np.minimum(places, places[::-1])
        total[window] += trust * values
        weight[window] += trust
    return (total / weight).astype(np.float32)
