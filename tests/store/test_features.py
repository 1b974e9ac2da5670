"""The features that flow: what is refused, and what they say of themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from features import SOURCE, random_tokens

from r2t.store import QueryFeatures, VideoFeatures
from r2t.store.errors import ConfigError


def video(**changes: Any) -> VideoFeatures:
    values: dict[str, Any] = {
        "video_id": "dog",
        "tokens": random_tokens(4),
        "duration_seconds": 8.0,
        "frame_rate_fps": 0.5,
        "source": SOURCE,
    }
    return VideoFeatures(**{**values, **changes})


AFFINE = np.ones((3, 8), np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {"video_id": ""},
        {"tokens": random_tokens(4)[0]},
        {"tokens": random_tokens(4)[:, :0]},
        {"tokens": random_tokens(4).astype(np.float32)},
        {"tokens": random_tokens(4).astype(np.int8)},
        {"tokens": random_tokens(4).astype(np.int8), "scale": AFFINE, "offset": AFFINE[:2]},
        {"scale": AFFINE, "offset": AFFINE},
        {"duration_seconds": 0.0},
        {"frame_rate_fps": float("inf")},
    ],
)
def test_impossible_video_features_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        video(**changes)


def test_features_show_their_shapes() -> None:
    assert repr(video()) == "VideoFeatures('dog', tokens=float16[3, 4, 3, 8], 8 s at 0.5 fps)"
    assert video().num_frames == 4
    query = QueryFeatures("q1", random_tokens(4)[:, :, 0])
    assert repr(query) == "QueryFeatures('q1', tokens=float16[3, 4, 8])"


@pytest.mark.parametrize("tokens", [random_tokens(4), random_tokens(4)[:, :0, 0], AFFINE[None]])
def test_impossible_query_features_are_refused(tokens: Any) -> None:
    with pytest.raises(ConfigError):
        QueryFeatures("q1", tokens)
