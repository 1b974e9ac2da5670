"""Settings of the whole suite."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

# Set before torch is imported: the suite's tensors are too small to share among threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from checked_signatures import check_signatures
from tiny_clip import make_tiny_clip

if TYPE_CHECKING:
    from hub_server import Hub

    from r2t.extract.clip.clip import FrozenClip
    from r2t.store import FeatureStore

# A shell starts background jobs deaf to SIGINT, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

check_signatures("r2t.train", "r2t.extract")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let untrained models be the same ones in whatever order the tests run.

    Where torch is not loaded yet, its own first seed is always the same.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def sabotaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoding workers do what the names of videos say, "crashes" for one."""
    from r2t.extract.video import decode_process

    script = Path(__file__).parent / "extract" / "video" / "sabotaged_worker.py"
    monkeypatch.setattr(decode_process, "WORKER_COMMAND", (sys.executable, "-P", str(script)))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of four layers, 32 pixels and 5 tokens with random weights, in open_clip's format."""
    return make_tiny_clip(tmp_path_factory.mktemp("model") / "tiny-clip")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[FrozenClip, FeatureStore]:
    """A small part of the demo world: ten videos of val and ten of test, as its own CLIP sees them.

    The last layer and embeddings, at one frame a second; 100 annotated sentences. The videos lie
    in the folder `v` beside the store.
    """
    from r2t.extract.clip.clip import FrozenClip
    from r2t.extract.config import ExtractConfig
    from r2t.extract.demo.world import make_world
    from r2t.extract.pipeline import extract_videos
    from r2t.extract.video.folder import find_videos
    from r2t.store import FeatureStore
    from r2t.store.datasets.registry import read_annotations

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


@pytest.fixture
def hub(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Generator[Hub]:
    """A hub on this machine that holds nothing yet, which this process uses, with a new cache."""
    from hub_server import served_hub, use_hub

    with served_hub() as hub:
        use_hub(hub, monkeypatch, tmp_path_factory.mktemp("hub-cache"))
        yield hub
