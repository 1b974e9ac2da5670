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
from demo_run import make_demo_run
from PIL import Image
from typer.testing import Result

from r2t.cli.predict import predict, sparkline
from r2t.extract.clip import FrozenClip
from r2t.store.schema import FeatureSpec

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
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(32):
            picture = np.full((64, 64, 3), 255 * (index >= 16), np.uint8)
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


def test_a_sparkline_shows_the_most_of_what_a_column_covers() -> None:
    scores = np.array([0.0, 0.0, 0.0, 7.0, 3.0, 3.0])
    assert sparkline(scores, 3) == "▁█▄"
    assert sparkline(scores, 60) == "▁▁▁█▄▄"
    assert sparkline(np.ones(4), 2) == "▁▁"
