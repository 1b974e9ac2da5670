"""`r2t compare` on files and on runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_config import tiny_config
from toy_store import make_store
from typer.testing import Result

from r2t.cli.commands.compare import Contender, compare, latex_rows
from r2t.cli.commands.eval import evaluate
from r2t.train.metrics.bootstrap import Interval
from r2t.train.metrics.paired import Difference
from r2t.train.training.fit import split_annotations, train_model

RunCommand = Callable[..., Result]


def write(path: Path, spans: list[list[float]]) -> Path:
    rows = [
        {"qid": place, "query": "a", "vid": f"v{place}", "pred_relevant_windows": [[*span, 0.9]]}
        for place, span in enumerate(spans)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A file that finds nothing, one that finds all of ten, and the truth."""
    truth = [
        {"qid": n, "query": "a", "vid": f"v{n}", "duration": 60, "relevant_windows": [[0, 10]]}
        for n in range(10)
    ]
    annotations = tmp_path / "val.jsonl"
    annotations.write_text("".join(json.dumps(row) + "\n" for row in truth))
    bad = write(tmp_path / "bad_50%.jsonl", [[40, 50]] * 10)
    return bad, write(tmp_path / "good.jsonl", [[0, 10]] * 10), annotations


def test_files_are_compared_with_the_first(
    run_command: RunCommand, files: tuple[Path, Path, Path]
) -> None:
    bad, good, annotations = files
    answer = run_command(compare, bad, good, "--annotations", annotations, "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["queries"], found["videos"]) == (10, 10)
    first, second = found["models"]
    assert first["difference"] is None
    assert first["scores"]["MR-full-R1@0.5"]["value"] == 0
    lead = second["difference"]["MR-full-R1@0.5"]
    assert lead["interval"] == {"value": 100, "low": 100, "high": 100}
    assert lead["p_value"] == pytest.approx(2 / 1024, abs=2e-3)
    table = run_command(compare, bad, good, "--annotations", annotations)
    assert "+100.0" in table.stdout
    rows = run_command(compare, bad, good, "--annotations", annotations, "--latex").stdout
    assert rows.splitlines()[1:] == [
        r"bad\_50\% & 0.0 & 0.0 & 0.0 \\",
        r"good & 100.0$^{*}$ & 100.0$^{*}$ & 100.0$^{*}$ \\",
    ]


def test_runs_are_asked_and_score_as_eval_scores_them(
    run_command: RunCommand, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr")
    for seed in (0, 1):
        config = tiny_config(store, epochs=1, seed=seed)
        train_model(config, store, split_annotations(store), tmp_path / f"run{seed}")
    runs = (tmp_path / "run0", tmp_path / "run1")
    common = ("--store", store.location, "--device", "cpu")
    scores = json.loads(run_command(evaluate, "--checkpoint", runs[1], *common, "--json").stdout)
    file = runs[1] / "eval-val" / "predictions.jsonl"
    answer = run_command(compare, *runs, file, *common, "--json")
    assert answer.exit_code == 0, answer.stderr
    _, second, third = json.loads(answer.stdout)["models"]
    for name, interval in second["scores"].items():
        assert interval["value"] == pytest.approx(scores["brief"][name], abs=0.006)
        assert third["scores"][name] == pytest.approx(interval)
    assert set(second["scores"]) >= {"MR-full-mAP", "HL-min-VeryGood-mAP"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("a.jsonl",), "needs two or more"),
        (("a.jsonl", "a.jsonl"), "given twice"),
        (("a.jsonl", "b.jsonl"), "either --store, or --annotations"),
        (("a.jsonl", "b.jsonl", "--store", "x.zarr"), "compare them with --annotations"),
        ((".", "b.jsonl", "--annotations", "x"), "give --store"),
        (("a", "b", "--annotations", "x", "--latex", "--json"), "either --latex or --json"),
    ],
)
def test_bad_requests_are_refused(
    options: tuple[str, ...], message: str, run_command: RunCommand
) -> None:
    answer = run_command(compare, *options)
    assert answer.exit_code == 2
    assert message in answer.stderr.replace("\n", " ")


def test_a_name_cannot_break_the_table() -> None:
    interval = Interval(1.0, 0.5, 1.5)
    odd = Contender("runs/a_b&c\\d", {"MR-full-mAP": interval}, None)
    other = Contender("x", {"MR-full-mAP": interval}, {"MR-full-mAP": Difference(interval, 0.2)})
    assert latex_rows([odd, other])[1:] == [
        r"a\_b\&c\textbackslash{}d & 1.0 \\",
        r"x & 1.0 \\",
    ]
