"""Every command that answers does so without a checkpoint, alike, and says what its answer is."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_store import make_store
from typer.testing import Result

from r2t.cli.answers.video_asker import VideoAsker
from r2t.cli.commands.eval import evaluate
from r2t.cli.commands.predict import predict
from r2t.cli.commands.report import report
from r2t.cli.commands.search import search
from r2t.cli.commands.serve import serve
from r2t.cli.pages.answer import Answer, answers_html, answers_json
from r2t.extract.clip.clip import FrozenClip
from r2t.store import Annotation, FeatureStore
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.zero_shot import FROZEN_LABEL

RunCommand = Callable[..., Result]


@pytest.fixture
def question(world: tuple[FrozenClip, FeatureStore]) -> Annotation:
    """A sentence about a video of the test split."""
    return world[1].annotations("test")[0]


@pytest.fixture
def video(world: tuple[FrozenClip, FeatureStore], question: Annotation) -> Path:
    """The file that the sentence is about."""
    return Path(world[1].location).parent / "v" / f"{question.video_id}.mp4"


def test_all_commands_give_the_same_answer_and_label_it(
    run_command: RunCommand,
    world: tuple[FrozenClip, FeatureStore],
    question: Annotation,
    video: Path,
    tmp_path: Path,
) -> None:
    clip, store = world
    place, query = ("--store", store.location), question.query
    asked = (video, query, "--model", "r2t-demo", "--fps", 1, "--device", "cpu", "--offline")
    subtitles, picture, page = (tmp_path / name for name in ("a.srt", "a.png", "a.html"))
    files = ("--srt", subtitles, "--plot", picture, "--report", page)
    table, found = run_command(predict, *asked, *files), run_command(predict, *asked, "--json")
    assert (table.exit_code, found.exit_code) == (0, 0), table.stderr + found.stderr
    for text in (table.stdout, found.stdout, subtitles.read_text(), page.read_text()):
        assert FROZEN_LABEL in text
    answer = json.loads(found.stdout)
    assert (answer["num_windows"], answer["presence"]["probably_absent"]) == (1, None)

    stored = run_command(search, query, *place, "--json", "--top", 20, "--device", "cpu")
    assert stored.exit_code == 0, stored.stderr
    hits = json.loads(stored.stdout)
    assert hits["caveat"] == FROZEN_LABEL
    assert FROZEN_LABEL in run_command(search, query, *place).stdout
    scores = [hit["score"] for hit in hits["videos"]]
    assert scores == sorted(scores, reverse=True)
    [hit] = [hit for hit in hits["videos"] if hit["video"] == question.video_id]
    assert hit["moments"][0]["score"] == pytest.approx(answer["moments"][0]["score"], abs=0.02)
    assert hit["score"] == pytest.approx(answer["video_score"], abs=2e-3)

    out = tmp_path / "report.html"
    written = run_command(report, *place, "--split", "test", "--out", out, "--bootstrap", 10)
    assert written.exit_code == 0, written.stderr
    assert FROZEN_LABEL in out.read_text()
    scored = run_command(evaluate, *place, "--split", "test", "--json")
    assert scored.exit_code == 0, scored.stderr
    assert FROZEN_LABEL in scored.stderr
    assert json.loads(scored.stdout)["brief"]["MR-full-mAP"] > 20
    moments = [[each[name] for name in ("start_seconds", "end_seconds")] for each in hit["moments"]]
    asker = VideoAsker(
        Grounder.zero_shot(clip), clip, frame_rate_fps=1.0, max_videos=1, max_seconds=60
    )
    served, _ = asker.ask(video, query)
    np.testing.assert_allclose(served.moments[:1, :2], moments)
    shown = Answer(query, served, 0.1)
    assert FROZEN_LABEL in unescape(answers_html("v", [shown], 5))
    assert answers_json("v", [shown])["answers"][0]["caveat"] == FROZEN_LABEL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("a ball", "--windows", "30"), "--windows 30: without a trained run"),
        ((" ",), "is empty"),
        (("a ball", "--model", "ViT-B-32", "--offline"), "offline, and the weights"),
        (("a ball", "--pretrained", "nowhere"), "no weights called 'nowhere'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    options: tuple[str, ...],
    message: str,
    run_command: RunCommand,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    sentence, *rest = options
    model = () if "--model" in rest else ("--model", "r2t-demo")
    answer = run_command(predict, video, sentence, *model, *rest, "--device", "cpu")
    assert answer.exit_code == 2
    assert message in answer.stderr.replace("\n", " ")


@pytest.mark.parametrize("command", [search, report, evaluate])
def test_a_store_without_embeddings_is_refused_with_the_way_out(
    command: Any, run_command: RunCommand, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr")
    asked = ("a ball",) if command is search else ()
    out = ("--out", tmp_path / "page.html") if command is report else ()
    answer = run_command(command, *asked, "--store", store.location, *out)
    assert answer.exit_code == 2
    assert "r2t store upgrade" in answer.stderr.replace("\n", " ")
    windows = run_command(command, *asked, "--store", store.location, *out, "--windows", 9)
    assert "--windows 9: without a trained run" in windows.stderr.replace("\n", " ")


def test_a_clip_that_does_not_project_is_refused(
    run_command: RunCommand, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrozenClip, "embedding", None)
    answer = run_command(predict, video, "a ball", "--model", "r2t-demo", "--device", "cpu")
    assert answer.exit_code == 2
    assert "does not project frames and sentences" in answer.stderr.replace("\n", " ")
    served = run_command(serve, "--model", "r2t-demo", "--device", "cpu")
    assert served.exit_code == 2
    assert "does not project frames and sentences" in served.stderr.replace("\n", " ")
