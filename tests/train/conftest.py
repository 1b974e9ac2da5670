"""Golden cases of the official implementation, and small random samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from r2t.train.data.batch import Batch, Labels, Sample, collate
from r2t.train.model.config import R2Config
from r2t.train.model.looks import MakeLook, choose_look
from r2t.train.model.losses import LossConfig
from r2t.train.model.model import R2Model
from r2t.train.model.official import from_official
from r2t.train.run.presets import find_preset

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
PRESET_OF_CASE = {"qvh_tiny": "qvhighlights", "charades_tiny": "charades", "hd_tiny": "youtube"}


@dataclass(frozen=True)
class GoldenCase:
    """Inputs, weights and outputs of the official code at small widths."""

    name: str
    meta: dict[str, Any]
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]

    def model(self, make_look: MakeLook = choose_look, **changes: Any) -> R2Model:
        model = from_official(load_file(GOLDEN / self.name / "state_dict.safetensors"))
        changed = R2Model(replace(model.config, **changes), make_look)
        changed.load_state_dict(model.state_dict())
        return changed

    def sample(self, key: str) -> Sample:
        return golden_sample(self.inputs, key, float(self.meta["fps"]))

    def batch(self, index: int) -> Batch:
        return collate(
            [self.sample(f"b{index}/s{i}") for i in range(len(self.meta["lens"][index]))]
        )

    @property
    def num_batches(self) -> int:
        return len(self.meta["lens"])

    @property
    def losses(self) -> LossConfig:
        return find_preset(PRESET_OF_CASE[self.name]).loss_config("official")


def golden_sample(arrays: dict[str, np.ndarray], key: str, frame_rate_fps: float) -> Sample:
    video = torch.from_numpy(arrays[f"{key}/video"]).transpose(0, 1)
    query = torch.from_numpy(arrays[f"{key}/query"]).transpose(0, 1)
    labels = None
    if f"{key}/pos_clip" in arrays:
        labels = Labels(
            moments=(arrays[f"{key}/boundary"] * frame_rate_fps).astype(np.float32),
            saliency=arrays[f"{key}/saliency"],
            positive_frame=int(arrays[f"{key}/pos_clip"]),
        )
    return Sample(key, video, query, video.shape[1] / frame_rate_fps, frame_rate_fps, labels)


@pytest.fixture
def golden() -> Callable[[str], GoldenCase]:
    """Load a golden case by name."""

    def load(name: str) -> GoldenCase:
        folder = GOLDEN / name
        return GoldenCase(
            name=name,
            meta=json.loads((folder / "meta.json").read_text()),
            inputs=dict(np.load(folder / "inputs.npz")),
            expected=dict(np.load(folder / "expected.npz")),
        )

    return load


@pytest.fixture
def load_golden_sample() -> Callable[..., Sample]:
    return golden_sample


@pytest.fixture
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture
def tiny_config() -> R2Config:
    """A moment-retrieval model of the golden cases' sizes, without dropout."""
    return R2Config(vision_width=48, text_width=32, width=32, dropout=0.0, drop_path=0.0)


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    """Build a labelled random sample for `tiny_config`."""

    def make(frames: int, words: int, *, seed: int = 0, moments: Any = None) -> Sample:
        generator = torch.Generator().manual_seed(1000 * seed + 100 * frames + words)
        moments = [[0.0, max(1.0, frames / 2)]] if moments is None else moments
        saliency = np.linspace(0, 1, frames, dtype=np.float32)
        return Sample(
            query_id=f"{frames}x{words}-{seed}",
            video=torch.randn(4, frames, 5, 48, generator=generator).half(),
            query=torch.randn(4, words, 32, generator=generator).half(),
            duration_seconds=2.0 * frames,
            frame_rate_fps=0.5,
            labels=Labels(np.array(moments, dtype=np.float32).reshape(-1, 2), saliency, frames - 1),
        )

    return make
