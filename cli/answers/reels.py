"""A reel of a video's highlights: what is in it and why, in a table, as JSON, and as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

import r2t.extract.reel
import r2t.extract.video
from r2t.cli.answers.moment_files import cut_spans
from r2t.cli.shared import cell, span
from r2t.store.json_lines import as_utf8
from r2t.train import model

TYPICAL_LABEL = "typical and diverse frames by CLIP's embeddings, not trained for highlights"
EVEN_LABEL = (
    "evenly spaced: no segments that were tried are more like the video by CLIP's embeddings"
)
LIKENESS = "cosine with the most similar frame of the reel"
SALIENCY = "saliency"
_SLACK = 1e-6  # seconds that rounding can make


@dataclass(frozen=True, eq=False)
class Reel:
    """The segments of a reel, and what they were chosen by.

    `label` says how they were chosen. `curve` is a score of each frame, named `curve_name`;
    `of_reel` says how much of it the reel has, and `evenly_spaced` how much evenly spaced segments
    of the same length would have.
    """

    segments: list[r2t.extract.reel.Segment]
    label: str
    duration_seconds: float
    frame_rate_fps: float
    curve: np.ndarray
    curve_name: str
    of_reel: float
    evenly_spaced: float

    @property
    def measure(self) -> str:
        """What `of_reel` and `evenly_spaced` are."""
        of = "of all frames" if self.curve_name == LIKENESS else "of the frames shown"
        return f"mean {self.curve_name}, {of}"

    @property
    def figures(self) -> str:
        """How much the reel has of what it was chosen by, beside evenly spaced segments."""
        even = f"{self.evenly_spaced:.3f} for evenly spaced segments"
        return f"{self.measure}: {self.of_reel:.3f}; {even}"

    def reason(self, segment: r2t.extract.reel.Segment) -> str:
        """Say why a segment is in the reel."""
        if self.curve_name == LIKENESS:
            return f"stands for {segment.weight:.1%} of the video"
        return f"mean saliency {segment.weight:.3f}"


def typical_reel(
    looks: np.ndarray, rate_fps: float, duration_seconds: float, length_seconds: float
) -> Reel:
    """Choose what is typical and diverse in a video by CLIP's embeddings of its frames."""
    rate, duration = rate_fps, duration_seconds
    segments = r2t.extract.reel.typical_segments(looks, rate, duration, length_seconds)
    curve = r2t.extract.reel.likeness(looks, rate, segments)
    even = r2t.extract.reel.evenly_spaced(duration, length_seconds)
    return Reel(
        segments=segments,
        label=EVEN_LABEL if _hold(segments, even) else TYPICAL_LABEL,
        duration_seconds=duration,
        frame_rate_fps=rate,
        curve=curve,
        curve_name=LIKENESS,
        of_reel=float(curve.mean()),
        evenly_spaced=float(r2t.extract.reel.likeness(looks, rate, even).mean()),
    )


def _hold(segments: list[r2t.extract.reel.Segment], others: list[r2t.extract.reel.Segment]) -> bool:
    """Whether segments show all of some others, which may be joined in them."""
    return all(
        any(
            each.start_seconds <= other.start_seconds + _SLACK
            and other.end_seconds <= each.end_seconds + _SLACK
            for each in segments
        )
        for other in others
    )


def salient_reel(grounding: model.Grounding, query: str, length_seconds: float) -> Reel:
    """Choose what fits a sentence best, by the saliency of the answer to it."""
    rate, duration = grounding.frame_rate_fps, grounding.duration_seconds
    saliency, caveat = grounding.saliency, grounding.caveat
    segments = r2t.extract.reel.salient_segments(saliency, rate, duration, length_seconds)
    even = r2t.extract.reel.evenly_spaced(duration, length_seconds)
    return Reel(
        segments=segments,
        label=f"by saliency for {query!r}" + (f", {caveat}" if caveat else ""),
        duration_seconds=duration,
        frame_rate_fps=rate,
        curve=saliency,
        curve_name=SALIENCY,
        of_reel=_mean_shown(saliency, rate, segments),
        evenly_spaced=_mean_shown(saliency, rate, even),
    )


def _mean_shown(
    saliency: np.ndarray, frame_rate_fps: float, segments: list[r2t.extract.reel.Segment]
) -> float:
    means = [
        r2t.extract.reel.mean_saliency(
            saliency, frame_rate_fps, (segment.start_seconds, segment.end_seconds)
        )
        for segment in segments
    ]
    return float(np.average(means, weights=[segment.seconds for segment in segments]))


def reel_table(reel: Reel, video: Path) -> Table:
    """Lay out the segments of a reel."""
    seconds = sum(segment.seconds for segment in reel.segments)
    title = f"{seconds:.1f} of {reel.duration_seconds:.1f} s of {as_utf8(video.name)}"
    table = Table(title=Text(title, "bold"), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("segment", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("why")
    for place, segment in enumerate(reel.segments, start=1):
        table.add_row(
            str(place),
            cell(span(segment.start_seconds, segment.end_seconds)),
            f"{segment.seconds:.1f}",
            reel.reason(segment),
        )
    return table


def reel_json(reel: Reel) -> dict[str, Any]:
    """Return a reel as JSON values."""
    return {
        "label": reel.label,
        "duration_seconds": reel.duration_seconds,
        "frame_rate_fps": reel.frame_rate_fps,
        "length_seconds": sum(segment.seconds for segment in reel.segments),
        "segments": [
            {
                "start_seconds": segment.start_seconds,
                "end_seconds": segment.end_seconds,
                "weight": segment.weight,
                "reason": reel.reason(segment),
            }
            for segment in reel.segments
        ],
        "coverage": {
            "measure": reel.measure,
            "reel": reel.of_reel,
            "evenly_spaced": reel.evenly_spaced,
        },
    }


def cut_reel(pool: r2t.extract.video.DecodePool, video: Path, reel: Reel, out: Path) -> None:
    """Cut a reel out of a video; its file says what it is."""
    spans = [(segment.start_seconds, segment.end_seconds) for segment in reel.segments]
    name = as_utf8(video.name)
    cut_spans(pool, video, spans, out, {"title": f"Highlights of {name}", "comment": reel.label})
