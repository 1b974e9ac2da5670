"""Ids, sentences and file names that try to steer a terminal, and terminals that are not UTF-8."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from barcode_videos import Recipe, write_video
from rich.table import Table
from tiny_config import tiny_config
from typer.testing import CliRunner

from r2t.cli.answers.answer_table import sparkline
from r2t.cli.main import app
from r2t.cli.shared import ui
from r2t.cli.shared.text import encodable, json_text, on_one_line, visible
from r2t.extract.clip.clip import FrozenClip
from r2t.store import Annotation, FeatureStore, VideoSource
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn

EVIL = "\x1b]0;owned\x07[red]:smile:\u202etxt.\x9b31m\x7f\r\nno faults"
SHOWN = r"\x1b]0;owned\x07[red]:smile:\u202etxt.\x9b31m\x7f\r"
pytestmark = pytest.mark.filterwarnings("default")  # what is warned of is shown, too
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture(scope="module")
def place(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a run, a table and videos whose every text is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    clip = FrozenClip.load(str(clip_folder), layers=2, device="cpu")
    spec = clip.spec(0.5)
    store = FeatureStore.create(folder / "feats.zarr", spec, {**clip.provenance(), "note": EVIL})
    generator = np.random.default_rng(0)
    rows = [
        Annotation(
            f"{number}{EVIL}",
            f"{EVIL}{number}",
            f"a ball {EVIL}",
            np.array([[0.0, 6.0]]),
            split="val" if number > 1 else "train",
            domain=EVIL,
        )
        for number in range(4)
    ]
    source = VideoSource(name=EVIL, num_bytes=1, sha256="0", decoder=EVIL, licence=EVIL)
    with store.writer() as writer:
        for row in rows[:3]:
            with writer.video(
                row.video_id, num_frames=8, duration_seconds=16.0, frame_rate_fps=0.5, source=source
            ) as video:
                shape = (spec.num_layers, 8, spec.num_tokens, spec.vision_width)
                video.append(generator.standard_normal(shape).astype(np.float16))
        features = clip.encode_queries(["a ball"] * 4, [row.query_id for row in rows])
        writer.add_queries(rows, [replace(each, embedding=None) for each in features])
    sizes = R2Config(
        num_layers=spec.num_layers,
        vision_width=spec.vision_width,
        text_width=spec.text_width,
        width=16,
        num_heads=2,
    )
    run = RunFolder(folder / "run")
    run.claim(
        replace(tiny_config(store), model=sizes),
        TrainedOn(identity=spec, provenance=clip.provenance()),
        resume=False,
    )
    run.save_weights("best", R2Model(sizes))
    videos = folder / "videos"
    videos.mkdir()
    name = "\x1b]0;owned\x07[red]\u202e\x9b31m"
    write_video(videos / f"{name}.mp4", Recipe())
    (videos / f"broken{name}.mp4").write_bytes(b"no video")
    line = {"query_id": f"q{EVIL}", "video_id": f"nobody{EVIL}", "query": EVIL, "moments": [[9, 1]]}
    (videos / "rows.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def run(*words: object) -> str:
    answer = CliRunner().invoke(app, [str(word) for word in words], prog_name="r2t")
    assert answer.exit_code in (0, 1, 2), answer.exception
    assert answer.exception is None or isinstance(answer.exception, SystemExit)
    return answer.stdout + answer.stderr


@pytest.mark.parametrize(
    "command",
    [
        "store info STORE",
        "store info STORE --json",
        "store verify STORE",
        "store verify STORE --json",
        "store coverage STORE",
        "store coverage STORE --json",
        "store licence STORE",
        "store licence STORE --json",
        "store remove STORE nobody\x1b]0;owned\x07",
        "store merge STORE STORE.\x9b31m --into OTHER",
        "search ball --store STORE --checkpoint RUN --device cpu",
        "search ball --store STORE --checkpoint RUN --device cpu --json",
        "eval --store STORE --checkpoint RUN --device cpu",
        "eval --store STORE --checkpoint RUN --device cpu --domain \x1b]0;owned\x07",
        "calibrate --store STORE --checkpoint RUN --device cpu",
        "train --store STORE --device cpu --domain \u202e --out OUT",
        "data check --videos VIDEOS",
        "data check --videos VIDEOS --json",
        "extract --videos VIDEOS --model CLIP --layers 2 --store NEW",
        "extract --videos VIDEOS --model CLIP --layers 2 --store NEW --json",
        "predict --checkpoint RUN VIDEOS/\x1b[2J.mp4 ball",
        "doctor \x1b]0;owned\x07",
    ],
)
def test_no_text_of_a_file_reaches_the_terminal_as_an_escape_sequence(
    place: Path, clip_folder: Path, command: str
) -> None:
    words = {
        "STORE": place / "feats.zarr",
        "RUN": place / "run",
        "VIDEOS": place / "videos",
        "CLIP": clip_folder,
        "NEW": place / "new.zarr",
        "OTHER": place / "other.zarr",
        "OUT": place / "out",
    }
    said = run(*(words.get(word, word) for word in command.split(" ")))
    assert said.strip()
    assert not STEERS.search(said), repr(said)
    assert "\nno faults0" not in said, "a line of an id's own"


def test_hostile_ids_are_shown_whole(place: Path) -> None:
    assert f"{SHOWN}\\nno faults3 (1 query)\n" in run("store", "coverage", place / "feats.zarr")
    found = json.loads(run("store", "coverage", place / "feats.zarr", "--json"))
    assert found["annotated_without_features"] == {f"{EVIL}3": 1}


def test_texts_made_visible() -> None:
    assert visible(EVIL) == f"{SHOWN}\nno faults"
    assert visible(visible(EVIL)) == visible(EVIL)
    assert on_one_line("a\nb\tc") == "a\\nb\tc"
    assert visible("caf\udce9 ünïcode 動画 👍") == "caf\\xe9 ünïcode 動画 👍"
    assert visible("\u2028\u2066\ud800") == r"\u2028\u2066\ud800"
    assert json.loads(json_text({"é": EVIL + "\udce9"})) == {"é": EVIL + "\udce9"}
    assert not STEERS.search(json_text([EVIL, "\udce9"]))
    assert json_text(["é"]) == '[\n  "é"\n]'
    assert json_text(["é"], ascii_only=True) == '[\n  "\\u00e9"\n]'


class Pipe:
    """Standard output in another encoding, strict as Python's own."""

    def __init__(self, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bytes = io.BytesIO()
        self.encoding = encoding
        stream = io.TextIOWrapper(self._bytes, encoding=encoding, write_through=True)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)

    def text(self) -> str:
        return self._bytes.getvalue().decode(self.encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_shows_curves_tables_names_and_json(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe(encoding, monkeypatch)
    table = Table("a →", "b …")
    table.add_row(ui.cell("caf\udce9"), ui.cell("R²"))
    ui.answers().print(table)
    ui.say(sparkline(np.arange(8.0), 8))
    ui.note("failed: caf\udce9.mp4 動")
    ui.print_json({"name": "é動"})
    text = pipe.text()
    assert ("▁▂▃▄▅▆▇█" if encoding == "utf-8" else "_.:-=+*#") in text
    assert r"caf\xe9" in text
    assert (r"\u52d5" in text) == (encoding != "utf-8")
    assert json.loads(text[text.index("{") :]) == {"name": "é動"}


def test_stand_ins_are_for_what_an_encoding_lacks_alone() -> None:
    assert encodable("R² → …", "latin-1") == "R² -> ..."
    assert encodable("R² → …", "ascii") == "R2 -> ..."
    assert encodable("R² → …", "utf-8") == "R² → …"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_the_program_runs_in_any_encoding(place: Path, encoding: str) -> None:
    for words in (["store", "info", str(place / "feats.zarr")], ["train", "-h"], ["-h"]):
        done = subprocess.run(
            [sys.executable, "-m", "r2t.cli", *words],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_warnings_and_logs_of_libraries_are_made_visible_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("somebody"), "propagate", False)  # past pytest's own
    with ui.handle_errors():
        warnings.warn(EVIL, UserWarning, stacklevel=1)
        logging.getLogger("somebody").warning("of %s", EVIL)
    said = capsys.readouterr().err
    assert said.splitlines() == [
        f"warning: {SHOWN}\\nno faults",
        f"warning: of {SHOWN}\\nno faults",
    ]


def test_a_progress_bar_takes_brackets_as_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    pipe = Pipe("utf-8", monkeypatch)
    with ui.progress_bar("[red]vid\x1b]0;owned\x07eos", 2) as show_done:
        show_done(1, 2, "[/nothing]\x1b[2J")
    text = pipe.text()
    assert "[red]vid" in text
    assert "\x1b]0;" not in text
    assert "\x1b[2J" not in text
