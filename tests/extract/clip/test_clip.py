"""The frozen CLIP: which states it takes, what it refuses, and what it says when it cannot load."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file

from r2t.extract.clip import hardware, weights
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.query_encoder import QueryEncoder
from r2t.extract.config import resolve_layers
from r2t.store.errors import AnnotationError, AnnotationWarning, ConfigError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> FrozenClip:
    return FrozenClip.load(str(clip_folder), layers=3, device="cpu", batch_size=4)


@pytest.fixture
def copied(clip_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the tiny model with other settings in its configuration."""

    def copy(**changes: dict[str, int]) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(clip_folder, folder)
        path = folder / "open_clip_config.json"
        config = json.loads(path.read_text())
        for name, change in changes.items():
            config["model_cfg"][name].update(change)
        path.write_text(json.dumps(config))
        return folder

    return copy


def vision_states(clip: FrozenClip, pixels: np.ndarray) -> list[torch.Tensor]:
    """Walk the vision blocks by hand: the embedding first, then the output of each block."""
    visual: Any = clip.towers.visual
    scaled = torch.from_numpy(pixels).float() / 255
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (clip.mean, clip.std))
    patches = visual.conv1((scaled - mean) / std).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.expand(len(pixels), 1, -1)
    states = [visual.ln_pre(torch.cat([cls, patches], dim=1) + visual.positional_embedding)]
    for block in visual.transformer.resblocks:
        states.append(block(states[-1]))
    return states


def text_states(clip: FrozenClip, text: str) -> list[torch.Tensor]:
    """Walk the text blocks by hand over the whole padded context."""
    tower = clip.towers.text
    tokens = SimpleTokenizer(context_length=clip.queries.context_length)([text])
    states = [tower.token_embedding(tokens) + tower.positional_embedding]
    for block in tower.transformer.resblocks:
        states.append(block(states[-1], attn_mask=tower.attn_mask))
    return states


@torch.no_grad()
def test_frames_give_the_residual_stream_after_the_last_blocks(clip: FrozenClip) -> None:
    pixels = RNG.integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)
    tokens = clip.encode_frames(pixels).tokens
    assert (tokens.shape, tokens.dtype) == ((3, 7, 5, 32), np.float16)
    expected = torch.stack(vision_states(clip, pixels)[2:]).numpy()
    np.testing.assert_allclose(tokens, expected, rtol=2e-3, atol=2e-3)


@torch.no_grad()
def test_a_query_gives_the_states_of_its_words_alone(clip: FrozenClip) -> None:
    texts = ["a dog", "A man jumps over the fence, then he waves.", "a dog and a cat"]
    features = clip.encode_queries(texts, ["1", "2", "3"])
    assert [feature.query_id for feature in features] == ["1", "2", "3"]
    for text, feature in zip(texts, features, strict=True):
        num_words = len(SimpleTokenizer().encode(text)) + 2
        expected = torch.stack(text_states(clip, text)[2:])[:, 0, :num_words].numpy()
        assert feature.tokens.shape == expected.shape
        np.testing.assert_allclose(feature.tokens, expected, rtol=2e-3, atol=2e-4)


def test_a_long_sentence_is_cut_with_one_counted_warning(clip: FrozenClip) -> None:
    texts = ["word " * 40, "short", "word " * 14]
    with pytest.warns(AnnotationWarning, match=r"16 tokens.*: 1 of 3 sentences.*'word") as caught:
        features = clip.encode_queries(texts, ["a", "b", "c"])
    assert len(caught) == 1
    assert [feature.tokens.shape[1] for feature in features] == [16, 3, 16]
    # Both hold 14 words between start and end, so what was cut leaves no trace.
    np.testing.assert_array_equal(features[0].tokens, features[2].tokens)


def test_a_lower_precision_is_near_and_its_name_may_be_short(
    clip: FrozenClip, clip_folder: Path
) -> None:
    pixels = RNG.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    exact = clip.encode_frames(pixels).tokens.astype(np.float32)
    for name, bound in (("bf16", 2e-2), ("fp16", 3e-3)):
        low = FrozenClip.load(str(clip_folder), layers=3, device="cpu", precision=name)
        assert low.weights_sha256 == clip.weights_sha256
        error = np.linalg.norm(low.encode_frames(pixels).tokens - exact) / np.linalg.norm(exact)
        assert 0 < error < bound
        assert low.encode_query("a dog").tokens.shape == clip.encode_query("a dog").tokens.shape


@pytest.fixture
def inexact() -> Iterator[Callable[[], list[bool]]]:
    """Let torch compute as inexactly as it can; the flags that decide it, until the test ends."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    flags: list[tuple[Any, str]] = [
        (matmul, "allow_tf32"),
        (cudnn, "allow_tf32"),
        (matmul, "allow_fp16_reduced_precision_reduction"),
        (matmul, "allow_bf16_reduced_precision_reduction"),
        (cudnn, "benchmark"),
        (cudnn, "deterministic"),
    ]

    def read() -> list[bool]:
        return [getattr(place, name) for place, name in flags]

    before = read()
    for place, name in flags:
        setattr(place, name, name != "deterministic")
    yield read
    for (place, name), value in zip(flags, before, strict=True):
        setattr(place, name, value)


def test_a_gpu_computes_in_full_what_it_is_asked_for(
    clip_folder: Path, inexact: Callable[[], list[bool]]
) -> None:
    exact = [False] * 5 + [True]
    FrozenClip.load(str(clip_folder), device="cpu", precision="float32")
    assert inexact() == exact
    torch.backends.cudnn.allow_tf32 = True
    QueryEncoder.load(str(clip_folder), None, (1,), device="cpu")
    assert inexact() == exact
    hardware.set_clip_arithmetic("tf32")
    assert inexact() == [True, True, *exact[2:]]
    assert hardware.pick_precision("tf32", torch.device("cuda")) == "tf32"
    with pytest.raises(ConfigError, match="'tf32' needs an NVIDIA GPU, the device is cpu"):
        FrozenClip.load(str(clip_folder), device="cpu", precision="tf32")
    assert not hardware.autocast(torch.device("cpu"), "tf32")._enabled


@pytest.mark.parametrize("text", ["", "  \n", "&nbsp;"])
def test_an_empty_sentence_is_refused_unless_it_may_be_the_start_and_end_token(
    clip: FrozenClip, text: str
) -> None:
    assert not clip.queries.holds_words(text)
    with pytest.raises(AnnotationError, match=r"'q7'.*is empty"):
        clip.encode_queries(["fine", text], ["q6", "q7"])
    with pytest.raises(AnnotationError, match=r"^the sentence is empty: type what to look for$"):
        clip.encode_query(text)
    fine, empty = clip.encode_queries(["fine", text], ["q6", "q7"], may_be_empty={"q7"})
    assert (fine.tokens.shape[1], empty.tokens.shape[1]) == (3, 2)
    expected = torch.stack(text_states(clip, "")[2:])[:, 0, :2].numpy()
    np.testing.assert_allclose(empty.tokens, expected, rtol=2e-3, atol=2e-4)


def test_the_spec_says_what_the_model_is(clip: FrozenClip, clip_folder: Path) -> None:
    spec = clip.spec(frame_rate=1.0, dtype="int8")
    assert (spec.model, spec.vision_layers, spec.text_layers) == ("tiny-clip", (2, 3, 4), (2, 3, 4))
    assert (spec.num_tokens, spec.vision_width, spec.text_width) == (5, 32, 16)
    assert (spec.image_size, spec.frame_rate, spec.dtype) == (32, 1.0, "int8")
    assert spec.mean == (0.4, 0.5, 0.6)
    again = FrozenClip.load(str(clip_folder), layers="2,3,4", device="cpu", precision="bfloat16")
    assert again.spec(frame_rate=1.0, dtype="int8") == spec


def test_the_digest_follows_every_weight(
    clip: FrozenClip, clip_folder: Path, tmp_path: Path
) -> None:
    state = load_file(clip_folder / "open_clip_model.safetensors")
    state["transformer.resblocks.3.ln_2.bias"][-1] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    other = FrozenClip.load(str(clip_folder), pretrained=str(tmp_path / "other.safetensors"))
    assert other.weights_sha256 != clip.weights_sha256
    torch.save(
        {"state_dict": load_file(clip_folder / "open_clip_model.safetensors")}, tmp_path / "same.pt"
    )
    same = FrozenClip.load(str(clip_folder), pretrained=str(tmp_path / "same.pt"))
    assert same.weights_sha256 == clip.weights_sha256
    assert same.pretrained == str(tmp_path / "same.pt")


def test_random_weights_come_from_seed_0_and_leave_the_generator_alone(clip_folder: Path) -> None:
    torch.manual_seed(1)
    first = FrozenClip.load(str(clip_folder), pretrained="none")
    drawn = torch.rand(())
    torch.manual_seed(1)
    assert drawn == torch.rand(())
    assert first.pretrained == "none"
    assert first.weights_sha256 == FrozenClip.load(str(clip_folder), "none").weights_sha256


def test_models_loaded_at_once_leave_everyone_elses_logs_alone(clip_folder: Path) -> None:
    program = f"""
import logging
from concurrent.futures import ThreadPoolExecutor
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.embedding import EncodedFrames
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: FrozenClip.load({str(clip_folder)!r}, device="cpu"), range(8)))
assert logging.root.handlers == [] and logging.root.filters == [], logging.root.handlers
logging.getLogger("r2t").warning("still heard")
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "still heard\n")


def test_a_folder_may_bring_its_own_merges(copied: Callable[..., Path]) -> None:
    import gzip

    folder = copied(text_cfg={"vocab_size": 512 + 2 + 2})
    (folder / "merges.txt.gz").write_bytes(gzip.compress(b"#version: 0.2\nd o\ndo g</w>"))
    clip = FrozenClip.load(str(folder), pretrained="none")
    assert clip.encode_query("dog").tokens.shape == (4, 3, 16)
    assert clip.encode_query("god").tokens.shape == (4, 5, 16)
    (folder / "merges.txt.gz").unlink()
    with pytest.raises(ConfigError, match="knows 49408 tokens, the model 516"):
        FrozenClip.load(str(folder), pretrained="none")


@pytest.mark.parametrize(
    ("choice", "depths", "expected"),
    [
        (4, (24, 12), ((21, 22, 23, 24), (9, 10, 11, 12))),
        ("1", (4, 4), ((4,), (4,))),
        ("=2", (4, 4), ((2,), (2,))),
        ("1,3", (4, 4), ((1, 3), (1, 3))),
        ((2, 4), (4, 4), ((2, 4), (2, 4))),
    ],
)
def test_layers(choice: str, depths: tuple[int, int], expected: tuple[object, object]) -> None:
    assert resolve_layers(choice, vision_depth=depths[0], text_depth=depths[1]) == expected


@pytest.mark.parametrize(
    ("choice", "depths", "message"),
    [
        (5, (4, 6), "last 1 to 4"),
        (0, (4, 4), "last 1 to 4"),
        ("0,1", (4, 4), "the embedding"),
        ("=5", (4, 4), "from 1 to 4"),
        ("3,2", (4, 4), "ascending"),
        ("2,2", (4, 4), "distinct"),
        ("last", (4, 4), "a count such as 4"),
        ("2,3", (4, 3), "4 and 3 layers"),
    ],
)
def test_impossible_layers(choice: str, depths: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_layers(choice, vision_depth=depths[0], text_depth=depths[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ViT-B-31"}, "unknown model 'ViT-B-31'.*did you mean ViT-B-32"),
        ({"pretrained": "opena"}, "did you mean openai.*or the path of a weight file"),
        ({"pretrained": "missing.pt"}, "no weight file missing.pt"),
        ({"name": "."}, "has no open_clip_config.json"),
        ({"name": "roberta-ViT-B-32", "pretrained": "none"}, "its text tower or its tokenizer"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"precision": "float8"}, "must be one of auto, float32, tf32, float16, bfloat16, fp32"),
        ({"batch_size": 0}, "batch size 0"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    arguments: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        FrozenClip.load(**arguments)  # type: ignore[arg-type]


def test_towers_without_cls_are_refused(copied: Callable[..., Path]) -> None:
    folder = copied(vision_cfg={"layers": [1, 1, 1, 1], "width": 16})  # a ResNet, in open_clip
    with pytest.raises(ConfigError, match="vision tower is a ModifiedResNet, not a ViT"):
        FrozenClip.load(str(folder), pretrained="none")


def test_depths_and_widths_come_from_the_model(copied: Callable[..., Path]) -> None:
    """A deeper, wider tower for larger pictures, as L/14-336 is beside its text tower."""
    change = {"layers": 6, "width": 48, "patch_size": 8, "image_size": 48}
    clip = FrozenClip.load(str(copied(vision_cfg=change)), "none", layers=3, device="cpu")
    assert (clip.vision_layers, clip.text_layers) == ((4, 5, 6), (2, 3, 4))
    assert (clip.num_tokens, clip.vision_width, clip.text_width) == (1 + 36, 48, 16)
    assert clip.encode_frames(np.zeros((2, 3, 48, 48), np.uint8)).tokens.shape == (3, 2, 37, 48)


@pytest.fixture
def with_timm(copied: Callable[..., Path]) -> Callable[..., Path]:
    """Copy the tiny model with a vision tower of timm's in place of its own."""

    def copy(name: str, **changes: object) -> Path:
        folder = copied()
        path = folder / "open_clip_config.json"
        config = json.loads(path.read_text())
        tower = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": "token"}
        config["model_cfg"]["vision_cfg"] = {**tower, "timm_proj": "linear", **changes}
        path.write_text(json.dumps(config))
        return folder

    return copy


@torch.no_grad()
def test_an_eva_tower_gives_the_outputs_of_its_last_blocks(
    with_timm: Callable[..., Path],
) -> None:
    folder = with_timm("eva02_tiny_patch14_224", image_size=224)
    clip = FrozenClip.load(str(folder), "none", layers=2, device="cpu")
    assert (clip.vision_layers, clip.text_layers) == ((11, 12), (3, 4))
    assert (clip.num_tokens, clip.vision_width, clip.image_size) == (257, 192, 224)
    pixels = RNG.integers(0, 256, (1, 3, 224, 224), dtype=np.uint8)
    expected: list[torch.Tensor] = []
    trunk = clip.towers.visual.trunk
    for block in trunk.blocks[-2:]:
        block.register_forward_hook(lambda _, __, output: expected.append(output))
    tokens = clip.encode_frames(pixels).tokens
    np.testing.assert_array_equal(tokens, torch.stack(expected).half().numpy())
    assert (clip.embedding, clip.heads) == (None, "its vision tower is one of timm's")


def test_a_timm_tower_without_cls_is_refused(with_timm: Callable[..., Path]) -> None:
    folder = with_timm("convnext_atto", timm_pool="avg", image_size=32)
    with pytest.raises(ConfigError, match="no CLS token before its patches"):
        FrozenClip.load(str(folder), "none")


def test_a_tower_without_hidden_states_is_refused(with_timm: Callable[..., Path]) -> None:
    folder = with_timm("eva02_tiny_patch14_224", image_size=28)  # timm builds it for 224
    with pytest.raises(ConfigError, match=r"gives no hidden states of a picture: .*\(28\)"):
        FrozenClip.load(str(folder), "none")


def test_text_that_reads_both_ways_is_refused(copied: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="does not read from left to right"):
        FrozenClip.load(str(copied(text_cfg={"no_causal_mask": True})), pretrained="none")


def test_weights_of_another_model_are_refused(
    clip_folder: Path, tmp_path: Path, copied: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match=r"cannot load the weights .*: .*Missing key.*resblocks"):
        FrozenClip.load(str(copied(text_cfg={"layers": 9})))
    (tmp_path / "notes.pt").write_text("no weights at all")
    with pytest.raises(ConfigError, match="cannot load the weights"):
        FrozenClip.load(str(clip_folder), pretrained=str(tmp_path / "notes.pt"))


def test_offline_never_touches_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        pytest.fail("offline must not ask the network")

    monkeypatch.setattr(weights, "_download", unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    source = weights.WeightSource("openai", "org/clip", ("model.safetensors",))
    with pytest.raises(ConfigError, match=r"offline.*--pretrained PATH.*--pretrained none"):
        weights.fetch(source, offline=True, announce=unreachable)


def test_a_download_is_announced_and_its_failure_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, int | None]] = []

    def fail(url: str) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(weights, "download_pretrained_from_url", fail)
    source = weights.WeightSource("tag", "https://example.org/nowhere/clip.pt")
    with pytest.raises(ConfigError, match=r"no route to host.*copy the weights"):
        weights.fetch(source, offline=False, announce=lambda *call: heard.append(call))
    assert heard == [("https://example.org/nowhere/clip.pt", None)]


def test_cached_weights_are_used_without_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached = tmp_path / "open_clip_pytorch_model.bin"
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda _, name: str(cached) if name == cached.name else None,
    )
    found = weights.find_weights(weights.find_model("ViT-B-32-quickgelu"), None)
    assert found.label == "openai"

    def announce(source: str, num_bytes: int | None) -> None:
        pytest.fail("nothing is downloaded that is cached")

    assert weights.fetch(found, offline=False, announce=announce) == cached
