"""What is wrong with predictions before they are scored: one check for `eval`, `compare`, servers.

Nothing is put right: the figures are those of the official evaluators on the same file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from r2t.store.annotations import Annotation
from r2t.store.video_names import same_video
from r2t.train.metrics.submission import SubmissionRow

_LONGEST_LIST = 5  # examples a message names
NOT_SORTED = "are not sorted by score (R1 judges the first listed, mAP the first ten)"

_TOO_FEW = "have fewer saliency scores than their video has clips; those missing count as 0"
_TOO_MANY = "have more saliency scores than their video has clips; those are cut off"


@dataclass(frozen=True)
class SubmissionCheck:
    """Plain sentences on predictions: what no evaluator takes, and what is scored but looks wrong.

    `unsorted` says that the latter is the order of moments for some queries.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    unsorted: bool


@dataclass
class _Faults:
    """Query ids by what is wrong with their predictions, and how far saliency is off."""

    ids: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    worst: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def check_submission(
    rows: Sequence[SubmissionRow],
    annotations: Sequence[Annotation],
    *,
    clip_seconds: float | None = None,
) -> SubmissionCheck:
    """Say what keeps predictions from being a fair answer to annotations.

    Saliency must have a score for each labelled clip; with `clip_seconds`, also for the clips of
    videos whose labels are withheld.
    """
    counts = Counter(row.query_id for row in rows)
    expected = {annotation.query_id: annotation for annotation in annotations}
    twice = [query_id for query_id, number in counts.items() if number > 1]
    wanting = [query_id for query_id in expected if query_id not in counts]
    unknown = [query_id for query_id in counts if query_id not in expected]
    empty = [row.query_id for row in rows if row.moments is not None and not len(row.moments)]
    errors = {
        f"{len(twice)} queries are predicted more than once": twice,
        f"{len(wanting)} queries have no prediction": wanting,
        f"{len(unknown)} predictions are for unknown queries": unknown,
        f"{len(empty)} predictions have no moments": empty,
    }
    faults = _Faults()
    for row in rows:
        annotation = expected.get(row.query_id)
        for fault in (*_moment_faults(row, annotation), *_name_faults(row, annotation)):
            faults.ids.setdefault(fault, []).append(row.query_id)
        _count_clips(row, annotation, clip_seconds, faults)
    warnings = {
        f"{len(ids)} of {len(rows)} predictions {what}{_how_far(what, faults)}": ids
        for what, ids in faults.ids.items()
    }
    return SubmissionCheck(
        errors=tuple(_with_examples(what, ids) for what, ids in errors.items() if ids),
        warnings=tuple(_with_examples(what, ids) for what, ids in warnings.items()),
        unsorted=NOT_SORTED in faults.ids,
    )


def sorted_by_score(rows: Sequence[SubmissionRow]) -> list[SubmissionRow]:
    """Return predictions with the moments of each query best first; ties keep their order."""
    return [
        row
        if row.moments is None
        else replace(row, moments=row.moments[np.argsort(-row.moments[:, 2], kind="stable")])
        for row in rows
    ]


def _name_faults(row: SubmissionRow, annotation: Annotation | None) -> Iterator[str]:
    if annotation is not None and not same_video(annotation.video_id, row.video_id):
        yield "name another video than the annotations"


def _moment_faults(row: SubmissionRow, annotation: Annotation | None) -> Iterator[str]:
    if row.moments is None or not len(row.moments):
        return
    start, end, score = row.moments.T
    duration = np.inf
    if annotation is not None and annotation.duration_seconds is not None:
        duration = annotation.duration_seconds
    if (start > end).any():
        yield "hold a moment that ends before it starts"
    if (start < 0).any() or (end > duration).any():
        yield "hold a moment outside their video"
    if (score[1:] > score[:-1]).any():
        yield NOT_SORTED


def _count_clips(
    row: SubmissionRow,
    annotation: Annotation | None,
    clip_seconds: float | None,
    faults: _Faults,
) -> None:
    if row.saliency is None or annotation is None:
        return
    if annotation.saliency is not None:
        num_clips = len(annotation.saliency.scores)
    elif clip_seconds is not None and annotation.duration_seconds is not None:
        num_clips = int(annotation.duration_seconds / clip_seconds)
    else:
        return
    given = len(row.saliency)
    if given == num_clips:
        return
    what = _TOO_FEW if given < num_clips else _TOO_MANY
    faults.ids.setdefault(what, []).append(row.query_id)
    worst = faults.worst.setdefault(what, (given, num_clips))
    if abs(given - num_clips) > abs(worst[0] - worst[1]):
        faults.worst[what] = given, num_clips


def _how_far(what: str, faults: _Faults) -> str:
    if what not in faults.worst:
        return ""
    given, num_clips = faults.worst[what]
    return f" (at worst {given} for {num_clips})"


def _with_examples(what: str, ids: Sequence[str]) -> str:
    more = ", …" if len(ids) > _LONGEST_LIST else ""
    return f"{what}: {', '.join(ids[:_LONGEST_LIST])}{more}"
