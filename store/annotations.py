"""Annotations: which moments of which video a sentence speaks of."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from r2t.store.errors import AnnotationError, AnnotationWarning

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_ROUNDING_SECONDS = 0.5  # files round their durations, and videos end within a frame of them
_ROUNDING_SHARE = 0.01
_NAME_LENGTH = 80  # characters of a sentence that messages show


@dataclass(frozen=True, eq=False)
class SaliencyLabels:
    """Human saliency scores of a video's clips.

    `scores` is float32 [clips, annotators] on the scale `lowest`…`highest`; clip i covers the
    seconds [i, i + 1) · `clip_seconds`.
    """

    scores: NDArray[np.float32]
    clip_seconds: float
    lowest: float
    highest: float

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.dtype != np.float32:
            raise AnnotationError(
                f"saliency scores are {self.scores.dtype}{list(self.scores.shape)}, "
                "expected float32 [clips, annotators]"
            )
        if not (math.isfinite(self.clip_seconds) and self.clip_seconds > 0):
            raise AnnotationError(f"clip_seconds = {self.clip_seconds}: must be > 0")
        if not self.lowest < self.highest:
            raise AnnotationError(f"saliency scale [{self.lowest}, {self.highest}] is empty")
        if self.scores.size and not (
            self.lowest <= self.scores.min() and self.scores.max() <= self.highest
        ):
            raise AnnotationError(
                f"saliency scores reach from {self.scores.min()} to {self.scores.max()}, outside "
                f"the scale [{self.lowest}, {self.highest}]"
            )

    def normalised(self) -> NDArray[np.float32]:
        """Mean over annotators, mapped to [0, 1]: float32 [clips]."""
        mean = self.scores.mean(axis=1, dtype=np.float64)
        return ((mean - self.lowest) / (self.highest - self.lowest)).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the labels as JSON values."""
        return {
            "scores": self.scores.tolist(),
            "clip_seconds": self.clip_seconds,
            "lowest": self.lowest,
            "highest": self.highest,
        }


def make_query_id(video_id: str, query: str) -> str:
    """Name a query that has no id: 12 hex digits of SHA-256 over video id, a zero byte and query.

    Both texts are UTF-8 without surrounding blanks, so the id survives moves between files.
    """
    return hashlib.sha256(f"{video_id}\0{query}".encode(errors="surrogatepass")).hexdigest()[:12]


def query_name(query_id: str, video_id: str, query: str) -> str:
    """Write what a person knows a query by; an id that `make_query_id` made is not shown."""
    name = f"{shorten(query, _NAME_LENGTH, placeholder=' …')!r} of {video_id!r}"
    return name if query_id == make_query_id(video_id, query) else f"query {query_id!r}, {name}"


@dataclass(frozen=True, eq=False)
class Annotation:
    """One query of one video, with its ground truth if that is known.

    `moments` is float64 [moments, 2], seconds, start ≤ end, as annotated: neither clamped to the
    video nor widened. No moments and no saliency means unlabelled (a test set) or highlight-only.
    """

    query_id: str
    video_id: str
    query: str
    moments: NDArray[np.float64]
    saliency: SaliencyLabels | None = None
    split: Split = "train"
    domain: str = ""
    duration_seconds: float | None = None

    def __post_init__(self) -> None:
        if not (self.query_id and self.video_id):
            raise AnnotationError(f"{self.name}: both ids must be non-empty strings")
        if self.moments.ndim != 2 or self.moments.shape[1] != 2:
            raise AnnotationError(
                f"{self.name}: moments have shape {self.moments.shape}, expected [n, 2]"
            )
        # Python's own numbers: most queries have one moment, and arrays cost more than they save.
        for start, end in self.moments.tolist():
            if not 0 <= start < math.inf or not 0 <= end < math.inf:
                raise AnnotationError(
                    f"{self.name}: moments must be finite and not negative: {self.moments}"
                )
            if start > end:
                raise AnnotationError(
                    f"{self.name}: a moment ends before it starts: {self.moments.tolist()}; "
                    "swap its ends"
                )
        if self.split not in SPLITS:
            raise AnnotationError(f"{self.name}: split {self.split!r}; must be train, val or test")

    def __repr__(self) -> str:
        moments: list[Any] = self.moments.tolist()
        return f"Annotation({self.query_id!r}, {self.video_id!r}, {self.query!r}, {moments})"

    @property
    def name(self) -> str:
        """What a person knows a query by: its sentence and video, and an id that somebody gave."""
        return query_name(self.query_id, self.video_id, self.query)

    @property
    def is_title(self) -> bool:
        """Whether the query is the title of a video scored as a whole: it alone may be empty."""
        return self.query_id == self.video_id and self.saliency is not None

    def states_duration(self, measured_seconds: float) -> bool:
        """Whether a duration is stated that a video of `measured_seconds` can have, if rounded."""
        if self.duration_seconds is None:
            return False
        rounding = max(_ROUNDING_SECONDS, _ROUNDING_SHARE * measured_seconds)
        return abs(self.duration_seconds - measured_seconds) <= rounding

    def end_of_answers(self, measured_seconds: float) -> float:
        """Return where the moments that answer the query must end, in seconds.

        Benchmarks hold answers to the duration that they state, though the file may last a few
        frames longer; where it is far off it is of another cut, and the video's own counts.
        """
        if self.duration_seconds is not None and self.states_duration(measured_seconds):
            return self.duration_seconds
        return measured_seconds

    def to_dict(self) -> dict[str, Any]:
        """Return the annotation as JSON values: a row of our own annotation files."""
        return {
            "query_id": self.query_id,
            "video_id": self.video_id,
            "query": self.query,
            "moments": self.moments.tolist(),
            "saliency": None if self.saliency is None else self.saliency.to_dict(),
            "split": self.split,
            "domain": self.domain,
            "duration_seconds": self.duration_seconds,
        }


def moments_frame(annotations: Iterable[Annotation]) -> pd.DataFrame:
    """Return a row for each annotated moment; a query without any has one of NaN start and end."""
    import pandas as pd

    names = ("query_id", "video_id", "query", "split", "domain")
    unknown = [(math.nan, math.nan)]
    rows = [
        (*(getattr(each, name) for name in names), start, end)
        for each in annotations
        for start, end in each.moments.tolist() or unknown
    ]
    return pd.DataFrame(rows, columns=[*names, "start_seconds", "end_seconds"])


def labelled(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return the queries that say anything to learn from or to score with; warn of the others."""
    kept = [row for row in annotations if len(row.moments) or row.saliency is not None]
    unlabelled = [row for row in annotations if not len(row.moments) and row.saliency is None]
    if unlabelled and kept:
        first = unlabelled[0]
        warnings.warn(
            f"{len(unlabelled)} of {len(annotations)} queries are left out: they have neither "
            f"moments nor saliency, such as {first.query!r} of {first.video_id}; give them moments "
            "with r2t store annotate --replace",
            AnnotationWarning,
            stacklevel=2,
        )
    return kept
