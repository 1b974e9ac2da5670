"""What are answers without training worth? Frozen similarity's moments beside chance, by level.

    python benchmarks/zero_shot.py --out prior-study
    python benchmarks/zero_shot.py --out prior-study --second-clip second-clip

Asks the test videos of each level of the demo world, as each CLIP sees them, and prints the scores
beside random moments, the whole video, and the demo's baseline: the best of its rules on the
training videos. Zero-shot answers know no training video. Leads are paired by query, with 95 %
intervals over videos. The stores are those of `prior_study.py`, made where there are none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
from ablation_study.scores import METRICS
from prior_study import World
from prior_tables import MAP, Table, markdown

import r2t.store
from r2t.extract.demo import (
    Level,
    ScoredMoments,
    SimilarityRule,
    choose_similarity_rule,
    random_moments,
    whole_video,
)
from r2t.store.annotations import Annotation
from r2t.train.grounding import EmbeddedQueries
from r2t.train.metrics import SubmissionRow, bootstrap_intervals, score_queries
from r2t.train.model import Grounding

ZERO_SHOT, TUNED, CHANCE, WHOLE = (
    "without training",
    "the demo's baseline",
    "random moments",
    "the whole video",
)
Answer = Callable[[Annotation, Grounding], ScoredMoments]


@dataclass(frozen=True, eq=False)
class Asked:
    """A split's annotated queries and what frozen similarity answers to them."""

    store: r2t.store.FeatureStore
    split: str

    @cached_property
    def rows(self) -> list[Annotation]:
        """Return the annotated queries."""
        return self.store.annotations(self.split)

    @cached_property
    def groundings(self) -> Mapping[str, Grounding]:
        """Return the answers without training, by query id."""
        return EmbeddedQueries(self.store, self.rows).ground()

    def scores(self, answer: Answer) -> Mapping[str, Table]:
        """Return each metric of every query, in percent."""
        given = [
            SubmissionRow(
                query_id=row.query_id,
                video_id=row.video_id,
                query=row.query,
                moments=answer(row, self.groundings[row.query_id]),
            )
            for row in self.rows
        ]
        return score_queries(given, self.rows, evaluator="qvhighlights").metrics()


def by_rule(rule: SimilarityRule) -> Answer:
    """Return moments of the same cosines by another rule."""

    def answer(_: Annotation, found: Grounding) -> ScoredMoments:
        return rule(found.saliency, found.frame_rate_fps, found.duration_seconds)

    return answer


def compare(store: r2t.store.FeatureStore) -> list[list[str]]:
    """Return a row for each way to answer the test split: scores, and how far it is behind."""
    train, test = Asked(store, "train"), Asked(store, "test")
    rule = choose_similarity_rule(lambda rule: float(train.scores(by_rule(rule))[MAP].mean()))
    rng = np.random.default_rng(0)
    ways: dict[str, Answer] = {
        ZERO_SHOT: lambda _, found: found.moments,
        TUNED: by_rule(rule),
        CHANCE: lambda _, found: random_moments(rng, found.duration_seconds),
        WHOLE: lambda _, found: whole_video(found.duration_seconds),
    }
    scores = {name: test.scores(answer) for name, answer in ways.items()}
    ours, videos = scores[ZERO_SHOT], [row.video_id for row in test.rows]
    rows: list[list[str]] = []
    for name, values in scores.items():
        means = [f"{values[metric].mean():.1f}" for metric in METRICS]
        lead = "" if name == ZERO_SHOT else _lead(ours[MAP] - values[MAP], videos)
        rows.append([name, *means, lead])
    return rows


def _lead(difference: Table, videos: Sequence[str]) -> str:
    found = bootstrap_intervals({MAP: difference}, videos, num_samples=4000)[MAP]
    return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def main() -> None:
    """Print the table of all levels and CLIPs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--levels", nargs="+", choices=get_args(Level), default=get_args(Level))
    parser.add_argument("--second-clip", help="folder of another CLIP than the demo's")
    parser.add_argument("--videos", type=int, default=300, help="to choose the baseline's rule on")
    parser.add_argument("--test-videos", type=int, default=100)
    parser.add_argument("--layers", type=int, default=2, help="of a store that is made")
    parser.add_argument("--out", type=Path, default=Path("prior-study"))
    options = parser.parse_args()
    clips = {"demo": "r2t-demo"}
    if options.second_clip:
        clips["second"] = options.second_clip
    table = [["level, CLIP", "answers", *METRICS.values(), "mAP: lead without training"]]
    for level in options.levels:
        for clip, weights in clips.items():
            world = World(level, clip, weights, options.layers, options.out)
            store = world.open(options.videos, options.test_videos)
            table += [[f"{level}, {clip}", *row] for row in compare(store)]
    print(markdown(table))


if __name__ == "__main__":
    main()
