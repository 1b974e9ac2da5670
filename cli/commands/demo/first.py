"""The first answer of `r2t demo`, within seconds: from a run that comes with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Group

import r2t.cli.answers
import r2t.extract
import r2t.extract.video
import r2t.train
from r2t.cli.answers import grounding_table
from r2t.cli.shared import note, span
from r2t.extract import demo
from r2t.store import datasets
from r2t.store.annotations import Annotation
from r2t.train import model

NUM_MOMENTS = 3
PICTURE = "first-answer.png"


@dataclass(frozen=True)
class FirstAnswer:
    """What the shipped run says about a video that no run was trained on."""

    video: Path
    question: Annotation
    grounding: model.Grounding
    picture: Path

    def table(self) -> Group:
        """Return the best moments, and what was annotated, for a terminal."""
        found = grounding_table(self.grounding, self.video.name, self.question.query, NUM_MOMENTS)
        truth = ", ".join(span(start, end) for start, end in self.question.moments.tolist())
        return Group(found, f"annotated: {truth}")

    def as_json(self) -> dict[str, Any]:
        """Return the same as JSON values; moments are start and end in seconds, and a score."""
        return {
            "video": str(self.video),
            "query": self.question.query,
            "moments": self.grounding.found(NUM_MOMENTS).tolist(),
            "annotated": self.question.moments.tolist(),
            "picture": str(self.picture),
        }


def shipped_run() -> Path:
    """Return the folder of the run that comes with the package."""
    return Path(str(files("r2t.extract.demo") / "run"))


def first_answer(out: Path) -> FirstAnswer:
    """Make one video of the test split, ask the shipped run a sentence, and draw the answer."""
    note("making a video that no run was trained on …")
    folder = out / "videos"
    question = datasets.read_annotations(
        demo.make_world(folder, num_videos=1, seed=0, split="test")
    )[0]
    note("loading torch and a small CLIP, which takes a few seconds the first time …")
    grounder = r2t.train.Grounder.load(shipped_run())
    clip = r2t.extract.FrozenClip.load("r2t-demo", layers=grounder.spec.num_layers)
    note(f'asking {question.video_id}.mp4: "{question.query}" …')
    return ask_and_draw(grounder, clip, folder, question, out / PICTURE)


def ask_and_draw(
    grounder: r2t.train.Grounder,
    clip: r2t.extract.FrozenClip,
    folder: Path,
    question: Annotation,
    picture: Path,
) -> FirstAnswer:
    """Ask a video of a folder, and draw the answer as `r2t predict --plot` does."""
    video = folder / f"{question.video_id}.mp4"
    grounding = grounder.ask(clip, video, question.query)
    with r2t.extract.video.DecodePool() as pool:
        strip = r2t.cli.answers.draw_frame_strip(pool, video, grounding.duration_seconds)
    truth = [(start, end) for start, end in question.moments.tolist()]
    r2t.cli.answers.plot_grounding(
        grounding, question.query, picture, strip=strip, truth=truth, top=NUM_MOMENTS
    )
    return FirstAnswer(video, question, grounding, picture)
