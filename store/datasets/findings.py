"""What can be found wrong with annotations, and how to put each kind right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError

FindingKind = Literal[
    "passed_over",
    "other_file",
    "encoding",
    "byte_order_mark",
    "unreadable",
    "empty_query",
    "reversed",
    "changed_on_reading",
    "duplicate_id",
    "duplicate_query",
    "repeated_moment",
    "overlap",
    "too_short",
    "no_length",
    "unlabelled",
    "two_splits",
    "missing_video",
    "damaged_video",
    "unusable_name",
    "camera_in_name",
    "unannotated_video",
    "wrong_duration",
    "out_of_range",
]

ADVICE: dict[FindingKind, str] = {
    "passed_over": "correct what the message says, or move the file if it holds no annotations",
    "other_file": "nothing to do, unless it holds annotations: then save them as CSV or JSON lines",
    "encoding": "save the file as UTF-8, such as: iconv -f WINDOWS-1252 -t UTF-8 FILE > FIXED",
    "byte_order_mark": "nothing to do: it is read; for other programs save it as UTF-8 without BOM",
    "unreadable": "correct the row as its message says",
    "empty_query": "write the sentence, or remove the row",
    "reversed": "swap start and end",
    "changed_on_reading": "nothing to do, if the change is what you want",
    "duplicate_id": "give each query its own query_id, or leave the column out of a CSV",
    "duplicate_query": "merge the rows that ask the same sentence of the same video",
    "repeated_moment": "keep only one of the two",
    "overlap": "join moments that overlap into one, or cut where one ends and the next begins",
    "too_short": "widen the moment, or extract at a higher --fps: it is to last a sampled frame",
    "no_length": "set an end after the start",
    "unlabelled": "add moments, or move it to the test split: nothing is learned from it",
    "two_splits": "put all queries of a video into one split: scores must be of unseen videos",
    "missing_video": "put the video into the folder, correct its name, or remove its rows",
    "damaged_video": "replace the file: it cannot be decoded, so its queries will be left out",
    "unusable_name": "rename the file: its name becomes the video's id",
    "camera_in_name": "nothing to do: TACoS' annotations leave out the camera in its videos' names",
    "unannotated_video": "nothing to do: its features are stored, for `predict` and `search`; it "
    "is left out only with --fps per-video, where the labels give the rate",
    "wrong_duration": "check that it is the same cut of the video; correct or remove the duration",
    "out_of_range": "check the unit (seconds, not frames or ms) and the cut, or end it there",
}
"""How to put each kind right."""

NOTES: frozenset[FindingKind] = frozenset(
    {
        "other_file",
        "byte_order_mark",
        "changed_on_reading",
        "two_splits",
        "too_short",
        "camera_in_name",
        "unannotated_video",
    }
)
"""Kinds that are worth knowing, where nothing need be wrong."""

_REASONS: Mapping[str, FindingKind] = {
    "ends before it starts": "reversed",
    "is empty; expected a sentence": "empty_query",
}


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind, the row or video, and what was seen there."""

    kind: FindingKind
    where: str
    message: str


@dataclass(frozen=True)
class Rows:
    """The rows of a file that can be read, each with its place, and what was found on the way."""

    located: list[tuple[str, Annotation]] = field(default_factory=list[tuple[str, Annotation]])
    findings: list[Finding] = field(default_factory=list[Finding])

    def complain(self, where: str, error: AnnotationError) -> None:
        """Add what a reader said of one row."""
        message = str(error)
        kinds: list[FindingKind] = [kind for text, kind in _REASONS.items() if text in message]
        self.findings.append(Finding(kinds[0] if kinds else "unreadable", where, message))
