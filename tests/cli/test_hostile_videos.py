"""A file that brings its decoder down costs a line, in every command that is given files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from barcode_videos import Recipe, write_video
from demo_run import make_demo_run
from tiny_config import tiny_config
from toy_store import make_store
from typer.testing import Result

from r2t.cli.answers.video_asker import VideoAsker
from r2t.cli.commands.data import check
from r2t.cli.commands.extract.extract import extract
from r2t.cli.commands.predict import predict
from r2t.cli.commands.report import report
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.video import decode_pool
from r2t.extract.video.decode_process import DecodeProcess
from r2t.extract.video.windows import FrameWindows
from r2t.store import FeatureStore
from r2t.store.errors import VideoError
from r2t.train.grounding.grounder import Grounder
from r2t.train.training.fit import split_annotations, train_model

pytestmark = [
    pytest.mark.usefixtures("sabotaged"),
    pytest.mark.skipif(sys.platform == "win32", reason="deaths by signal are POSIX's"),
]
CRASH = "its decoder crashed (SIGSEGV)"
HANG_SECONDS = 2.5
FATES = {"crashes": CRASH, "hangs": f"its decoder showed no progress for {HANG_SECONDS:g} s"}
RunCommand = Callable[..., Result]


class ImpatientProcess(DecodeProcess):
    """Waits less long for progress than a command would."""

    def __init__(
        self, timeout_seconds: float, memory_bytes: int, windows: FrameWindows | None = None
    ) -> None:
        super().__init__(min(timeout_seconds, HANG_SECONDS), memory_bytes, windows)


@pytest.fixture(autouse=True)
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command open a video in its own process, and none wait long for one that hangs."""
    honest = av.open

    def open_to_write(file: str, mode: str = "r", **options: Any) -> Any:
        assert mode == "w", f"{file} is opened outside the workers"
        return honest(file, mode, **options)

    monkeypatch.setattr(av, "open", open_to_write)
    monkeypatch.setattr(decode_pool, "DecodeProcess", ImpatientProcess)


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return FrozenClip.load("r2t-demo", layers=2, device="cpu")


@pytest.fixture(scope="module")
def run(clip: FrozenClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_run(tmp_path_factory.mktemp("run"), clip.spec(4.0))


@pytest.mark.parametrize("fate", FATES)
def test_predict(fate: str, run_command: RunCommand, run: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / fate, Recipe())
    answer = run_command(predict, video, "a ball", "--checkpoint", run, "--device", "cpu")
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr == f"error: {video}: {FATES[fate]}\n"


@pytest.mark.parametrize(
    ("name", "option", "out"),
    [
        ("strip-crashes", "--plot", "dog.png"),
        ("strip-hangs", "--report", "dog.html"),
        ("cut-crashes", "--cut", "dog.mp4"),
    ],
)
def test_what_predict_writes_afterwards(
    name: str, option: str, out: str, run_command: RunCommand, run: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / name, Recipe())
    wanted = ("--checkpoint", run, "--device", "cpu", option, tmp_path / out, "--json")
    answer = run_command(predict, video, "a ball", *wanted)
    assert answer.exit_code == 2
    assert json.loads(answer.stdout)["query"] == "a ball"
    assert answer.stderr == f"error: {video}: {FATES[name.partition('-')[2]]}\n"
    assert not (tmp_path / out).exists()


def test_data_check(run_command: RunCommand, tmp_path: Path) -> None:
    for name in (*FATES, "good"):
        write_video(tmp_path / name, Recipe())
    rows = "".join(f"{name},a ball,1,4\n" for name in (*FATES, "good"))
    (tmp_path / "mine.csv").write_text(f"video,query,start,end\n{rows}")
    answer = run_command(check, "--videos", tmp_path, "--json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert found["videos"] == 3
    problems = [problem["message"] for problem in found["problems"]["damaged_video"]["findings"]]
    assert problems == [f"{tmp_path / name}.mp4: {fate}" for name, fate in FATES.items()]


def test_extract_and_its_dry_run(
    run_command: RunCommand, clip_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in (*FATES, "good"):
        write_video(folder / name, Recipe())
    places = ("--videos", folder, "--store", tmp_path / "feats.zarr", "--layers", 2)
    given = (*places, "--model", clip_folder, "--device", "cpu", "--workers", 1)
    planned = run_command(extract, *given, "--dry-run")
    assert planned.exit_code == 1, planned.stderr
    answer = run_command(extract, *given)
    assert answer.exit_code == 1
    for name, fate in FATES.items():
        assert f"{folder / name}.mp4: {fate}" in planned.stderr
        assert f"{folder / name}.mp4: {fate}" in answer.stderr
    assert list(FeatureStore.open(tmp_path / "feats.zarr")) == ["good"]


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
    good = write_video(tmp_path / "good", Recipe())
    fresh = FrozenClip.load("r2t-demo", layers=2, device="cpu")  # its worker starts sabotaged
    asker = VideoAsker(Grounder.load(run), fresh, frame_rate_fps=4.0, max_videos=2, max_seconds=9)
    for name, fate in FATES.items():
        bad = write_video(tmp_path / name, Recipe())
        with pytest.raises(VideoError) as caught:
            asker.prepare(bad)
        assert str(caught.value) == f"{bad}: {fate}"
        assert asker.prepare(good).num_frames == 20
