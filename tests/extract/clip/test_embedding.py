"""Embeddings against what open_clip itself says, from one forward pass and from stored tokens."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.query_encoder import QueryEncoder
from r2t.extract.clip.similarity import embedding_of_tokens
from r2t.store.errors import AnnotationWarning, ConfigError
from r2t.store.features import VideoFeatures
from r2t.store.quantize import Quantizer, affine_range
from r2t.store.schema import EmbeddingSpec

SENTENCES = ["a dog", "A man jumps over the fence, then he waves.", "word " * 40]
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
# What rounding to float16 takes, of numbers below 1.
assert_near = partial(np.testing.assert_allclose, rtol=2**-10, atol=2**-14)


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> FrozenClip:
    return FrozenClip.load(str(clip_folder), layers=2, device="cpu", batch_size=4)


def changed(clip_folder: Path, folder: Path, tower: str, **settings: object) -> str:
    """Copy the tiny model with other settings of a tower."""
    shutil.copytree(clip_folder, folder)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][tower].update(settings)
    path.write_text(json.dumps(config))
    return str(folder)


@torch.inference_mode()
def by_open_clip(clip: FrozenClip, pixels: NDArray[np.uint8]) -> tuple[Any, Any]:
    """Return what open_clip's own entry points make of pictures and of the sentences."""
    network: Any = clip.towers.network
    mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in (clip.mean, clip.std))
    images = network.encode_image((torch.from_numpy(pixels) / 255 - mean) / std, normalize=True)
    tokens = clip.queries._tokenizer(SENTENCES)
    return images.numpy(), network.encode_text(tokens, normalize=True).numpy()


def sentence_embeddings(clip: FrozenClip) -> NDArray[np.float16]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnnotationWarning)  # the last one is cut off
        queries = clip.encode_queries(SENTENCES, ["1", "2", "3"])
    return np.stack([present(query.embedding) for query in queries])


def present(embedding: NDArray[np.float16] | None) -> NDArray[np.float16]:
    assert embedding is not None
    return embedding


@pytest.mark.parametrize("layers", ["2", "=2", "1,3"])
def test_embeddings_are_those_of_clip_whichever_layers_are_kept(
    clip_folder: Path, layers: str
) -> None:
    clip = FrozenClip.load(str(clip_folder), layers=layers, device="cpu", batch_size=4)
    passed: list[int] = []
    block = clip.towers.visual.transformer.resblocks[0]
    hook = block.register_forward_hook(lambda _, inputs, __: passed.append(len(inputs[0])))
    images = present(clip.encode_frames(PIXELS).embedding)
    hook.remove()
    assert passed == [4, 3]  # each picture once
    assert clip.embedding == EmbeddingSpec(width=16)
    found = images, sentence_embeddings(clip)
    for mine, truth in zip(found, by_open_clip(clip, PIXELS), strict=True):
        assert (mine.dtype, mine.shape) == (np.float16, truth.shape)
        assert_near(mine, truth)


def test_embeddings_of_a_vit_of_usual_size_are_those_of_clip() -> None:
    clip = FrozenClip.load("ViT-S-32", "none", layers=1, device="cpu")
    assert clip.embedding == EmbeddingSpec(width=384)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 224, 224), dtype=np.uint8)
    images, sentences = by_open_clip(clip, pixels)
    assert_near(present(clip.encode_frames(pixels).embedding), images)
    assert_near(sentence_embeddings(clip), sentences)


def test_a_lower_precision_projects_in_float32(clip: FrozenClip, clip_folder: Path) -> None:
    exact = present(clip.encode_frames(PIXELS).embedding).astype(np.float32)
    for precision, bound in (("bf16", 2e-2), ("fp16", 3e-3)):
        low = FrozenClip.load(str(clip_folder), layers=2, device="cpu", precision=precision)
        assert not isinstance(low.heads, str)
        assert low.heads.image.projection.dtype == torch.float32
        found = present(low.encode_frames(PIXELS).embedding).astype(np.float32)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-3)
        assert 0 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < bound


def test_the_text_tower_alone_gives_the_same_embeddings(
    clip: FrozenClip, clip_folder: Path
) -> None:
    alone = QueryEncoder.load(str(clip_folder), None, (4,), device="cpu")
    found = present(alone.encode_query("a dog").embedding)
    np.testing.assert_array_equal(found, present(clip.encode_query("a dog").embedding))


def test_stored_tokens_give_nearly_the_same_embeddings(clip: FrozenClip) -> None:
    encoded = clip.encode_frames(PIXELS)
    exact = present(encoded.embedding).astype(np.float32)
    tokens = encoded.tokens
    affine = affine_range(tokens.min(axis=(1, 2)), tokens.max(axis=(1, 2)))
    for name, bound, video in (
        ("float16", 2e-3, VideoFeatures("v", tokens, 7.0, 1.0)),
        ("last layer", 2e-3, VideoFeatures("v", tokens[-1:], 7.0, 1.0)),
        (
            "int8",
            5e-2,
            VideoFeatures("v", Quantizer(*affine).encode(tokens), 7.0, 1.0, *affine),
        ),
    ):
        found = embedding_of_tokens(clip, video)
        assert (found.dtype, found.shape) == (np.float16, exact.shape), name
        assert np.abs(found - exact).max() < bound, name
    query = clip.encode_query("a dog")
    found = embedding_of_tokens(clip, replace(query, embedding=None))
    np.testing.assert_allclose(found, present(query.embedding), atol=2e-3)


def test_stored_tokens_without_the_last_layer_have_no_embedding(clip_folder: Path) -> None:
    clip = FrozenClip.load(str(clip_folder), layers="1,3", device="cpu")
    with pytest.raises(ConfigError, match=r"last layers \(4, 4\), .* up to \(3, 3\)"):
        embedding_of_tokens(clip, clip.encode_query("a dog"))


@pytest.mark.parametrize(
    ("tower", "settings", "reason"),
    [
        ("vision_cfg", {"pool_type": "avg"}, "vision tower pools all tokens"),
        ("vision_cfg", {"attentional_pool": True, "attn_pooler_heads": 1}, "pools all tokens"),
        ("text_cfg", {"proj_type": "none"}, "one of its towers has no projection"),
        ("text_cfg", {"pool_type": "last"}, "does not read a sentence off its end token"),
    ],
)
def test_a_model_without_such_embeddings_gives_its_tokens_all_the_same(
    clip_folder: Path, tmp_path: Path, tower: str, settings: dict[str, object], reason: str
) -> None:
    folder = changed(clip_folder, tmp_path / "copy", tower, **settings)
    clip = FrozenClip.load(folder, "none", layers=2, device="cpu")
    assert clip.embedding is None
    assert reason in str(clip.heads)
    encoded = clip.encode_frames(PIXELS)
    assert (encoded.tokens.shape, encoded.embedding) == ((2, 7, 5, 32), None)
    assert clip.encode_query("a dog").embedding is None
    with pytest.raises(ConfigError, match=f"has no embeddings: .*{reason}"):
        embedding_of_tokens(clip, clip.encode_query("a dog"))
