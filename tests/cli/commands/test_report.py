"""`r2t report`: what the page holds, that it fetches nothing, and that no text becomes markup."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from barcode_videos import Recipe, write_video
from demo_run import presence_rule
from tiny_config import tiny_config
from toy_store import make_store
from typer.testing import Result

from r2t.cli.answers.frame_strip import FrameStrip
from r2t.cli.commands.eval import evaluate
from r2t.cli.commands.report import last_name, report
from r2t.cli.pages.page_files import write_video_report
from r2t.cli.pages.report import breakdown_table, json_for_html, query_entry, render_page
from r2t.store.annotations import Annotation
from r2t.train.grounding.presence import save_rule
from r2t.train.metrics.breakdown import COLUMNS, score_breakdown
from r2t.train.metrics.evaluators import score_queries
from r2t.train.metrics.submission import SubmissionRow
from r2t.train.model.decode import Grounding
from r2t.train.training.fit import split_annotations, train_model

RunCommand = Callable[..., Result]
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)> {{title}}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train for an epoch; return store and run."""
    folder = tmp_path_factory.mktemp("trained")
    store = make_store(folder / "feats.zarr")
    train_model(tiny_config(store, epochs=1), store, split_annotations(store), folder / "run")
    return folder / "feats.zarr", folder / "run"


def page_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def grounding(num_frames: int = 10) -> Grounding:
    moments = np.array([[0.0, 6.0, 0.9], [4.0, 8.0, 0.0001234]])
    saliency = np.linspace(-1, 1, num_frames).astype(np.float32)
    return Grounding(moments, saliency, 0.5, 2.0 * num_frames, 0.0)


def hostile_page() -> str:
    entry = query_entry(grounding(), query_id="1", video_id=HOSTILE, query=HOSTILE, top=5)
    data = {
        "title": HOSTILE,
        "facts": [["run", HOSTILE]],
        "summary": None,
        "tables": [],
        "videos": {HOSTILE: {"seconds": 20.0}},
        "queries": [entry],
    }
    return render_page(data, title=HOSTILE)


def test_the_page_holds_the_scores_that_eval_prints(
    run_command: RunCommand, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    store, run = trained
    options = ("--store", store, "--checkpoint", run, "--device", "cpu")
    page = tmp_path / "page.html"
    answer = run_command(report, *options, "--out", page, "--bootstrap", 50)
    assert answer.exit_code == 0, answer.stderr
    text = page.read_text()
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg|http-equiv", "", text)
    data = page_data(text)
    assert data["caveat"] is None
    assert {query["verdict"] for query in data["queries"]} == {None}
    scores = json.loads(run_command(evaluate, *options, "--json").stdout)
    rows = {row["name"]: row["cells"][0] for row in data["tables"][0]["rows"]}
    known = {name: value for name, value in scores["brief"].items() if value is not None}
    assert {name: cell[0] for name, cell in rows.items()} == known
    assert all(low <= value <= high for value, low, high in rows.values())
    groups = {row["name"]: row for row in data["summary"]["rows"]}
    assert groups["all queries"]["cells"][2][0] == pytest.approx(rows["MR-full-mAP"][0])
    assert groups["with moments up to 10 s"]["queries"] == 4  # of six seconds each
    assert groups["up to 5 words"]["queries"] == 4
    assert groups.keys() == {"all queries", "with moments up to 10 s", "up to 5 words"}
    assert data["summary"]["notes"] == []
    assert sorted(query["id"] for query in data["queries"]) == ["v4-0", "v4-1", "v5-0", "v5-1"]
    assert data["queries"][0]["truth"] == [[0, 6]]
    assert set(data["queries"][0]["scores"]) == {"ap", "iou", "highlights"}
    mean = np.mean([query["scores"]["ap"] for query in data["queries"]])
    assert mean == pytest.approx(rows["MR-full-mAP"][0], abs=0.01)


def test_counts_that_do_not_add_up_are_explained() -> None:
    moments = ([[0, 10]], [[0, 8], [20, 60]], [[0, 20]])
    truth = [
        Annotation(str(place), "v", "a b", np.array(rows, np.float64))
        for place, rows in enumerate(moments)
    ]
    found = [SubmissionRow(each.query_id, "v", "a b", np.array([[0, 5, 0.5]])) for each in truth]
    groups = score_breakdown(score_queries(found, truth, evaluator="moments"), truth, num_samples=2)
    [note] = breakdown_table(groups, COLUMNS)["notes"]
    assert note.startswith("2 + 1 + 1 is more than 3: a query with moments of several lengths")


def test_no_page_and_no_score_file_tells_where_things_lie(
    run_command: RunCommand,
    trained: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "homes" / "alice"
    videos = home / "secret folder"
    videos.mkdir(parents=True)
    for name in ("v4", "v5"):
        write_video(videos / f"{name}.mp4", Recipe())
    monkeypatch.setenv("HOME", str(home))
    for place in (tmp_path / "homes" / "public", home / "work"):
        place.mkdir()
        page = place / "page.html"
        asked = ("--store", trained[0], "--checkpoint", trained[1], "--device", "cpu")
        options = ("--out", page, "--videos", videos, "--bootstrap", 1)
        answer = run_command(report, *asked, *options)
        assert answer.exit_code == 0, answer.stderr
        written = page.read_text()
        shown = page_data(written)
        facts = dict(shown["facts"])
        assert (facts["run"], facts["store"]) == ("run", "feats.zarr")
        source = shown["videos"]["v4"]["source"]
        if place.name == "public":  # the way there leads through everybody's homes
            assert source == "v4.mp4"
            assert "alice" not in written
            assert "it asks for a file" in answer.stderr
        else:
            assert source == "../secret%20folder/v4.mp4"
            assert "note" not in answer.stderr
        answer = run_command(evaluate, *asked, "--out", place / "scores")
        assert answer.exit_code == 0, answer.stderr
        for path in (page, *(place / "scores").iterdir()):
            assert str(tmp_path).encode() not in path.read_bytes()
            assert b"homes" not in path.read_bytes()
    single = tmp_path / "homes" / "public" / "one.html"
    strip = FrameStrip(np.zeros((2, 8, 8, 3), np.uint8))
    write_video_report(single, videos / "v4.mp4", "a", grounding(), strip, {"run": "x"}, top=1)
    assert "alice" not in single.read_text()
    assert page_data(single.read_text())["videos"]["v4.mp4"]["source"] == "v4.mp4"


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("s3://bucket/sets/feats.zarr", "feats.zarr"),
        ("https://me:word@example.org/feats.zarr?X-Amz-Signature=1", "feats.zarr"),
        ("https://me:word@example.org", "example.org"),
        ("/a/b/feats.zarr/", "feats.zarr"),
    ],
)
def test_a_page_names_the_last_part_of_a_place(location: str, name: str) -> None:
    assert last_name(location) == name


def test_videos_give_pictures_and_a_source_and_missing_ones_are_named(
    run_command: RunCommand, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    videos = tmp_path / "my films"
    videos.mkdir()
    with av.open(str(videos / "v4.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(48):
            picture = np.full((32, 32, 3), 200, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    (videos / "v5.mp4").write_bytes(b"no video")
    (videos / "other.mp4").write_bytes(b"no video")
    page = tmp_path / "page.html"
    options = ("--store", trained[0], "--checkpoint", trained[1], "--device", "cpu", "--out", page)
    answer = run_command(report, *options, "--videos", videos, "--bootstrap", 1)
    assert answer.exit_code == 1
    assert "v5.mp4" in answer.stderr
    assert "other" not in answer.stderr
    shown = page_data(page.read_text())["videos"]
    assert shown["v4"]["source"] == "my%20films/v4.mp4"
    assert shown["v4"]["strip"].startswith("data:image/jpeg;base64,")
    assert "strip" not in shown["v5"]
    url = "https://example.org/{video_id}.mp4?x=1"
    answer = run_command(report, *options, "--videos", url, "--bootstrap", 1)
    assert answer.exit_code == 0
    text = page.read_text()
    assert page_data(text)["videos"]["v4"] == {
        "seconds": 24.0, "source": "https://example.org/v4.mp4?x=1"
    }  # fmt: skip
    assert "media-src https://example.org;" in text


def test_no_text_becomes_markup() -> None:
    page = hostile_page()
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert html.escape(HOSTILE) in page  # the title; the placeholder in it is not filled
    data = page_data(page)
    assert data["queries"][0]["query"] == HOSTILE
    assert json.loads(json_for_html("\ud800 \u2028 <!--")) == "\ud800 \u2028 <!--"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_the_page_and_runs_no_script_of_others(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page = tmp_path / "page.html"
    page.write_text(hostile_page())
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, check=True, timeout=60
    )
    head, body = done.stdout.split("<body", 1)
    assert "<title>taken" not in head
    assert "<img" not in body
    assert f'<h1 id="title">{html.escape(HOSTILE, quote=False)}</h1>' in body
    assert body.count('class="mini"') == 1
    assert "found moment 2, score 0.00, 0:04.0 \u2013 0:08.0" in body  # in the open timeline


def test_a_curve_keeps_its_peaks_within_bounds() -> None:
    moments = np.array([[0.0, 2.0, 0.5]])
    saliency = np.zeros(3600, np.float32)
    saliency[1800] = 1
    entry = query_entry(
        Grounding(moments, saliency, 0.5, 7200.0, 0.0), query_id="1", video_id="v", query="q", top=5
    )
    curve = entry["curve"]
    assert (len(curve["steps"]), curve["steps"].index(255)) == (300, 150)
    assert curve["seconds"] == 7200
    flat = query_entry(
        Grounding(moments, np.ones(3, np.float32), 0.5, 6.0, 1.0),
        query_id="1",
        video_id="v",
        query="q",
        top=5,
    )
    assert flat["curve"]["steps"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "report.pdf"), "ends in .html"),
        (("--out", "/nowhere/report.html"), "/nowhere does not exist"),
        (("--videos", "https://example.org/videos"), "{video_id} in its path"),
        (("--videos", "file://{video_id}"), "http(s) URL"),
        (("--videos", "https://me:word@example.org/{video_id}"), "holds a user name"),
        (("--videos", "/nowhere"), "no such folder"),
        (("--split", "test"), "has train, val"),
    ],
)
def test_bad_requests_are_refused(
    options: tuple[str, ...], message: str, run_command: RunCommand, trained: tuple[Path, Path]
) -> None:
    asked = ("--store", trained[0], "--checkpoint", trained[1], "--device", "cpu")
    answer = run_command(report, *asked, *options)
    assert answer.exit_code == 2
    assert message in answer.stderr.replace("\n", " ")


def test_highlight_datasets_have_a_table_of_domains(
    run_command: RunCommand, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr")
    config = tiny_config(store, epochs=1)
    config = replace(config, evaluator="tvsum", model=replace(config.model, boundary_head=False))
    train_model(config, store, split_annotations(store), tmp_path / "run")
    page = tmp_path / "page.html"
    asked = ("--store", store.location, "--checkpoint", tmp_path / "run", "--device", "cpu")
    answer = run_command(report, *asked, "--out", page)
    assert answer.exit_code == 0, answer.stderr
    data = page_data(page.read_text())
    assert data["summary"] is None
    assert [row["name"] for row in data["tables"][0]["rows"]] == ["mAP"]
    assert data["queries"][0]["moments"] == []


def test_the_page_says_what_is_probably_not_in_its_video(
    run_command: RunCommand, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    store, run = trained
    shutil.copytree(run, tmp_path / "run")
    save_rule(tmp_path / "run", presence_rule(2.0), {})
    asked = ("--store", store, "--checkpoint", tmp_path / "run", "--device", "cpu")
    page = tmp_path / "page.html"
    answer = run_command(report, *asked, "--out", page, "--bootstrap", 50)
    assert answer.exit_code == 0, answer.stderr
    verdicts = [query["verdict"] for query in page_data(page.read_text())["queries"]]
    why = "probably not in this video (learned cosine "
    assert all(verdict.startswith(why) for verdict in verdicts)
