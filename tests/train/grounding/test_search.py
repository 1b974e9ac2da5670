"""Searching a store: how it is read. What it answers is in the tests of the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stub_gpu import StubGpu
from tiny_config import tiny_config
from toy_store import make_store, toy_spec

from r2t.store.errors import CorruptFeatureError
from r2t.store.schema import StorageDtype
from r2t.train.data import reading
from r2t.train.data.sampling import Row
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.search import batches_of, search_store
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model.model import R2Model
from r2t.train.run.trained_on import TrainedOn


def test_codes_are_decoded_where_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "feats.zarr", spec=toy_spec("int8"))
    config = tiny_config(store)
    grounder = Grounder(R2Model(config.model), config, store.spec, TrainedOn(longest_num_frames=32))
    query = store.read_query("v0-0")
    alone = {
        video_id: grounder(store.read_video(video_id), query).video_score for video_id in store
    }
    gpu = StubGpu()
    monkeypatch.setattr(reading, "CudaTransfer", lambda device: gpu)
    monkeypatch.setattr(Grounder, "device", torch.device("cuda"))
    found = {
        answer.video_id: answer.score
        for answer in search_store(grounder, store, query, batch_size=4)
    }
    assert found == pytest.approx(alone, abs=1e-5)
    frames = [4 * 11, 2 * 13]  # padded to the longest of each batch
    assert gpu.copied_bytes[::2] == [
        count * store.spec.frame_bytes() + -count * store.spec.frame_bytes() % 256
        for count in frames
    ]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_long_videos_are_read_ahead_in_windows_and_one_that_is_damaged_spoils_no_other(
    dtype: StorageDtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "feats.zarr", lengths=[20, 6, 21, 30], spec=toy_spec(dtype))
    config = tiny_config(store)
    grounder = Grounder(R2Model(config.model), config, store.spec, TrainedOn())
    query, plan, gpu = store.read_query("v0-0"), WindowPlan(8), StubGpu()
    expected = {
        video_id: grounder.ground(store.open_video(video_id), [query], plan)[0].moments
        for video_id in ("v1", "v2", "v3")
    }
    shard = tmp_path / "feats.zarr" / "videos" / "v0" / "tokens" / "c" / "0" / "0" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + b"\x00\x7e" + whole[102:] if dtype == "float16" else b"")
    monkeypatch.setattr(reading.Reading, "way", lambda self: gpu)
    found = {answer.video_id: answer for answer in search_store(grounder, store, query, plan=plan)}
    assert list(found) == ["v1", "v0", "v2", "v3"]
    assert isinstance(found["v0"].error, CorruptFeatureError)
    for video_id, moments in expected.items():
        answer = found[video_id].grounding
        assert answer is not None
        np.testing.assert_allclose(answer.moments, moments, atol=1e-4)
    windows = sum(len(plan.windows(count)) for count in (20, 6, 21, 30))
    assert len(gpu.copied_bytes) == 2 * windows


def test_long_videos_share_a_batch_with_fewer() -> None:
    rows = [Row(str(place), frames) for place, frames in enumerate((1, 2, 2, 5, 6, 9, 30))]
    batches = [[row.num_frames for row in batch] for batch in batches_of(rows, 3, 12)]
    assert batches == [[1, 2, 2], [5, 6], [9], [30]]
    assert list(batches_of([], 3, 12)) == []
