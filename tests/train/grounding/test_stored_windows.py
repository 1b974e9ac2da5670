"""Windows of a store's videos that are read ahead, beside those that are read one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stub_gpu import StubGpu
from tiny_config import tiny_config
from toy_store import make_store, toy_spec

from r2t.store.errors import FeatureNotFoundError
from r2t.store.schema import StorageDtype
from r2t.train.data.reading import Reading
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.stored_windows import ground_stored
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model.model import R2Model
from r2t.train.run.trained_on import TrainedOn


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_windows_read_ahead_answer_as_those_that_are_not(
    dtype: StorageDtype, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=5, min_frames=14, spec=toy_spec(dtype))
    config = tiny_config(store)
    grounder = Grounder(R2Model(config.model), config, store.spec, TrainedOn())
    plan = WindowPlan(8)  # up to 16 frames are asked whole
    asked = {f"v{video}": [f"v{video}-0", "v0-1"] for video in (1, 4, 0, 3)}
    expected = [
        grounder.ground(store.open_video(video_id), list(map(store.read_query, ids)), plan)
        for video_id, ids in asked.items()
    ]
    gpu = StubGpu()
    for reading in (Reading(), Reading(transfer=gpu)):
        found = ground_stored(grounder, store, asked, plan, reading)
        for ours, theirs in zip(found, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-5)
                np.testing.assert_allclose(one.moments, other.moments, atol=1e-4)
                assert one.duration_seconds == other.duration_seconds
    windows = [15, *4 * [8], 14, *4 * [8]]  # frames of v1, v4, v0 and v3
    assert gpu.copied_bytes[::2] == [
        -(-count * store.spec.frame_bytes() // 256) * 256 for count in windows
    ]


def test_a_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=3)
    config = tiny_config(store)
    grounder = Grounder(R2Model(config.model), config, store.spec, TrainedOn())
    with pytest.raises(FeatureNotFoundError, match="elsewhere"):
        list(ground_stored(grounder, store, {"elsewhere": ["v0-0"]}, WindowPlan(8), Reading()))
