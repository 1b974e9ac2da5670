"""A small part of the demo world with its features, for all tests that need one."""

from __future__ import annotations

import pytest

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.demo.world import make_world
from r2t.extract.pipeline import extract_videos
from r2t.extract.video.folder import find_videos
from r2t.store import FeatureStore
from r2t.store.datasets.registry import read_annotations


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[FrozenClip, FeatureStore]:
    """The embedded CLIP and its last layer's features of ten videos of val and ten of test."""
    folder = tmp_path_factory.mktemp("world")
    rows = [
        row
        for split in ("val", "test")
        for row in read_annotations(make_world(folder / "v", num_videos=10, seed=0, split=split))
    ]
    clip = FrozenClip.load("r2t-demo", layers=1)
    config = ExtractConfig(frame_rate=1.0, num_workers=1)
    spec = clip.spec(config.frame_rate, config.dtype)
    store = FeatureStore.create(
        folder / "feats.zarr", spec, clip.provenance(), embedding=clip.embedding
    )
    assert extract_videos(config, clip, store, find_videos(folder / "v"), rows).complete
    return clip, FeatureStore.open(folder / "feats.zarr")
