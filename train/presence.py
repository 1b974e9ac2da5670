"""Is it in the video at all? A score that says so, and a threshold chosen on pairs that are known.

The class score of a moment cannot tell: training asks no video a sentence of another, so it only
learns where in a video, not whether. The saliency can: its cosine is trained to be higher for the
video's own query than for the others of a batch. So the highest saliency is the score of presence,
here and wherever videos are ranked. How well it tells is measured with every threshold: see `auc`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError
from r2t.store.feature_store import FeatureStore
from r2t.store.files import write_whole
from r2t.store.frame_source import stored_video
from r2t.train.checkpoint import WEIGHTS
from r2t.train.decode import Grounding
from r2t.train.grounder import Grounder
from r2t.train.windows import WindowPlan, ground_source

PRESENCE = "presence.json"


def presence_score(grounding: Grounding) -> float:
    """Return the highest saliency: comparable among videos, unlike the scores of moments."""
    return float(grounding.saliency.max())


@dataclass(frozen=True, kw_only=True)
class PresenceRule:
    """The threshold under which a sentence is probably not in a video, and how well it tells.

    `recall` is the share of present queries that reach the threshold, `rejected` that of absent
    ones that do not, `precision` that of present ones among those that reach it, were both equally
    many. `auc` is the chance that a present query scores above an absent one.
    """

    threshold: float
    precision: float
    recall: float
    rejected: float
    auc: float
    num_present: int
    num_absent: int

    @classmethod
    def choose(
        cls, present: Float64[np.ndarray, " present"], absent: Float64[np.ndarray, " absent"]
    ) -> PresenceRule:
        """Choose the threshold that gets the most of both right, each kind counting half."""
        if not (len(present) and len(absent)):
            raise ConfigError("a threshold needs queries that are present and some that are not")
        values = np.unique(np.concatenate([present, absent]))
        # Half-way between neighbours, so that no score lies on the threshold.
        thresholds = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
        recall = 1 - np.searchsorted(np.sort(present), thresholds) / len(present)
        passed = 1 - np.searchsorted(np.sort(absent), thresholds) / len(absent)
        best = int(np.argmax(recall - passed))
        below = np.searchsorted(np.sort(absent), present, side="left")
        equal = np.searchsorted(np.sort(absent), present, side="right") - below
        return cls(
            threshold=float(thresholds[best]),
            precision=float(recall[best] / (recall[best] + passed[best])),
            recall=float(recall[best]),
            rejected=float(1 - passed[best]),
            auc=float((below + equal / 2).mean() / len(absent)),
            num_present=len(present),
            num_absent=len(absent),
        )


def choose_rule(
    grounder: Grounder,
    store: FeatureStore,
    annotations: Sequence[Annotation],
    *,
    absent_per_query: int = 4,
    seed: int = 0,
    on_queries: Callable[[int], None] = lambda count: None,
) -> PresenceRule:
    """Ask videos their own queries and as many times those of others, and choose a threshold.

    A sentence that is annotated for a video is never taken as absent from it; one that fits without
    being annotated may be. `on_queries` hears how many questions each video answered.
    """
    plan = WindowPlan.of_run(grounder.trained_on)
    present: list[float] = []
    absent: list[float] = []
    for video_id, own, others in _questions(annotations, absent_per_query, seed):
        queries = [store.read_query(query_id) for query_id in (*own, *others)]
        source = stored_video(store, video_id)
        scores = [
            presence_score(found) for found in ground_source(grounder, source, queries, plan=plan)
        ]
        present += scores[: len(own)]
        absent += scores[len(own) :]
        on_queries(len(queries))
    return PresenceRule.choose(np.array(present), np.array(absent))


def _questions(
    annotations: Sequence[Annotation], absent_per_query: int, seed: int
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each video, its queries, and queries whose sentence is annotated for others alone."""
    draw = random.Random(seed)
    own: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        own.setdefault(annotation.video_id, []).append(annotation)
    for video_id, rows in own.items():
        spoken = {row.query for row in rows}
        strangers = [row for row in annotations if row.query not in spoken]
        count = min(len(strangers), absent_per_query * len(rows))
        chosen = draw.sample(strangers, count)
        yield video_id, [row.query_id for row in rows], [row.query_id for row in chosen]


def save_rule(run: Path, rule: PresenceRule, facts: Mapping[str, Any]) -> None:
    """Write a rule into a run's folder, bound to the weights it was chosen for."""
    content = {**dataclasses.asdict(rule), **facts, "weights_sha256": _weights_sha256(run)}
    write_whole(run / PRESENCE, json.dumps(content, indent=2) + "\n")


def load_rule(run: Path) -> PresenceRule | None:
    """Return a run's rule; None if there is none, or if the weights are not those it is for."""
    path = run / PRESENCE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        if content["weights_sha256"] != _weights_sha256(run):
            return None
        numbers = {field.name: content[field.name] for field in dataclasses.fields(PresenceRule)}
        if not all(isinstance(number, int | float) for number in numbers.values()):
            raise TypeError(f"{numbers} are not all numbers")
        return PresenceRule(**numbers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged: {error}; delete it, or run r2t calibrate again"
        ) from error


def _weights_sha256(run: Path) -> str:
    with (run / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
