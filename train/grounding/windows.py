"""Videos longer than any a model was trained on: asked in overlapping windows, answered as one.

Memory holds one window's features, whatever the length of the video. Neighbours share half of a
window, so a moment of up to half of one lies whole in at least one. `window_plan` says which videos
are asked so, `window_merge` joins the answers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from r2t.store.frame_source import FrameSource
from r2t.store.schema import QueryFeatures, VideoFeatures
from r2t.train.grounding.window_merge import merge_moments
from r2t.train.grounding.window_plan import WindowPlan, asking_plan
from r2t.train.model import DecodeConfig, Grounding, postprocess

if TYPE_CHECKING:
    from r2t.train.grounding.grounder import Grounder, PreparedVideo


@runtime_checkable
class Timeline(Protocol):
    """How long a video is."""

    @property
    def num_frames(self) -> int: ...
    @property
    def duration_seconds(self) -> float: ...
    @property
    def frame_rate_fps(self) -> float: ...


@dataclass(frozen=True, eq=False)
class PreparedWindows:
    """A video of any length, prepared for queries in all the windows that it is asked in."""

    parts: list[PreparedVideo]
    windows: list[slice]
    num_frames: int
    duration_seconds: float
    frame_rate_fps: float


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
    plan = plan or asking_plan(grounder.config, grounder.trained_on)
    windows = plan.windows(source.num_frames)
    return ask_windows(grounder, _read(source, windows), windows, source, queries, on_window)


def prepare_source(grounder: Grounder, source: FrameSource, plan: WindowPlan) -> PreparedWindows:
    """Compute the part of a video that depends on no query; windows share half of their frames."""
    windows = plan.windows(source.num_frames)
    return PreparedWindows(
        [grounder.prepare(features) for features in _read(source, windows)],
        windows,
        source.num_frames,
        source.duration_seconds,
        source.frame_rate_fps,
    )


def ground_prepared(
    grounder: Grounder, video: PreparedWindows, queries: Sequence[QueryFeatures]
) -> list[Grounding]:
    """Find queries in a prepared video: what `ground_source` finds."""
    return ask_windows(grounder, video.parts, video.windows, video, queries)


def _read(source: FrameSource, windows: Sequence[slice]) -> Iterator[VideoFeatures]:
    """Yield the features of each window, which is as long as its part of the video."""
    for window in windows:
        yield replace(source.read(window), duration_seconds=seconds_of(window, source))


def seconds_of(window: slice, video: Timeline) -> float:
    """Return how long a window is: the last one ends with the video."""
    end = min(window.stop / video.frame_rate_fps, video.duration_seconds)
    if window.stop == video.num_frames:
        end = video.duration_seconds
    return end - window.start / video.frame_rate_fps


def ask_windows(
    grounder: Grounder,
    parts: Iterable[VideoFeatures | PreparedVideo],
    windows: Sequence[slice],
    video: Timeline,
    queries: Sequence[QueryFeatures],
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> list[Grounding]:
    """Find queries in the windows of a video, given one after another, and join the answers."""
    decoding = grounder.config.decoding
    asked = grounder
    if len(windows) > 1:
        # The same model; suppression and rounding wait until all windows have answered.
        undecided = replace(decoding, suppression="none", unit_seconds=None)
        asked = copy.copy(grounder)
        asked.config = replace(grounder.config, decoding=undecided)
    answers: list[list[Grounding]] = []
    for part in parts:
        answers.append(asked.ground(part, queries))
        on_window(len(answers), len(windows))
    if len(answers) == 1:
        return answers[0]
    return [
        stitch([answer[place] for answer in answers], windows, video, decoding)
        for place in range(len(queries))
    ]


def stitch(
    answers: Sequence[Grounding],
    windows: Sequence[slice],
    video: Timeline,
    decoding: DecodeConfig,
) -> Grounding:
    """Join what the windows of a video answered to one query, their moments not yet suppressed."""
    rate, duration = video.frame_rate_fps, video.duration_seconds
    extents = np.array([[window.start / rate, window.stop / rate] for window in windows])
    extents[-1, 1] = duration
    shifted = [
        answer.moments + np.array([start, start, 0.0])
        for answer, (start, _) in zip(answers, extents.tolist(), strict=True)
    ]
    moments = merge_moments(shifted, extents, edge_seconds=0.5 / rate)[: decoding.max_moments]
    return Grounding(
        postprocess(moments, duration, decoding),
        _blend([answer.saliency for answer in answers], windows, video.num_frames),
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
