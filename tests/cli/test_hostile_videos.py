"""A file that brings its decoder down costs a line, in every command that is given files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from barcode_videos import Recipe, write_video
from demo_run import make_demo_run
from tiny_config import tiny_config
from toy_store import make_store
from typer.testing import Result

from r2t.cli.answers.video_asker import VideoAsker
from r2t.cli.commands.data import check
from r2t.cli.commands.predict import predict
from r2t.cli.commands.report import report
from r2t.extract.clip.clip import FrozenClip
from r2t.store.errors import VideoError
from r2t.train.grounding.grounder import Grounder
from r2t.train.training.fit import split_annotations, train_model

pytestmark = [
    pytest.mark.usefixtures("sabotaged"),
    pytest.mark.skipif(sys.platform == "win32", reason="deaths by signal are POSIX's"),
]
CRASH = "its decoder crashed (SIGSEGV)"
RunCommand = Callable[..., Result]


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return FrozenClip.load("r2t-demo", layers=2, device="cpu")


@pytest.fixture(scope="module")
def run(clip: FrozenClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_run(tmp_path_factory.mktemp("run"), clip.spec(4.0))


def test_predict(run_command: RunCommand, run: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "crashes", Recipe())
    answer = run_command(predict, video, "a ball", "--checkpoint", run, "--device", "cpu")
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr == f"error: {video}: {CRASH}\n"


def test_data_check(run_command: RunCommand, tmp_path: Path) -> None:
    for name in ("crashes", "good"):
        write_video(tmp_path / name, Recipe())
    rows = "video,query,start,end\ncrashes,a ball,1,4\ngood,a cat,1,4\n"
    (tmp_path / "mine.csv").write_text(rows)
    answer = run_command(check, "--videos", tmp_path, "--json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert found["videos"] == 2
    [problem] = found["problems"]["damaged_video"]["findings"]
    assert problem["message"] == f"{tmp_path / 'crashes.mp4'}: {CRASH}"


def test_report(run_command: RunCommand, tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr")
    train_model(tiny_config(store, epochs=1), store, split_annotations(store), tmp_path / "run")
    (tmp_path / "crashes").mkdir()
    for name in ("v4", "v5"):
        write_video(tmp_path / "crashes" / name, Recipe())
    options = ("--store", tmp_path / "feats.zarr", "--checkpoint", tmp_path / "run")
    page = tmp_path / "page.html"
    videos = ("--videos", tmp_path / "crashes", "--bootstrap", 1, "--device", "cpu")
    answer = run_command(report, *options, *videos, "--out", page)
    assert answer.exit_code == 1
    assert page.exists()
    for name in ("v4", "v5"):
        assert f"{name}.mp4: {CRASH}" in answer.stderr


def test_the_server_and_its_next_video(run: Path, tmp_path: Path) -> None:
    bad, good = (write_video(tmp_path / name, Recipe()) for name in ("crashes", "good"))
    fresh = FrozenClip.load("r2t-demo", layers=2, device="cpu")  # its worker starts sabotaged
    asker = VideoAsker(Grounder.load(run), fresh, frame_rate_fps=4.0, max_videos=2, max_seconds=9)
    with pytest.raises(VideoError) as caught:
        asker.prepare(bad)
    assert str(caught.value) == f"{bad}: {CRASH}"
    assert asker.prepare(good).num_frames == 20
