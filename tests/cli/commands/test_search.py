"""`r2t search`: a whole store, its own answers, and the text tower alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_run import presence_rule
from open_clip.transformer import VisionTransformer
from tiny_config import tiny_config
from toy_store import random_unit
from typer.testing import Result

from r2t.cli.commands.search import search
from r2t.extract.clip.clip import FrozenClip
from r2t.store import Annotation, FeatureStore
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.presence import save_rule
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model
from r2t.train.model.ranking import FROZEN_SCORE
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn

RunCommand = Callable[..., Result]


@pytest.fixture(scope="module")
def searchable(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A store of random features of a tiny CLIP's shape, and an untrained run with a prior."""
    folder = tmp_path_factory.mktemp("search")
    clip = FrozenClip.load(str(clip_folder), layers=2, device="cpu")
    spec = clip.spec(0.5)
    assert clip.embedding is not None
    store = FeatureStore.create(
        folder / "feats.zarr", spec, clip.provenance(), embedding=clip.embedding
    )
    generator = np.random.default_rng(0)
    with store.writer() as writer:
        for number, num_frames in enumerate((9, 30, 5, 200, 12)):
            shape = (spec.num_layers, num_frames, spec.num_tokens, spec.vision_width)
            with writer.video(
                f"v{number}",
                num_frames=num_frames,
                duration_seconds=2.0 * num_frames,
                frame_rate_fps=0.5,
                source=None,
            ) as video:
                tokens = generator.standard_normal(shape).astype(np.float16)
                video.append(tokens, random_unit(generator, num_frames, clip.embedding))
        row = Annotation("q", "v0", "a ball", np.array([[0.0, 4.0]]))
        writer.add_queries([row], clip.encode_queries(["a ball"], ["q"]))
    sizes = R2Config(
        num_layers=spec.num_layers,
        vision_width=spec.vision_width,
        text_width=spec.text_width,
        width=16,
        num_heads=2,
        prior=True,
    )
    run = RunFolder(folder / "run")
    trained_on = TrainedOn(identity=spec, provenance=clip.provenance(), longest_num_frames=40)
    config = replace(tiny_config(store), model=sizes, prior="on")
    run.claim(config, trained_on, resume=False)
    run.save_weights("best", R2Model(sizes))
    return {"store": folder / "feats.zarr", "run": run.path, "query": clip.encode_query("a ball")}


def test_every_video_answers_as_it_would_alone_and_no_picture_is_looked_at(
    run_command: RunCommand, searchable: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        pytest.fail("the vision tower ran")

    monkeypatch.setattr(VisionTransformer, "forward", forbidden)
    monkeypatch.setattr(VisionTransformer, "forward_intermediates", forbidden)
    store, run = searchable["store"], searchable["run"]
    asked = ("a ball", "--store", store, "--checkpoint", run, "--device", "cpu")
    answer = run_command(search, *asked, "--json", "--moments", 2, "--batch-size", 2)
    assert answer.exit_code == 0, answer.stderr
    assert "1 of 5 videos with more than 80 frames" in answer.stderr.replace("\n", " ")
    found = json.loads(answer.stdout)
    assert found["num_videos"] == 5
    scores = [video["score"] for video in found["videos"]]
    assert scores == sorted(scores, reverse=True)
    assert {video["video"] for video in found["videos"]} == {f"v{n}" for n in range(5)}
    grounder, features = Grounder.load(run), FeatureStore.open(store)
    for video in found["videos"]:
        if video["video"] == "v3":
            continue  # in windows: see the tests of those
        alone = grounder(features.read_video(video["video"]), searchable["query"])
        assert video["score"] == pytest.approx(alone.video_score, abs=1e-5)
        spans = [[m["start_seconds"], m["end_seconds"], m["score"]] for m in video["moments"]]
        np.testing.assert_allclose(spans, alone.moments[:2], atol=1e-4)
    undivided = run_command(search, *asked, "--moments", 2, "--json", "--windows", "off")
    assert "windows" not in undivided.stderr
    alone = grounder(features.read_video("v3"), searchable["query"])
    (long,) = [v for v in json.loads(undivided.stdout)["videos"] if v["video"] == "v3"]
    assert long["score"] == pytest.approx(alone.video_score, abs=1e-5)
    table = run_command(search, *asked, "--top", 2)
    assert table.exit_code == 0
    best = found["videos"][0]["video"]
    assert best in table.stdout
    assert found["videos"][2]["video"] not in table.stdout


def test_a_calibrated_run_says_which_videos_probably_lack_it(
    run_command: RunCommand, searchable: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(searchable["run"], run)
    asked = ("a ball", "--store", searchable["store"], "--checkpoint", run, "--device", "cpu")
    before = json.loads(run_command(search, *asked, "--json").stdout)["videos"]
    assert {video["presence"]["probably_absent"] for video in before} == {None}
    scores = [video["score"] for video in before]
    middle = (scores[1] + scores[2]) / 2
    for threshold, num_absent in ((scores[4] - 0.1, 0), (middle, 3), (scores[0] + 0.1, 5)):
        save_rule(run, presence_rule(threshold, FROZEN_SCORE), {})
        after = json.loads(run_command(search, *asked, "--json").stdout)["videos"]
        absent = [video["presence"]["probably_absent"] for video in after]
        assert absent == [False] * (5 - num_absent) + [True] * num_absent
        text = run_command(search, *asked).stdout
        assert ("probably in none of these videos" in text) is (num_absent == 5)
        assert ("verdict" in text) is ("probably" in text) is (num_absent > 0)


def test_a_damaged_video_is_named_and_the_others_answer(
    run_command: RunCommand, searchable: dict[str, Any], tmp_path: Path
) -> None:
    store = tmp_path / "feats.zarr"
    shutil.copytree(searchable["store"], store)
    shutil.rmtree(store / "videos" / "v2" / "tokens" / "c")
    (shard,) = (store / "videos" / "v1" / "tokens" / "c").rglob("0/0/0/0")
    shard.write_bytes(b"\xff\x7f" + shard.read_bytes()[2:])
    asked = ("a ball", "--store", store, "--checkpoint", searchable["run"], "--device", "cpu")
    answer = run_command(search, *asked, "--json")
    assert answer.exit_code == 1
    assert "failed: v2" in answer.stderr
    assert "failed: v1: v1: its stored tokens hold NaN or infinity" in answer.stderr
    assert len(json.loads(answer.stdout)["videos"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pretrained", "none"), "weights_sha256"),
        (("--model", "nowhere"), "nowhere"),
        (("--store", "nowhere.zarr"), "does not exist"),
    ],
)
def test_bad_requests_are_refused(
    options: tuple[str, ...], message: str, run_command: RunCommand, searchable: dict[str, Any]
) -> None:
    asked = ("--store", searchable["store"], "--checkpoint", searchable["run"], "--device", "cpu")
    answer = run_command(search, "a ball", *asked, *options)
    assert answer.exit_code == 2
    assert message in answer.stderr
