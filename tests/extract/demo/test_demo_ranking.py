"""What ranks videos and tells presence, on a little of the demo world: beside chance and CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from r2t.cli.commands.demo.first import shipped_run
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.truth import world_relevance
from r2t.store import Annotation, FeatureStore
from r2t.train.grounding.corpus import ask_corpus
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.presence_scores import PresenceScores, auc
from r2t.train.grounding.zero_shot import ZeroShotGrounder
from r2t.train.metrics.corpus import (
    MOMENTS_PER_VIDEO,
    CorpusAnswers,
    score_chance,
    score_corpus,
)
from r2t.train.metrics.relevance import relevant_videos

World = tuple[FrozenClip, FeatureStore]
Who = dict[str, CorpusAnswers]


@pytest.fixture(scope="module")
def answered(world: World) -> Who:
    """Every test video asked every test sentence, by the run that ships and by the frozen CLIP."""
    _, store = world
    rows = store.annotations("test")
    videos, ids = sorted({row.video_id for row in rows}), [row.query_id for row in rows]
    frozen = ask_corpus(ZeroShotGrounder.of_store(store), store, ids, videos)
    run = Grounder.load(shipped_run())
    clip = FrozenClip.load("r2t-demo", layers=run.spec.num_layers)
    return {"frozen": frozen, "run": by_run(run, clip, rows, videos, Path(store.location))}


def by_run(
    run: Grounder, clip: FrozenClip, rows: Sequence[Annotation], videos: list[str], store: Path
) -> CorpusAnswers:
    ids = [row.query_id for row in rows]
    queries = clip.encode_queries([row.query for row in rows], ids)
    scores = np.zeros((len(rows), len(videos)))
    moments = np.zeros((len(rows), len(videos), MOMENTS_PER_VIDEO, 3))
    for column, video in enumerate(videos):
        with clip.open_video(store.parent / "v" / f"{video}.mp4", 1.0) as source:
            for row, found in enumerate(run.ground(source, list(queries))):
                scores[row, column] = found.video_score
                best = found.found(MOMENTS_PER_VIDEO)
                moments[row, column, : len(best)] = best
    return CorpusAnswers(ids, videos, scores, moments)


@pytest.fixture(scope="module")
def fitting() -> dict[str, list[str]]:
    return world_relevance(num_videos=10, seed=0, split="test")


def told_apart(answers: CorpusAnswers, fitting: dict[str, list[str]]) -> float:
    """Return how often a sentence scores higher in its own video than in one that lacks it."""
    own, absent = [], []
    for row, query_id in enumerate(answers.query_ids):
        for column, video in enumerate(answers.video_ids):
            if query_id.rpartition("-")[0] == video:
                own.append((answers.scores[row, column], column))
            elif video not in fitting[query_id]:
                absent.append((answers.scores[row, column], column))
    of_own, of_absent = np.array(own), np.array(absent)
    videos = of_own[:, 1].astype(np.int64), of_absent[:, 1].astype(np.int64)
    return auc(PresenceScores(of_own[:, 0], of_absent[:, 0], *videos)).value


@pytest.mark.parametrize("who", ["frozen", "run"])
def test_videos_are_ranked_far_better_than_by_chance(
    who: str, answered: Who, fitting: dict[str, list[str]], world: World
) -> None:
    rows = world[1].annotations("test")
    answers, relevance = answered[who], relevant_videos(rows, fitting)
    found = {k: v.mean() for k, v in score_corpus(answers, rows, relevance).items()}
    chance = {k: v.mean() for k, v in score_chance(answers, rows, relevance).items()}
    assert found["video-R@1"] > chance["video-R@1"] + 30
    assert found["VCMR-R@1@0.5"] > 5 * chance["VCMR-R@1@0.5"]


def test_moments_in_a_collection_are_found_better_by_the_run_than_by_the_frozen_clip(
    answered: Who, fitting: dict[str, list[str]], world: World
) -> None:
    rows = world[1].annotations("test")
    relevance = relevant_videos(rows, fitting)
    run, frozen = (score_corpus(answered[who], rows, relevance) for who in ("run", "frozen"))
    assert run["VCMR-R@5@0.5"].mean() > frozen["VCMR-R@5@0.5"].mean() + 10
    assert run["video-R@1"].mean() >= frozen["video-R@1"].mean() - 2  # the same cosines


def test_presence_is_told_and_by_the_run_no_worse_than_by_the_frozen_clip(
    answered: Who, fitting: dict[str, list[str]]
) -> None:
    frozen, run = (told_apart(answered[who], fitting) for who in ("frozen", "run"))
    assert frozen > 0.85
    assert run > frozen - 0.01
