"""`r2t highlights` with the embedded CLIP on a film of six scenes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from demo_run import make_demo_run, presence_rule
from PIL import Image
from typer.testing import Result

from r2t.cli.commands.highlights import highlights
from r2t.cli.shared.times import parse_length
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.render import RGB
from r2t.extract.demo.scene import Colour
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.presence import save_rule

RunCommand = Callable[..., Result]
# Seconds of each:
SCENES: dict[Colour, int] = {
    "red": 11,
    "green": 3,
    "blue": 2,
    "white": 8,
    "yellow": 3,
    "purple": 9,
}
DEMO_CLIP = ("--model", "r2t-demo", "--offline", "--device", "cpu")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 36 seconds at 4 frames a second: each scene is of one colour."""
    path = tmp_path_factory.mktemp("film") / "film [1].mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for colour, seconds in SCENES.items():
            picture = np.full((64, 64, 3), RGB[colour], np.uint8)
            for _ in range(4 * seconds):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def colours_of(path: Path) -> dict[Colour, float]:
    """Return the seconds that a clip shows of each scene."""
    seconds = dict.fromkeys(SCENES, 0.0)
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            mean = frame.to_ndarray(format="rgb24").mean(axis=(0, 1))
            seconds[min(SCENES, key=lambda name: float(np.abs(mean - RGB[name]).sum()))] += 0.25
    return seconds


def test_a_reel_shows_every_scene_and_says_what_it_is(
    run_command: RunCommand, film: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "reel.mp4", tmp_path / "reel.png"
    options = ("--length", "12s", *DEMO_CLIP, "--out", out, "--plot", picture)
    answer = run_command(highlights, film, *options, "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["length_seconds"] == pytest.approx(12)
    assert found["label"].endswith("not trained for highlights")
    assert found["presence"] is found["query"] is None
    assert found["coverage"]["reel"] > found["coverage"]["evenly_spaced"]
    assert sum(segment["weight"] for segment in found["segments"]) == pytest.approx(1)
    shown = colours_of(out)
    assert min(shown.values()) >= 1.5
    assert sum(shown.values()) == pytest.approx(12, abs=0.5)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == f"Highlights of {film.name}"
        assert container.metadata["comment"] == found["label"]
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in SCENES:  # a frame of each scene is in the picture
        assert (np.abs(pixels - RGB[colour]).sum(axis=1) < 40).sum() > 1000, colour


def test_a_sentence_is_shown_where_the_frozen_clip_finds_it(
    run_command: RunCommand, film: Path, tmp_path: Path
) -> None:
    out = tmp_path / "blue.mkv"
    question = (film, "a blue square", "--length", "5.6%", *DEMO_CLIP)
    answer = run_command(highlights, *question, "--out", out)
    assert answer.exit_code == 0, answer.stderr
    assert "by saliency for 'a blue square', frozen CLIP, not trained for moments" in answer.stdout
    assert "for evenly spaced segments" in answer.stdout
    assert colours_of(out)["blue"] >= 1.5
    found = json.loads(run_command(highlights, *question, "--json").stdout)
    assert found["coverage"]["reel"] > found["coverage"]["evenly_spaced"]
    assert found["segments"][0]["reason"].startswith("mean saliency ")


def test_a_trained_run_chooses_by_its_saliency_and_may_deny(
    run_command: RunCommand, film: Path, tmp_path: Path
) -> None:
    run = make_demo_run(tmp_path, FrozenClip.load("r2t-demo", layers=2, device="cpu").spec(2.0))
    save_rule(run, presence_rule(1e9, frame_rate=2.0), {})
    question = (film, "a dog", "--checkpoint", run, "--length", "0:06", "--device", "cpu")
    answer = run_command(highlights, *question, "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["label"] == "by saliency for 'a dog'"
    assert found["presence"]["probably_absent"] is True
    clip = FrozenClip.matching(Grounder.load(run))
    saliency = Grounder.load(run).ask(clip, film, "a dog").saliency
    best = np.convolve(saliency, np.full(4, 0.25), mode="valid").max()
    assert max(each["weight"] for each in found["segments"]) >= best - 1e-3
    assert "probably not in this video" in run_command(highlights, *question).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--length", "37s"), "no longer than the video"),
        (("--length", "1s"), "it must last 2 s or more"),
        (("--length", "2%"), "a reel of 0.72 s"),
        (("--length", "5s", "--out", "reel.gif"), "clips are written as .mp4"),
        (("--length", "5s", "--out", "nowhere/reel.mp4"), "nowhere does not exist"),
        (("--length", "5s", "--plot", "reel.doc"), "cannot draw '.doc'"),
        (("--length", "5s", "--checkpoint", "run"), "answers a sentence: give one"),
        (("--length", "5"), "such as 30s, 1m30s, 0:45 or 10%"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[str, ...], message: str, run_command: RunCommand, film: Path
) -> None:
    answer = run_command(highlights, film, *options, *DEMO_CLIP)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert message in " ".join(answer.stderr.split())


def test_a_reel_cannot_replace_its_video_and_a_broken_video_is_named(
    run_command: RunCommand, film: Path, tmp_path: Path
) -> None:
    answer = run_command(highlights, film, "--length", "5s", *DEMO_CLIP, "--out", film)
    assert (answer.exit_code, "is the video itself" in answer.stderr) == (2, True)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    answer = run_command(highlights, broken, "--length", "5s", *DEMO_CLIP)
    assert (answer.exit_code, "cannot be decoded" in answer.stderr) == (2, True)


def test_a_clip_without_embeddings_cannot_choose(
    run_command: RunCommand, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrozenClip, "embedding", None)
    answer = run_command(highlights, film, "--length", "5s", *DEMO_CLIP)
    assert answer.exit_code == 2
    assert "--model" in answer.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("0:45", 45), ("1:00:00.5", 3600.5), ("10%", 20), ("1H", 3600)],
)
def test_lengths_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_length(text).of(200.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "30", "0s", "0%", "-5s", "nan%", "s", "1s30m", "9" * 400 + "s"]
)
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 30s, 1m30s, 0:45 or 10%"):
        parse_length(text)
