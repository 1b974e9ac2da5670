"""Similarity from stored features against what CLIP itself says."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn import functional as F

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.similarity import frame_similarity
from r2t.store.schema import VideoFeatures

SENTENCES = ["a red circle is visible", "the blue cross moves to the left"]


def test_similarity_of_stored_features_is_that_of_clip() -> None:
    clip = FrozenClip.load("r2t-demo", layers=2)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    video = VideoFeatures("noise", clip.encode_frames(pixels).tokens, 3.0, 1.0)
    cosines = frame_similarity(clip, video, [clip.encode_query(sentence) for sentence in SENTENCES])
    assert cosines.shape == (2, *video.tokens.shape[1:3])

    network: Any = clip.towers.network
    _, mean, std = clip.towers.preprocessing()
    mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in (mean, std))
    merges = files("r2t.extract.demo") / "clip" / "merges.txt.gz"
    tokens = SimpleTokenizer(str(merges), context_length=network.context_length)(SENTENCES)
    with torch.inference_mode():
        images = F.normalize(
            network.encode_image((torch.from_numpy(pixels) / 255 - mean) / std), dim=-1
        )
        texts = F.normalize(network.encode_text(tokens), dim=-1)
    # Stored states are float16.
    np.testing.assert_allclose(cosines[:, :, 0], (texts @ images.T).numpy(), atol=2e-3)
