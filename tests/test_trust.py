"""Numbers that people see, held against chance on the demo's world: docs/trust.md lists them all.

Each test has a control, which it must tell from the real thing: sentences of other videos, shuffled
orders, intervals that take queries for independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator, default_rng
from reels import RATE_FPS, Shown, encode, happenings, make_film, shared_seconds, shares_shown

from r2t.cli.commands.demo.first import shipped_run
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.baselines import random_moments, sentences_of_others, whole_video
from r2t.extract.demo.world import make_story
from r2t.extract.reel.looks import likeness, typical_segments
from r2t.extract.reel.salience import salient_segments
from r2t.extract.reel.segments import Segment, evenly_spaced
from r2t.store import FeatureStore
from r2t.store.annotations import Annotation
from r2t.train.grounding.grounder import Grounder
from r2t.train.metrics.bootstrap import Interval, bootstrap_intervals
from r2t.train.metrics.evaluators import score_queries
from r2t.train.metrics.paired import compare_scores
from r2t.train.metrics.submission import SubmissionRow
from r2t.train.model.decode import Grounding, moment_iou

SECONDS = 36.0  # of every video of the world
WHO = ("the shipped run", "frozen CLIP")


@dataclass(frozen=True, eq=False)
class Asked:
    """Annotated queries, what both who answer say to them, and to sentences of other videos."""

    rows: list[Annotation]
    answers: dict[str, list[Grounding]]
    to_others: dict[str, list[Grounding]]

    def interval(self, values: Sequence[float] | np.ndarray) -> Interval:
        """Return the mean over the queries with its interval over videos."""
        ids = [row.video_id for row in self.rows]
        return bootstrap_intervals({"x": np.array(values, dtype=np.float64)}, ids)["x"]

    def mean_ap(self, moments: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mAP of each query."""
        return self.metric("MR-full-mAP", moments)

    def metric(self, name: str, moments: Sequence[np.ndarray]) -> np.ndarray:
        """Return a metric of each query."""
        given = [
            SubmissionRow(row.query_id, row.video_id, row.query, found)
            for row, found in zip(self.rows, moments, strict=True)
        ]
        found = score_queries(given, self.rows, evaluator="moments")
        order = {query_id: place for place, query_id in enumerate(found.query_ids)}
        values = found.metrics()[name]
        return values[[order[row.query_id] for row in self.rows]]


@pytest.fixture(scope="module")
def asked(world: tuple[FrozenClip, FeatureStore]) -> Asked:
    """Ask the twenty videos of the world that neither run nor CLIP was trained on."""
    _, store = world
    folder = Path(store.location).parent / "v"
    grounder = Grounder.load(shipped_run())
    clip = FrozenClip.load("r2t-demo", layers=grounder.spec.num_layers)
    clip.require_made(grounder.spec)
    rows = store.annotations()
    lenders = sentences_of_others([row.video_id for row in rows], default_rng(0))
    queries = [clip.encode_query(row.query) for row in rows]
    answerers = dict(zip(WHO, (grounder, Grounder.zero_shot(clip)), strict=True))
    own: dict[str, dict[int, Grounding]] = {name: {} for name in WHO}
    other: dict[str, dict[int, Grounding]] = {name: {} for name in WHO}
    for video_id in dict.fromkeys(row.video_id for row in rows):
        features = clip.encode_video(folder / f"{video_id}.mp4", 1.0)
        places = [place for place, row in enumerate(rows) if row.video_id == video_id]
        for name, answerer in answerers.items():
            asked = [*places, *lenders[places].tolist()]
            found = answerer.ground(features, [queries[place] for place in asked])
            own[name].update(zip(places, found[: len(places)], strict=True))
            other[name].update(zip(places, found[len(places) :], strict=True))
    answers, to_others = (
        {name: [found[place] for place in range(len(rows))] for name, found in each.items()}
        for each in (own, other)
    )
    return Asked(rows, answers, to_others)


@pytest.mark.parametrize("who", WHO)
def test_moments_beat_chance_the_whole_video_and_other_sentences(asked: Asked, who: str) -> None:
    rng = default_rng(0)
    found = asked.mean_ap([answer.moments for answer in asked.answers[who]])
    others = {
        "chance": [random_moments(rng, SECONDS) for _ in asked.rows],
        "the whole video": [whole_video(SECONDS) for _ in asked.rows],
        "other sentences": [answer.moments for answer in asked.to_others[who]],
    }
    for name, moments in others.items():
        assert asked.interval(found - asked.mean_ap(moments)).low > 10, name
    control = asked.mean_ap(others["other sentences"]) - asked.mean_ap(others["chance"])
    assert asked.interval(control).low < 10


def test_the_first_moment_of_the_shipped_run_is_right_far_more_often_than_by_chance(
    asked: Asked,
) -> None:
    def hits(moments: Sequence[np.ndarray]) -> float:
        return float(asked.metric("MR-full-R1@0.5", moments).mean())

    rng = default_rng(0)
    drawn = [hits([random_moments(rng, SECONDS) for _ in asked.rows]) for _ in range(20)]
    assert hits([answer.moments for answer in asked.answers[WHO[0]]]) > 4 * np.mean(drawn)
    assert hits([answer.moments for answer in asked.to_others[WHO[0]]]) < 4 * np.mean(drawn)


def best_of(rows: Sequence[Annotation], moments: Sequence[np.ndarray]) -> np.ndarray:
    """Return by how much the first moment overlaps what is annotated, beside the mean of ten."""
    leads: list[float] = []
    for row, found in zip(rows, moments, strict=True):
        truth = np.pad(row.moments, ((0, 0), (0, 1)))
        overlaps = np.array([moment_iou(each, truth).max() for each in found[:10]])
        leads.append(float(overlaps[0] - overlaps.mean()))
    return np.array(leads)


@pytest.mark.parametrize("who", WHO)
def test_the_score_of_moments_orders_them(asked: Asked, who: str) -> None:
    rng = default_rng(0)
    moments = [answer.moments for answer in asked.answers[who]]
    assert all((np.diff(each[:, 2]) <= 0).all() for each in moments)
    assert asked.interval(best_of(asked.rows, moments).tolist()).low > 0.1
    shuffled = [rng.permutation(each[:10]) for each in moments]
    control = asked.interval(best_of(asked.rows, shuffled).tolist())
    assert control.low < 0.05


def area_under_curve(row: Annotation, saliency: np.ndarray) -> float:
    """Return how often a frame of the annotated moments is more salient than another frame."""
    middles = (np.arange(len(saliency)) + 0.5) * SECONDS / len(saliency)
    inside = ((row.moments[:, :1] <= middles) & (middles < row.moments[:, 1:2])).any(axis=0)
    within, outside = saliency[inside][:, None], saliency[~inside]
    return float(((within > outside) + 0.5 * (within == outside)).mean())


@pytest.mark.parametrize("who", WHO)
def test_saliency_is_higher_where_the_sentence_holds(asked: Asked, who: str) -> None:
    def area(answers: Sequence[Grounding]) -> list[float]:
        pairs = zip(asked.rows, answers, strict=True)
        return [area_under_curve(row, answer.saliency) for row, answer in pairs]

    own, other = area(asked.answers[who]), area(asked.to_others[who])
    assert asked.interval(own).low > 0.65
    assert asked.interval((np.array(own) - other).tolist()).low > 0.1
    assert asked.interval(other).low < 0.6


@pytest.mark.parametrize("who", WHO)
def test_a_reel_for_a_sentence_has_more_of_it_than_evenly_spaced_segments(
    asked: Asked, who: str
) -> None:
    even = evenly_spaced(SECONDS, 6.0)

    def lead(answers: Sequence[Grounding]) -> list[float]:
        leads: list[float] = []
        for row, answer in zip(asked.rows, answers, strict=True):
            moments = [(start, end) for start, end in row.moments.tolist()]
            seconds = sum(end - start for start, end in moments)
            reel = salient_segments(answer.saliency, answer.frame_rate_fps, SECONDS, 6.0)
            gained = shared_seconds(moments, reel) - shared_seconds(moments, even)
            leads.append(gained / seconds)
        return leads

    assert asked.interval(lead(asked.answers[who])).low > 0.15
    assert asked.interval(lead(asked.to_others[who])).low < 0.1


@pytest.fixture(scope="module")
def films(world: tuple[FrozenClip, FeatureStore]) -> list[Shown]:
    """Films of parts of videos of the test split, which no setting of the rule was chosen on."""
    clip, _ = world
    videos = []
    for index in range(24):
        story = make_story("test", 4, index)
        embedding = encode(clip, story, RATE_FPS).embedding
        assert embedding is not None
        videos.append(Shown(embedding, happenings(story)))
    rng = default_rng(4)
    return [make_film(rng, videos) for _ in range(80)]


def reel_leads(
    films: Sequence[Shown], choose: Callable[[Shown, float], list[Segment]]
) -> dict[str, Interval]:
    """Return by how much more of each kind of thing reels show than evenly spaced segments."""
    rows: list[dict[str, float]] = []
    for film in films:
        for length in (20.0, 30.0):
            found: list[dict[str, float]] = []
            for segments in (choose(film, length), evenly_spaced(film.seconds, length)):
                shares = shares_shown(film.happenings, segments, film.seconds)
                like = float(likeness(film.embedding, RATE_FPS, segments).mean())
                found.append({**shares, "likeness": 100 * like})
            rows.append({name: found[0][name] - found[1][name] for name in found[0]})
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return bootstrap_intervals(values, [str(row // 2) for row in range(len(rows))])


def test_a_reel_without_a_sentence_shows_more_scenes_than_evenly_spaced_segments(
    films: list[Shown],
) -> None:
    leads = reel_leads(
        films,
        lambda film, length: typical_segments(film.embedding, RATE_FPS, film.seconds, length),
    )
    assert min(leads[name].low for name in ("scenes", "likeness")) > 0, leads
    rng = default_rng(0)
    control = reel_leads(
        films[:30],
        lambda film, length: typical_segments(
            rng.permutation(film.embedding), RATE_FPS, film.seconds, length
        ),
    )
    assert max(control[name].low for name in ("scenes", "likeness")) < 0, control


def coverage(rng: Generator, units: Callable[[int], list[str]], num_draws: int = 150) -> float:
    """Return how often an interval covers the true mean, of queries that share a video's luck."""
    covered = 0
    for _ in range(num_draws):
        luck = rng.normal(size=30).repeat(4)
        values = {"x": luck + 0.3 * rng.normal(size=120)}
        found = bootstrap_intervals(values, units(120), num_samples=300)["x"]
        covered += found.low <= 0 <= found.high
    return covered / num_draws


def test_an_interval_of_95_percent_covers_the_truth_about_as_often() -> None:
    assert coverage(default_rng(0), lambda num: [str(row // 4) for row in range(num)]) > 0.88
    assert coverage(default_rng(0), lambda num: [str(row) for row in range(num)]) < 0.8


def chance_of_significance(rng: Generator, skill: float, num_draws: int = 40) -> float:
    """Return how often two models differ significantly whose hits have these odds."""
    truth = np.array([[10.0, 20.0]])
    rows = [Annotation(f"{place}", f"{place // 3}", "a", truth) for place in range(60)]
    hit, miss = np.array([[10.0, 20.0, 1.0]]), np.array([[50.0, 60.0, 1.0]])
    significant = 0
    for _ in range(num_draws):
        ours, theirs = (
            score_queries(
                [
                    SubmissionRow(row.query_id, row.video_id, row.query, hit if right else miss)
                    for row, right in zip(rows, rng.random(len(rows)) < odds, strict=True)
                ],
                rows,
                evaluator="moments",
            )
            for odds in (0.4 + skill, 0.4)
        )
        found = compare_scores(ours, theirs, metrics=["MR-full-R1@0.5"], num_samples=300)
        significant += found["MR-full-R1@0.5"].p_value < 0.05
    return significant / num_draws


def test_equal_models_rarely_differ_significantly_and_a_better_one_does() -> None:
    assert chance_of_significance(default_rng(0), 0.0) < 0.15
    assert chance_of_significance(default_rng(0), 0.4) > 0.8
