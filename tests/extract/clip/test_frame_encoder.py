"""The picture half of the frozen CLIP: which batches it takes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from r2t.extract.clip import hardware
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.embedding import EncodedFrames
from r2t.extract.clip.frame_encoder import FrameEncoder
from r2t.store.errors import ConfigError

RNG = np.random.default_rng(0)


def test_the_batch_fits_the_free_memory(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1 << 40
    monkeypatch.setattr(hardware, "free_bytes", lambda device: free)
    assert FrozenClip.load(str(clip_folder)).batch_size == 16
    assert hardware.fitting_batch_size(torch.device("cuda"), 1) == 128
    assert hardware.fitting_batch_size(torch.device("cuda"), 1 << 34) == 16  # and 16 beside it
    free = 200_000
    assert FrozenClip.load(str(clip_folder)).batch_size == 2
    free = 0
    assert FrozenClip.load(str(clip_folder)).batch_size == 1


def test_a_batch_that_proves_too_large_is_halved_unless_it_was_asked_for(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = FrameEncoder._encode_pictures

    def small(self: FrameEncoder, pixels: torch.Tensor) -> EncodedFrames:
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return genuine(self, pixels)

    pixels = RNG.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
    automatic = FrozenClip.load(str(clip_folder), device="cpu")
    chosen = FrozenClip.load(str(clip_folder), device="cpu", batch_size=4)
    expected = automatic.encode_frames(pixels).tokens
    monkeypatch.setattr(FrameEncoder, "_encode_pictures", small)
    found = automatic.encode_frames(pixels).tokens
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert automatic.batch_size == 2
    with pytest.raises(ConfigError, match="batches of 4 frames: lower the batch size"):
        chosen.encode_frames(pixels)


def test_a_model_is_not_blamed_for_what_a_gpu_does(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "CUDA error: no kernel image is available for execution on the device"

    def fail(self: FrameEncoder, pixels: torch.Tensor) -> EncodedFrames:
        raise RuntimeError(reason)

    monkeypatch.setattr(FrameEncoder, "_encode_pictures", fail)
    with pytest.raises(RuntimeError, match=f"^{reason}$"):
        FrozenClip.load(str(clip_folder), device="cpu")
    reason = "mat1 and mat2 shapes cannot be multiplied (50x32 and 48x32)"
    with pytest.raises(ConfigError, match=r"its vision tower gives no hidden states .*50x32"):
        FrozenClip.load(str(clip_folder), device="cpu")


def test_pictures_of_another_size_are_refused(clip_folder: Path) -> None:
    clip = FrozenClip.load(str(clip_folder), device="cpu")
    with pytest.raises(ConfigError, match=r"expected \[frames, 3, 32, 32\]"):
        clip.encode_frames(np.zeros((2, 3, 32, 40), np.uint8))
