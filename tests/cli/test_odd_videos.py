"""What is odd about a video's times is one plain line of every command that reads it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from barcode_videos import Recipe, write_video
from demo_run import make_demo_run
from typer.testing import Result

from r2t.cli.commands.data import check
from r2t.cli.commands.extract.extract import extract
from r2t.cli.commands.predict import predict
from r2t.extract.clip.clip import FrozenClip

RunCommand = Callable[..., Result]
SECONDS = tuple(Fraction(frame, 15) for frame in range(60))

pytestmark = pytest.mark.filterwarnings("default::r2t.store.errors.VideoWarning")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Write a folder of one video, whose pictures pause for 70 s and then for 80 s."""
    times = tuple(seconds + 70 * (seconds >= 1) + 80 * (seconds >= 2) for seconds in SECONDS)
    (tmp_path / "videos").mkdir()
    return write_video(tmp_path / "videos" / "gaps", Recipe(".mkv", times=times)).parent


def warned(result: Result) -> list[str]:
    """Return the lines on stderr that speak of pictures or clocks, of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return [line for line in result.stderr.splitlines() if "gaps.mkv" in line or "clock" in line]


def require_gaps(lines: list[str], video: Path) -> None:
    [line] = lines
    assert line.startswith(f"warning: {video}: there are no pictures from 0.933 s to 71.000 s: ")
    assert "from 71.933 s to 152.000 s" in line


def test_extract(run_command: RunCommand, videos: Path, tmp_path: Path) -> None:
    model = ("--model", "r2t-demo", "--pretrained", "none", "--layers", 2, "--device", "cpu")
    result = run_command(
        extract, "--videos", videos, "--store", tmp_path / "feats.zarr", *model, "--fps", 0.1
    )
    require_gaps(warned(result), videos / "gaps.mkv")


def test_predict(run_command: RunCommand, videos: Path, tmp_path: Path) -> None:
    run = make_demo_run(tmp_path, FrozenClip.load("r2t-demo", layers=2, device="cpu").spec(0.1))
    video = videos / "gaps.mkv"
    result = run_command(
        predict,
        video,
        "a ball",
        "--checkpoint",
        run,
        "--device",
        "cpu",
        "--plot",
        tmp_path / "a.png",
    )
    require_gaps(warned(result), video)


def test_data_check(run_command: RunCommand, tmp_path: Path) -> None:
    video = write_video(tmp_path / "two", Recipe(".ts", times=SECONDS))
    video.write_bytes(video.read_bytes() * 2)
    (tmp_path / "mine.csv").write_text("video,query,start,end\ntwo,a ball,1,8\n")
    [line] = warned(run_command(check, "--videos", tmp_path))
    assert line.startswith(f"warning: {video}: its clock starts anew at 4.0")
