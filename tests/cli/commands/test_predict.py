"""`r2t predict` with the embedded CLIP on a video of a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from demo_run import make_demo_run, presence_rule
from PIL import Image
from typer.testing import Result

from r2t.cli.answers.answer_table import sparkline
from r2t.cli.commands.predict import predict
from r2t.extract.clip.clip import FrozenClip
from r2t.store.schema import FeatureSpec
from r2t.train.grounding.presence import save_rule

RunCommand = Callable[..., Result]


@pytest.fixture(scope="module")
def spec() -> FeatureSpec:
    return FrozenClip.load("r2t-demo", layers=2, device="cpu").spec(4.0)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[FeatureSpec], Path]:
    """Write the run of an untrained model for features of a spec."""

    def make(spec: FeatureSpec) -> Path:
        return make_demo_run(tmp_path, spec)

    return make


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Write two seconds of black, then two of white."""
    return write_video(tmp_path / "film.mp4", 32)


def write_video(path: Path, num_frames: int) -> Path:
    """Write a half of black, then a half of white, at 8 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(num_frames):
            picture = np.full((64, 64, 3), 255 * (2 * index >= num_frames), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_an_answer_as_json_as_a_table_and_as_a_picture(
    run_command: RunCommand,
    make_run: Callable[[FeatureSpec], Path],
    spec: FeatureSpec,
    video: Path,
    tmp_path: Path,
) -> None:
    question = (video, "a [red] ball", "--checkpoint", make_run(spec), "--device", "cpu")
    answer = run_command(predict, *question, "--json")
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["query"] == "a [red] ball"
    assert found["duration_seconds"] == pytest.approx(4)
    assert len(found["saliency"]) == 16  # four a second, as the run was trained
    moments = found["moments"]
    assert all(0 <= m["start_seconds"] <= m["end_seconds"] <= 4 for m in moments)
    scores = [moment["score"] for moment in moments]
    assert scores == sorted(scores, reverse=True)
    picture = tmp_path / "picture.png"
    best = json.loads(run_command(predict, *question, "--top", 2, "--json").stdout)
    assert best == {**found, "moments": moments[:2]}
    table = run_command(predict, *question, "--top", 2, "--plot", picture)
    assert table.exit_code == 0
    assert "a [red] ball" in table.stdout
    rows = [line for line in table.stdout.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["1", "2"]
    assert f"{scores[0]:.3f}" in rows[0]
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    black = np.argwhere(pixels < 8)
    assert len(black) > 10_000  # the strip's first half
    assert np.median(black[:, 1]) < pixels.shape[1] / 2


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ("--cut", "x.webm"), "clips are written as .mp4"),
        ({}, ("--srt", "x.txt"), "written as .srt"),
        ({}, ("--report", "x.pdf"), "ends in .html"),
        ({"weights_sha256": "1" * 64}, (), "weights_sha256"),
        ({}, ("--pretrained", "none"), "weights_sha256"),
        ({}, ("--plot", "x.doc"), "cannot draw '.doc'"),
        ({"frame_rate": "per-video"}, (), "give --fps"),
    ],
)
def test_other_features_than_the_run_knows_are_refused(
    change: dict[str, Any],
    options: tuple[str, ...],
    message: str,
    run_command: RunCommand,
    make_run: Callable[[FeatureSpec], Path],
    spec: FeatureSpec,
    video: Path,
) -> None:
    run = make_run(replace(spec, **change))
    answer = run_command(predict, video, "a ball", "--checkpoint", run, *options)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert message in answer.stderr


def test_the_answer_as_clips_subtitles_and_a_page(
    run_command: RunCommand,
    make_run: Callable[[FeatureSpec], Path],
    spec: FeatureSpec,
    video: Path,
    tmp_path: Path,
) -> None:
    question = (video, "a\n\nred ball", "--checkpoint", make_run(spec), "--device", "cpu")
    files = [tmp_path / name for name in ("clip-{n}.mp4", "found.srt", "page.html")]
    options = ("--top", 6, "--json", "--cut", files[0], "--srt", files[1], "--report", files[2])
    answer = run_command(predict, *question, *options)
    assert answer.exit_code == 0, answer.stderr
    moments = [
        moment
        for moment in json.loads(answer.stdout)["moments"]
        if moment["end_seconds"] > moment["start_seconds"]
    ]
    for place, moment in enumerate(moments, start=1):
        with av.open(str(tmp_path / f"clip-{place}.mp4")) as container:
            num_frames = sum(1 for _ in container.decode(video=0))
        seconds = moment["end_seconds"] - moment["start_seconds"]
        assert num_frames == pytest.approx(8 * seconds, abs=1)
    blocks = files[1].read_text().strip().split("\n\n")
    assert len(blocks) == len(moments) > 1
    starts = sorted(moment["start_seconds"] for moment in moments)
    assert blocks[0].splitlines()[1].startswith(f"00:00:{starts[0]:06.3f}".replace(".", ","))
    assert blocks[0].splitlines()[2] == "a red ball"
    page = files[2].read_text()
    assert '"source":"film.mp4"' in page
    assert "data:image/jpeg" in page


@pytest.mark.filterwarnings("default::r2t.store.errors.RunWarning")
@pytest.mark.parametrize(("threshold", "absent"), [(1.0, True), (-1.0, False)])
def test_a_calibrated_run_says_whether_it_is_there_at_all(
    threshold: float,
    absent: bool,
    run_command: RunCommand,
    make_run: Callable[[FeatureSpec], Path],
    spec: FeatureSpec,
    video: Path,
) -> None:
    run = make_run(spec)
    question = (video, "a red ball", "--checkpoint", run, "--device", "cpu")
    before = json.loads(run_command(predict, *question, "--json").stdout)
    assert before["presence"]["threshold"] is None
    assert before["presence"]["score"] == before["video_score"]
    save_rule(run, presence_rule(threshold, frame_rate=4.0), {})
    after = json.loads(run_command(predict, *question, "--json").stdout)
    assert after["presence"]["probably_absent"] is absent
    assert after["moments"] == before["moments"]
    srt = run.parent / "found.srt"
    text = run_command(predict, *question, "--srt", srt).stdout
    for shown in (text, srt.read_text()):
        assert ("probably not in this video" in shown) is absent
    answer = run_command(predict, *question, "--fps", 2, "--json")
    told = " ".join(answer.stderr.split())
    assert "it was chosen at --fps 4.0, and here it is 2.0; ask at the rate that it is for" in told
    other = json.loads(answer.stdout)
    assert other["presence"]["probably_absent"] is None


def test_a_film_is_asked_in_windows_and_says_so(
    run_command: RunCommand,
    make_run: Callable[[FeatureSpec], Path],
    spec: FeatureSpec,
    tmp_path: Path,
) -> None:
    film = write_video(tmp_path / "long.mp4", 16 * 8)
    run = make_run(spec)
    config = json.loads((run / "config.json").read_text())
    config["trained_on"]["longest_num_frames"] = 8  # windows hold 32 frames at least: 8 seconds
    (run / "config.json").write_text(json.dumps(config))
    question = (film, "a red ball", "--checkpoint", run, "--device", "cpu", "--json")
    short = run_command(predict, *question)
    assert json.loads(short.stdout)["num_windows"] == 1
    film = write_video(tmp_path / "long.mp4", 20 * 8)
    answer = run_command(predict, *question)
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert "in 4 overlapping windows of 0:08" in answer.stderr
    assert (found["num_windows"], len(found["saliency"])) == (4, 80)
    assert all(0 <= m["start_seconds"] <= m["end_seconds"] <= 20 for m in found["moments"])
    for windows, count in (("off", 1), (40, 1), (39, 4)):
        answer = run_command(predict, *question, "--windows", windows)
        assert json.loads(answer.stdout)["num_windows"] == count
        assert ("overlapping windows" in answer.stderr) == (count > 1)


def test_a_sparkline_shows_the_most_of_what_a_column_covers() -> None:
    scores = np.array([0.0, 0.0, 0.0, 7.0, 3.0, 3.0])
    assert sparkline(scores, 3) == "▁█▄"
    assert sparkline(scores, 60) == "▁▁▁█▄▄"
    assert sparkline(np.ones(4), 2) == "▁▁"
