"""`r2t import-checkpoint`, on weights of the official code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from r2t.cli.main import app
from r2t.store import QueryFeatures, VideoFeatures
from r2t.store.schema import UNKNOWN_WEIGHTS
from r2t.train.grounding.grounder import Grounder
from r2t.train.model.official import load_official

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return official(tmp_path, "qvh_tiny")


def official(folder: Path, name: str) -> Path:
    """Save a golden state as the official code saves its checkpoints."""
    path = folder / f"{name}.pth"
    state = load_file(GOLDEN / name / "state_dict.safetensors")
    torch.save({"meta": {"epoch": 30}, "state_dict": state}, path)
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["import-checkpoint", *map(str, arguments)])


def test_the_run_answers_as_the_checkpoint_does(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, tmp_path / "run", "--num-tokens", 5, "--json")
    assert result.exit_code == 0, result.output
    model = load_official(checkpoint).eval()
    summary = json.loads(result.stdout)
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())
    grounder = Grounder.load(tmp_path / "run")
    for name, tensor in model.state_dict().items():
        assert torch.equal(grounder.model.state_dict()[name], tensor)

    config = model.config
    spec = grounder.spec
    assert spec.vision_layers == tuple(range(13 - config.num_layers, 13))
    assert (spec.vision_width, spec.text_width) == (config.vision_width, config.text_width)
    assert (spec.num_tokens, spec.frame_rate, spec.weights_sha256) == (5, 0.5, UNKNOWN_WEIGHTS)
    generator = np.random.default_rng(0)
    video = generator.standard_normal((config.num_layers, 9, 5, config.vision_width))
    query = generator.standard_normal((config.num_layers, 4, config.text_width))
    grounding = grounder(
        VideoFeatures("v", video.astype(np.float16), 18.0, 0.5),
        QueryFeatures("q", query.astype(np.float16)),
    )
    assert len(grounding.moments) > 0
    assert grounding.saliency.shape == (9,)


def test_a_checkpoint_of_one_layer_becomes_a_run_that_answers(tmp_path: Path) -> None:
    path = official(tmp_path, "qvh_tiny")
    state = torch.load(path, weights_only=True)["state_dict"]
    del state["adapter.gate"]  # the official code has none where there is one layer
    state["adapter.scale"] = state["adapter.scale"][-1:]
    torch.save({"state_dict": state}, path)
    result = run(path, tmp_path / "run", "--num-tokens", 5)
    assert result.exit_code == 0, result.output
    grounder = Grounder.load(tmp_path / "run")
    assert (grounder.spec.vision_layers, grounder.spec.text_layers) == ((12,), (12,))
    config = grounder.model.config
    video = np.ones((1, 9, 5, config.vision_width), np.float16)
    query = np.ones((1, 4, config.text_width), np.float16)
    grounding = grounder(VideoFeatures("v", video, 18.0, 0.5), QueryFeatures("q", query))
    assert np.isfinite(grounding.saliency).all()


def test_the_run_says_where_it_comes_from(checkpoint: Path, tmp_path: Path) -> None:
    assert run(checkpoint, tmp_path / "run").exit_code == 0
    content = json.loads((tmp_path / "run" / "config.json").read_bytes())
    assert content["trained_on"]["imported"] == {
        "name": "qvh_tiny.pth",
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    assert content["trained_on"]["provenance"]["pretrained"] == "openai"
    assert content["config"]["preset"] == "qvhighlights"
    assert content["config"]["losses"]["recipe"] == "official"


def test_highlight_checkpoints_need_a_highlight_preset(tmp_path: Path) -> None:
    checkpoint = official(tmp_path, "hd_tiny")
    result = run(checkpoint, tmp_path / "run")
    assert result.exit_code == 2
    assert "has no boundary head, unlike models of the preset qvhighlights" in result.stderr
    assert not (tmp_path / "run").exists()
    assert run(checkpoint, tmp_path / "run", "--preset", "youtube").exit_code == 0
    grounder = Grounder.load(tmp_path / "run")
    assert grounder.spec.frame_rate == "per-video"
    assert not grounder.model.config.boundary_head


def test_what_cannot_be_met_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "done").mkdir()
    assert run(checkpoint, tmp_path / "done").exit_code == 0
    for arguments, message in (
        ((tmp_path / "text.pth", tmp_path / "run"), "is no checkpoint"),
        ((tmp_path / "none.pth", tmp_path / "run"), "cannot be read"),
        ((checkpoint, tmp_path / "done"), "already holds a training run"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "run").exists()
