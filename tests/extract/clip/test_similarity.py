"""Similarity from stored features against what CLIP itself says."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn import functional as F

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.similarity import frame_similarity
from r2t.store.features import VideoFeatures

SENTENCES = ["a red circle is visible", "the blue cross moves to the left"]


def test_similarity_of_stored_features_is_that_of_clip() -> None:
    clip = FrozenClip.load("r2t-demo", layers=2)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    encoded = clip.encode_frames(pixels)
    assert encoded.embedding is not None
    video = VideoFeatures("noise", encoded.tokens, 3.0, 1.0)
    queries = [replace(clip.encode_query(text), embedding=None) for text in SENTENCES]
    cosines = frame_similarity(clip, video, queries)
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

    # Stored embeddings are rounded once, and the other tokens know no others.
    embedded = replace(video, embedding=encoded.embedding, embedding_from="frames")
    found = frame_similarity(clip, embedded, [clip.encode_query(text) for text in SENTENCES])
    np.testing.assert_allclose(found[:, :, 0], (texts @ images.T).numpy(), atol=3e-4)
    np.testing.assert_allclose(found[:, :, 1:], cosines[:, :, 1:], atol=1e-3)
