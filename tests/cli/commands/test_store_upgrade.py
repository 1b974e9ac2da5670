"""`r2t store upgrade`: what it says, and that nothing made before notices."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damaged_stores import edit
from demo_run import make_demo_run
from features import random_tokens
from typer.testing import CliRunner
from version_1_stores import make_version_1

from r2t.cli.main import app
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.similarity import embedding_of_tokens
from r2t.store import Annotation, FeatureStore
from r2t.store.change.subset import subset_store
from r2t.store.check.verify import verify_store
from r2t.store.schema import SINCE_VERSION_2


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> FrozenClip:
    return FrozenClip.load(str(clip_folder), layers=2, device="cpu")


@pytest.fixture(scope="module")
def original(clip: FrozenClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of format version 1 that this CLIP made, but for its frames."""
    path = tmp_path_factory.mktemp("original") / "feats.zarr"
    store = FeatureStore.create(path, clip.spec(0.5), clip.provenance())
    rows = [
        Annotation(f"q{number}", f"v{number}", text, np.array([[2.0, 6.0]]), split="val")
        for number, text in enumerate(["a dog runs", "a cat sleeps on a sofa"])
    ]
    features = clip.encode_queries([each.query for each in rows], [each.query_id for each in rows])
    with store.writer() as writer:
        for number, each in enumerate(rows):
            with writer.video(
                each.video_id, num_frames=8, duration_seconds=16.0, frame_rate_fps=0.5
            ) as video:
                video.append(random_tokens(8, seed=number, spec=store.spec))
        writer.add_queries(rows, [replace(each, embedding=None) for each in features])
    make_version_1(path)
    return path


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "feats.zarr"))


def run(*arguments: object, status: int = 0) -> Any:
    answer = CliRunner().invoke(app, [*map(str, arguments)])
    assert answer.exit_code == status, answer.output
    return answer


def test_a_store_gets_the_embeddings_of_its_tokens(clip: FrozenClip, path: Path) -> None:
    answer = run("store", "upgrade", path, "--dry-run")
    assert "from format version 1 to 2, with embeddings of 16 numbers" in answer.stdout
    assert "2 videos, 16 frames, 2 queries" in answer.stdout
    plan = json.loads(run("store", "upgrade", path, "--dry-run", "--json").stdout)
    assert (plan["format_version"], plan["embedding"]["width"]) == (1, 16)
    assert plan["num_bytes"] == plan["embedding_bytes"] + plan["part_bytes"] > 0
    assert FeatureStore.open(path).header.format_version == 1

    answer = run("store", "upgrade", path)
    assert "an r2t that knows format version 1 alone will refuse it" in answer.stderr
    assert "now has format version 2, with embeddings of 16 numbers: 2 videos" in answer.stdout
    store = FeatureStore.open(path)
    for video_id in store:
        video = store.read_video(video_id)
        np.testing.assert_array_equal(video.embedding, embedding_of_tokens(clip, video))
    query = clip.encode_query("a dog runs")
    upgraded = store.read_query("q0").embedding
    assert query.embedding is not None
    assert upgraded is not None
    np.testing.assert_allclose(upgraded, query.embedding, atol=2e-3)
    assert verify_store(path).faults == ()

    answer = run("store", "upgrade", path)
    assert "has format version 2 already, with embeddings of 16 numbers" in answer.stdout
    assert "already" in run("store", "upgrade", path, "--dry-run").stdout
    report = json.loads(run("store", "upgrade", path, "--json").stdout)
    assert (report["was_current"], report["num_videos"]) == (True, 2)


def test_what_an_upgrade_left_is_removed_by_the_next(path: Path) -> None:
    shutil.copytree(path / "index", path.parent / "index")
    run("store", "upgrade", path, "--no-embeddings")
    shutil.move(path.parent / "index", path / "index")
    answer = run("store", "upgrade", path)
    assert "removed what was left of format version 1: index" in answer.stdout
    assert verify_store(path).faults == ()


def test_a_store_may_go_without_and_says_so(path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(path, tmp_path / "copy.zarr")
    edit(
        copy / "zarr.json",
        lambda node: node["attributes"]["r2t"]["identity"].update(weights_sha256="0" * 64),
    )
    answer = run("store", "upgrade", copy, status=2)
    assert "or add --no-embeddings to upgrade" in answer.stderr
    answer = run("store", "upgrade", copy, "--no-embeddings")
    assert "now has format version 2, without embeddings: 2 videos, 2 queries" in answer.stdout
    answer = run("store", "upgrade", copy)
    assert "embeddings are made by `r2t extract` into a new store" in answer.stderr

    for name, layers, cls_only in (("early", (0,), False), ("cls", None, True)):
        smaller = tmp_path / f"{name}.zarr"
        subset_store(path, smaller, layers=layers, cls_only=cls_only)
        make_version_1(smaller)
        answer = run("store", "upgrade", smaller)
        assert ("no embeddings are added: tiny-clip" in answer.stderr) == (name == "early")
        assert (FeatureStore.open(smaller).embedding is None) == (name == "early")


def test_a_run_of_before_answers_as_it_did(path: Path, tmp_path: Path) -> None:
    checkpoint = make_demo_run(tmp_path / "trained", FeatureStore.open(path).spec)

    def forget(node: dict[str, Any]) -> None:
        for name in SINCE_VERSION_2:
            node["trained_on"]["identity"].pop(name)

    (config,) = checkpoint.glob("config.json")
    edit(config, forget)

    def answers() -> tuple[Any, str]:
        out = tmp_path / "answers"
        command = ("eval", "--store", path, "--checkpoint", checkpoint, "--out", out, "--json")
        scores = json.loads(run(*command).stdout)
        return scores, (out / "predictions.jsonl").read_text()

    before = answers()
    run("store", "upgrade", path)
    assert FeatureStore.open(path).embedding is not None
    assert answers() == before
