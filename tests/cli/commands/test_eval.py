"""`r2t eval` on files and on a store."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from r2t.cli.commands.eval import evaluate
from r2t.cli.commands.train.train import train
from r2t.store import FeatureStore

RunCommand = Callable[..., Result]

TRUTH = [
    {"qid": 1, "query": "a", "vid": "v", "duration": 40, "relevant_windows": [[0, 10]]},
    {"qid": 2, "query": "b", "vid": "w", "duration": 40, "relevant_windows": [[10, 30]]},
]
PREDICTED = [
    {"qid": 1, "query": "a", "vid": "v", "pred_relevant_windows": [[0, 10, 0.9]]},
    {"qid": 2, "query": "b", "vid": "w", "pred_relevant_windows": [[10, 20, 0.9], [10, 30, 0.5]]},
]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Any, ...]:
    return (
        "--predictions",
        write_lines(tmp_path / "predictions.jsonl", PREDICTED),
        "--annotations",
        write_lines(tmp_path / "val.jsonl", TRUTH),
    )


def test_files_give_the_official_structure(
    run_command: RunCommand, files: tuple[Any, ...], tmp_path: Path
) -> None:
    answer = run_command(evaluate, *files, "--json")
    assert answer.exit_code == 0
    scores = json.loads(answer.stdout)
    assert set(scores) == {"brief", "short", "middle", "long", "full"}
    assert scores["brief"]["MR-full-R1@0.5"] == 100  # an IoU of 0.5 is a hit
    assert scores["brief"]["MR-full-R1@0.7"] == 50
    assert scores["brief"]["MR-full-R5@0.7"] == 100
    assert scores["full"]["MR-mIoU"] == 75
    assert scores["short"]["MR-mIoU"] == 100
    assert scores["long"] is None
    table = run_command(evaluate, *files, "--json-file", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == scores
    lines = [line.split() for line in table.stdout.splitlines()]
    rows = {words[0]: words[1:] for words in lines if words}
    assert [float(word) for word in rows["full"]] == [100, 100, 50, 100, 100, 100, 75, 77.5, 75]
    assert set(rows["long"]) == {"-"}


def test_an_order_that_lowers_the_scores_is_told_and_not_put_right(
    run_command: RunCommand, files: tuple[Any, ...], tmp_path: Path
) -> None:
    unsorted = [
        {**row, "pred_relevant_windows": [[35, 40, 0.1], [0, 30, 0.9]]} for row in PREDICTED
    ]
    write_lines(tmp_path / "predictions.jsonl", unsorted)
    answer = run_command(evaluate, *files, "--json")
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["brief"]["MR-full-R1@0.5"] == 0
    assert "2 of 2 predictions are not sorted by score" in answer.stderr
    assert "listed best first, they would have R1@0.5 50.0, not 0.0" in answer.stderr
    answer = run_command(evaluate, *files, "--strict")
    assert answer.exit_code == 2
    assert "2 of 2 predictions are not sorted by score" in answer.stderr


def test_intervals_hold_their_score(run_command: RunCommand, files: tuple[Any, ...]) -> None:
    scores = json.loads(run_command(evaluate, *files, "--json", "--bootstrap", 200).stdout)
    assert scores["intervals"]["MR-full-mIoU"] == [50, 100]  # only one of the videos, or the other
    assert scores["intervals"]["MR-full-R1@0.5"] == [100, 100]


def test_files_alone_need_no_torch(files: tuple[Any, ...]) -> None:
    program = (
        "import sys, typer\n"
        "from r2t.cli.commands.eval import evaluate\n"
        "app = typer.Typer()\n"
        "app.command()(evaluate)\n"
        "app(standalone_mode=False)\n"
        "print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_highlights_are_scored_a_domain_at_a_time(run_command: RunCommand, tmp_path: Path) -> None:
    videos = {"TFdbCRkVeIA": "parkour", "o0on6yIXJQE": "surfing"}  # of the published val lists
    records = {
        video_id: {
            "fps": 10.0,
            "frames": "100",
            "domain": domain,
            "info": [video_id, domain, [], 10, None, "a title", "text", None],
            "clip": [[0, 40], [20, 60], [40, 80]],
            "match": [-1, 1, 0],
        }
        for video_id, domain in videos.items()
    }
    truth = tmp_path / "youtube.json"
    truth.write_text(json.dumps(records))
    saliency = dict(zip(videos, ([0.1, 0.9, 0.2], [0.9, 0.1, 0.2]), strict=True))
    predictions = write_lines(
        tmp_path / "p.jsonl",
        [{"vid": video_id, "pred_saliency_scores": row} for video_id, row in saliency.items()],
    )
    files = ("--annotations", truth, "--dataset", "youtube", "--json")
    both = json.loads(run_command(evaluate, *files, "--predictions", predictions).stdout)
    assert both["domains"]["parkour"] == {"mAP": 1.0, "num_videos": 1}
    assert both["domains"]["surfing"]["mAP"] == pytest.approx(1 / 6, abs=1e-5)  # rank 3
    assert both["mAP"] == pytest.approx((1 + 1 / 6) / 2, abs=1e-5)
    alone = run_command(evaluate, *files, "--predictions", predictions, "--domain", "parkour")
    assert alone.exit_code == 2
    assert "'o0on6yIXJQE'" in alone.stderr
    one = write_lines(
        tmp_path / "one.jsonl",
        [{"vid": "TFdbCRkVeIA", "pred_saliency_scores": [0.1, 0.9, 0.2]}],
    )
    alone = run_command(evaluate, *files, "--predictions", one, "--domain", "parkour")
    assert json.loads(alone.stdout) == {"mAP": 1.0, "num_videos": 1}


def test_a_model_is_asked_about_a_store(
    run_command: RunCommand, make_store: Callable[..., FeatureStore], tmp_path: Path
) -> None:
    store, run = tmp_path / "feats.zarr", tmp_path / "run"
    make_store(store)
    trained = run_command(
        train, "--store", store, "--out", run, "--epochs", 1, "--hidden-width", 16, "--json",
        "--device", "cpu",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.stderr
    command = ("--store", store, "--checkpoint", run, "--device", "cpu")
    answer = run_command(evaluate, *command, "--json")
    assert answer.exit_code == 0, answer.stderr
    scores = json.loads(answer.stdout)
    found = {name: value for name, value in scores["brief"].items() if value is not None}
    assert found == json.loads(trained.stdout)["metrics"]  # as training had validated
    folder = run / "eval-val"
    assert json.loads((folder / "metrics.json").read_text()) == scores
    rows = (folder / "predictions.jsonl").read_bytes()
    assert sorted(json.loads(line)["qid"] for line in rows.splitlines()) == [
        "v4-0", "v4-1", "v5-0", "v5-1"
    ]  # fmt: skip
    with zipfile.ZipFile(folder / "submission.zip") as archive:
        assert archive.read("hl_val_submission.jsonl") == rows
    nothing = run_command(evaluate, *command, "--split", "test")
    assert nothing.exit_code == 2
    assert "has train, val" in nothing.stderr


LENGTHS = (12, 9, 14, 11, 40, 90)  # frames; over 64 is long after a training on at most 32


def test_training_and_evaluation_ask_long_videos_alike(
    run_command: RunCommand, make_store: Callable[..., FeatureStore], tmp_path: Path
) -> None:
    store = tmp_path / "feats.zarr"
    make_store(store, lengths=LENGTHS)
    tiny = ("--store", store, "--epochs", 1, "--hidden-width", 16, "--json", "--device", "cpu")
    said = "1 of 2 videos with more than 64 frames: asked in overlapping windows"
    for name, options, divided in (
        ("dataset", ("--preset", "qvhighlights", "--warmup", 1), False),
        ("own", (), True),
        ("told", ("--windows", "off"), False),
    ):
        run = tmp_path / name
        trained = run_command(train, *tiny, *options, "--out", run)
        assert trained.exit_code == 0, trained.stderr
        command = ("--store", store, "--checkpoint", run, "--device", "cpu", "--json")
        answer = run_command(evaluate, *command)
        assert answer.exit_code == 0, answer.stderr
        scores = json.loads(answer.stdout)["brief"]
        found = {name: value for name, value in scores.items() if value is not None}
        assert found == json.loads(trained.stdout)["metrics"]
        assert (said in answer.stderr) == divided
        whole = run_command(evaluate, *command, "--windows", "off")
        assert "windows" not in whole.stderr
        halved = run_command(evaluate, *command, "--windows", 20)
        assert "1 of 2 videos with more than 40 frames" in halved.stderr
        assert "windows of 20 frames, whose answers are merged" in halved.stderr


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ("1", "windows need 2 frames or more"),
        ("0", "windows need 2 frames or more"),
        ("-4", "must be one of auto, off, N, a number of frames from 2 up"),
        ("2.5", "must be one of auto, off, N, a number of frames from 2 up"),
        ("", "must be one of auto, off, N, a number of frames from 2 up"),
        ("of", "must be one of auto, off, N; did you mean off?"),
    ],
)
def test_windows_that_are_none_are_refused(
    run_command: RunCommand, windows: str, said: str
) -> None:
    answer = run_command(evaluate, "--store", "a", "--checkpoint", "b", f"--windows={windows}")
    assert answer.exit_code == 2
    assert said in " ".join(answer.stderr.split())


@pytest.mark.parametrize(
    "options", [(), ("--checkpoint", "a"), ("--predictions", "a", "--store", "b")]
)
def test_half_a_question_is_refused(options: tuple[str, ...], run_command: RunCommand) -> None:
    answer = run_command(evaluate, *options)
    assert answer.exit_code == 2
    assert "give either --store, with --checkpoint or without" in answer.stderr


@pytest.mark.filterwarnings("default::r2t.store.errors.AnnotationWarning")
def test_queries_without_labels_are_left_out_of_the_scores(
    run_command: RunCommand, tmp_path: Path
) -> None:
    unlabelled = {"qid": 3, "query": "c", "vid": "v", "duration": 40}
    guessed = {"qid": 3, "query": "c", "vid": "v", "pred_relevant_windows": [[0, 5, 0.5]]}
    asked = (
        "--predictions",
        write_lines(tmp_path / "predicted.jsonl", [*PREDICTED, guessed]),
        "--annotations",
        write_lines(tmp_path / "val.jsonl", [*TRUTH, unlabelled]),
        "--json",
    )
    answer = run_command(evaluate, *asked)
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["brief"]["MR-full-R1@0.5"] == 100.0
    assert "1 of 3 queries are left out" in answer.stderr


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    run_command: RunCommand, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for asked in (
        ("--store", "none", "--checkpoint", tmp_path, "--out", tmp_path / "file" / "scores"),
        ("--predictions", "a", "--annotations", "b", "--json-file", tmp_path / "file" / "x.json"),
    ):
        answer = run_command(evaluate, *asked)
        assert answer.exit_code == 2
        assert f"{tmp_path / 'file'}: a file stands where a folder is needed" in answer.stderr
