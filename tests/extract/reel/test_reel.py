"""The segments of a reel: as long as asked for, and of what the video shows most of."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.random import Generator, default_rng

from r2t.extract.reel import looks
from r2t.extract.reel.looks import likeness, typical_segments
from r2t.extract.reel.salience import mean_saliency, salient_segments
from r2t.extract.reel.segments import LEAST_SECONDS, Segment, evenly_spaced
from r2t.store.errors import ConfigError

WIDTH = 16
RATE = 2.0


def typical(rng: Generator, rate: float, duration: float, length: float) -> list[Segment]:
    frames = rng.normal(size=(max(1, int(duration * rate)), WIDTH))
    return typical_segments(frames.astype(np.float16), rate, duration, length)


def salient(rng: Generator, rate: float, duration: float, length: float) -> list[Segment]:
    return salient_segments(rng.random(max(1, int(duration * rate))), rate, duration, length)


def even(rng: Generator, rate: float, duration: float, length: float) -> list[Segment]:
    return evenly_spaced(duration, length)


@pytest.mark.parametrize("choose", [typical, salient, even])
@pytest.mark.parametrize("seed", range(25))
def test_segments_last_as_long_as_asked_for(
    choose: Callable[..., list[Segment]], seed: int
) -> None:
    rng = default_rng(seed)
    duration = float(rng.uniform(2, 300))
    length = float(rng.choice([2, duration, rng.uniform(2, duration)]))
    rate = float(rng.choice([0.1, 0.5, 1, 3.7]))
    segments = choose(rng, rate, duration, length)
    assert sum(segment.seconds for segment in segments) == pytest.approx(length)
    assert segments[0].start_seconds >= -1e-9
    assert segments[-1].end_seconds <= duration + 1e-9
    assert all(segment.seconds > LEAST_SECONDS - 1e-9 for segment in segments)
    assert all(a.end_seconds <= b.start_seconds + 1e-9 for a, b in pairwise(segments))


def film(*scenes: tuple[int, int]) -> np.ndarray:
    """Return embeddings of scenes, each a direction with a little noise, for so many seconds."""
    rng = default_rng(0)
    rows = np.concatenate([np.eye(WIDTH)[[look] * int(RATE * seconds)] for look, seconds in scenes])
    noisy = rows + rng.normal(scale=0.02, size=rows.shape)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float16)


def scenes_shown(segments: list[Segment], *scenes: tuple[int, int]) -> set[int]:
    """Return the scenes of which a reel shows a second or more."""
    ends = np.cumsum([seconds for _, seconds in scenes])
    starts = ends - [seconds for _, seconds in scenes]
    return {
        scene
        for (scene, _), start, end in zip(scenes, starts, ends, strict=True)
        for each in segments
        if min(each.end_seconds, end) - max(each.start_seconds, start) >= 1
    }


UNEVEN = ((0, 40), (1, 3), (2, 3), (3, 24), (4, 3), (5, 27))


def test_typical_segments_show_the_short_scenes_too_and_no_cut() -> None:
    frames = film(*UNEVEN)
    segments = typical_segments(frames, RATE, 100.0, 16.0)
    assert scenes_shown(segments, *UNEVEN) == {0, 1, 2, 3, 4, 5}
    assert scenes_shown(evenly_spaced(100.0, 16.0), *UNEVEN) < {0, 1, 2, 3, 4, 5}
    cuts = np.cumsum([seconds for _, seconds in UNEVEN])
    assert not any(each.start_seconds < cut < each.end_seconds for cut in cuts for each in segments)
    assert sum(segment.weight for segment in segments) == pytest.approx(1)
    like = [likeness(frames, RATE, each).mean() for each in (segments, evenly_spaced(100.0, 16.0))]
    assert like[0] > like[1]


def test_what_returns_is_shown_once_before_what_is_new() -> None:
    scenes = ((0, 8), (1, 8), (0, 8), (2, 8))
    segments = typical_segments(film(*scenes), RATE, 32.0, 6.0)
    assert scenes_shown(segments, *scenes) == {0, 1, 2}


def test_where_nothing_changes_segments_are_spread_over_the_video() -> None:
    still = np.ones((120, WIDTH), np.float16)
    segments = typical_segments(still, RATE, 60.0, 8.0)
    middles = [(each.start_seconds + each.end_seconds) / 2 for each in segments]
    assert len(segments) == 4
    assert np.diff(middles) == pytest.approx([15] * 3, abs=6)


def leads_in_likeness() -> list[float]:
    """Return by how much reels are more like videos that wander, where even spacing is good."""
    leads: list[float] = []
    for seed in range(30):
        frames = np.cumsum(default_rng(seed).normal(size=(60, WIDTH)), axis=0)
        reels = typical_segments(frames, RATE, 30.0, 12.0), evenly_spaced(30.0, 12.0)
        ours, even = (float(likeness(frames, RATE, each).mean()) for each in reels)
        leads.append(ours - even)
    return leads


def test_no_reel_is_less_like_its_video_than_evenly_spaced_segments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leads = leads_in_likeness()
    assert min(leads) >= -1e-6
    assert max(leads) > 0.01
    monkeypatch.setattr(looks, "_moved_back", lambda _choice, taken, *_others: taken)
    assert min(leads_in_likeness()) < -0.001


def test_many_frames_are_compared_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = typical_segments(film(*UNEVEN), RATE, 100.0, 16.0)
    monkeypatch.setattr(looks, "_MOST_CANDIDATES", 150)
    thinned = typical_segments(film(*UNEVEN), RATE, 100.0, 16.0)
    assert scenes_shown(thinned, *UNEVEN) == scenes_shown(exact, *UNEVEN)
    assert likeness(film(*UNEVEN), RATE, exact).min() > 0.9


def test_salient_segments_are_where_the_saliency_is_highest() -> None:
    saliency = np.full(60, 0.1)
    saliency[20:28] = 0.9
    saliency[50:54] = 0.5
    first, second = salient_segments(saliency, RATE, 30.0, 6.0)
    assert (first.start_seconds, first.end_seconds) == (10.0, 14.0)
    assert (second.start_seconds, second.end_seconds) == (25.0, 27.0)
    assert (first.weight, second.weight) == pytest.approx((0.9, 0.5))
    assert mean_saliency(saliency, RATE, (9.0, 11.0)) == pytest.approx(0.5)


def test_longer_reels_have_longer_segments() -> None:
    lengths = [evenly_spaced(36_000.0, length)[0].seconds for length in (10.0, 30.0, 120.0, 3600.0)]
    assert lengths == pytest.approx([2.0, 2.0, 4.0, 22.0], rel=0.02)


@pytest.mark.parametrize(("duration", "length"), [(10.0, 10.1), (10.0, 1.9), (1.0, 1.0)])
def test_lengths_that_no_reel_can_have_are_refused(duration: float, length: float) -> None:
    for choose in (typical, salient, even):
        with pytest.raises(ConfigError, match=r"it (must last|takes) 2 s or more"):
            choose(default_rng(0), 1.0, duration, length)
