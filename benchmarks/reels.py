"""Does a reel show more of what happens in a video than evenly spaced segments of its length do?

    python benchmarks/reels.py
    python benchmarks/reels.py --level crowded --videos 50

On the demo world, whose scenes say exactly what happens when. Asked of its videos, which are one
scene each, and of films in which parts of them follow one another, of two seconds to half a minute,
a quarter of them from a video shown before. Something is shown if 1.25 seconds of it are: reels
begin on the half seconds of frames and things on whole ones, so 1.5 would count in their favour and
1.3 against them. With a sentence: how much of its moments is in the reel. Intervals are of 95
percent, from resampling videos or films. The rule's settings were chosen on videos of the val
split, and on a few real ones; these are of the test split.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.random import Generator, default_rng

from r2t.cli.commands.demo.first import shipped_run
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.render import Painter
from r2t.extract.demo.world import Level, Story, make_story
from r2t.extract.reel.looks import likeness, typical_segments
from r2t.extract.reel.salience import salient_segments
from r2t.extract.reel.segments import Segment, evenly_spaced
from r2t.store.features import VideoFeatures
from r2t.train.grounding.grounder import Grounder
from r2t.train.metrics.bootstrap import bootstrap_intervals

RATE_FPS = 2
SHOWN_SECONDS = 1.25
VIDEO_LENGTHS, FILM_LENGTHS = (4.0, 6.0, 10.0), (10.0, 20.0, 30.0)
RANDOM_REELS = 5  # drawn for each length
SHORTEST_SECONDS, LONGEST_SECONDS = 2.0, 30.0  # of a part of a film
RETURNS = 0.25

Span = tuple[float, float]
Happenings = dict[str, list[list[Span]]]


@dataclass(frozen=True, eq=False)
class Shown:
    """Embeddings of a video or a film, and by kind what happens in it: each thing a few spans."""

    embedding: np.ndarray
    happenings: Happenings

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.embedding) / RATE_FPS


def happenings(story: Story) -> Happenings:
    """Return the stays of shapes, what they do, and what is said of the video."""
    visits = [visit for actor in story.scene.actors for visit in actor.visits]
    acts = [act for visit in visits for act in visit.acts]
    return {
        "stays of shapes": [[(visit.start_seconds, visit.end_seconds)] for visit in visits],
        "actions": [[(float(act.start_seconds), float(act.end_seconds))] for act in acts],
        "sentences": [[(a, b) for a, b in query.moments.tolist()] for query in story.queries],
    }


def encode(clip: FrozenClip, story: Story, rate_fps: int) -> VideoFeatures:
    """Paint a story and encode it, without a file between."""
    paint, seconds = Painter(story.scene), story.scene.duration_seconds
    frames = [paint((frame + 0.5) / rate_fps) for frame in range(seconds * rate_fps)]
    encoded = clip.encode_frames(np.stack(frames).transpose(0, 3, 1, 2).copy())
    return VideoFeatures(
        story.video_id,
        encoded.tokens,
        float(seconds),
        float(rate_fps),
        embedding=encoded.embedding,
        embedding_from="frames",
    )


def make_film(rng: Generator, videos: Sequence[Shown]) -> Shown:
    """Let parts of ten to twenty videos follow one another."""
    parts: list[np.ndarray] = []
    found: Happenings = {"scenes": [], "stays of shapes": [], "actions": []}
    scene_of: dict[int, list[Span]] = {}
    now = 0.0
    fresh = iter(rng.permutation(len(videos)).tolist())
    for _ in range(int(rng.integers(10, 20))):
        returns = scene_of and rng.random() < RETURNS
        source = int(rng.choice(list(scene_of))) if returns else next(fresh)
        shortest, longest = math.log(SHORTEST_SECONDS), math.log(LONGEST_SECONDS)
        seconds = round(math.exp(rng.uniform(shortest, longest)))
        begin = int(rng.integers(0, int(videos[source].seconds) - seconds + 1))
        parts.append(videos[source].embedding[begin * RATE_FPS : (begin + seconds) * RATE_FPS])
        scene_of.setdefault(source, []).append((now, now + seconds))
        for kind in ("stays of shapes", "actions"):
            for [(start, end)] in videos[source].happenings[kind]:
                start, end = max(start, begin), min(end, begin + seconds)
                if end - start >= SHORTEST_SECONDS:
                    found[kind].append([(start - begin + now, end - begin + now)])
        now += seconds
    found["scenes"] = list(scene_of.values())
    return Shown(np.concatenate(parts), found)


def shared_seconds(spans: Iterable[Span], segments: Sequence[Segment]) -> float:
    """Return how much of some spans a reel shows."""
    return sum(
        max(0.0, min(end, each.end_seconds) - max(start, each.start_seconds))
        for start, end in spans
        for each in segments
    )


def shares_shown(
    happenings: Happenings, segments: Sequence[Segment], duration_seconds: float
) -> dict[str, float]:
    """Return the share of each kind of thing that a reel shows."""
    shares: dict[str, float] = {}
    for kind, things in happenings.items():
        lengths = np.array([sum(end - start for start, end in spans) for spans in things])
        seconds = np.array([shared_seconds(spans, segments) for spans in things])
        shown = seconds >= SHOWN_SECONDS
        shares[kind] = 100 * float(shown.mean()) if len(things) else math.nan
        if kind == "scenes":
            shares["seconds whose scene is shown"] = 100 * lengths[shown].sum() / duration_seconds
    return shares


def random_reel(rng: Generator, duration_seconds: float, length_seconds: float) -> list[Segment]:
    """Draw as many segments as a reel has, anywhere."""
    num = len(evenly_spaced(duration_seconds, length_seconds))
    seconds = length_seconds / num
    gaps = np.sort(rng.uniform(0, duration_seconds - length_seconds, num))
    starts = gaps + seconds * np.arange(num)
    return [Segment(start, start + seconds, 1 / num) for start in starts.tolist()]


def compare(title: str, shown: Sequence[Shown], lengths: Sequence[float]) -> None:
    """Print what reels of a few lengths show, and their lead over those that look at nothing."""
    rng = default_rng(0)

    def mean_of(choose: Callable[[Shown, float], list[Segment]], each: Shown) -> dict[str, float]:
        rows = []
        for length in lengths:
            segments = choose(each, length)
            like = likeness(each.embedding, RATE_FPS, segments).mean()
            shares = shares_shown(each.happenings, segments, each.seconds)
            rows.append({**shares, "mean cosine with the reel": 100 * float(like)})
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def drawn(each: Shown) -> dict[str, float]:
        rows = [
            mean_of(lambda each, length: random_reel(rng, each.seconds, length), each)
            for _ in range(RANDOM_REELS)
        ]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    found = [
        mean_of(lambda each, n: typical_segments(each.embedding, RATE_FPS, each.seconds, n), each)
        for each in shown
    ]
    even = [mean_of(lambda each, n: evenly_spaced(each.seconds, n), each) for each in shown]
    chance = [drawn(each) for each in shown]
    print(f"\n{title}, reels of {', '.join(f'{length:g}' for length in lengths)} s")
    for name in found[0]:
        table = np.array(
            [[row[name] for row in rows] for rows in (found, even, chance)], dtype=np.float64
        )
        print_row(name, table)


def print_row(name: str, table: np.ndarray) -> None:
    """Print a figure of reels, evenly spaced and random ones, and the lead over the two."""
    values = {
        "reel": table[0],
        "over even": table[0] - table[1],
        "over random": table[0] - table[2],
    }
    names = [str(place) for place in range(table.shape[1])]
    found = bootstrap_intervals(values, names)
    leads = ", ".join(
        f"{key} {found[key].value:+.1f} [{found[key].low:.1f}, {found[key].high:.1f}]"
        for key in ("over even", "over random")
    )
    even, chance = (np.nanmean(row) for row in table[1:])
    print(
        f"  {name:30} {found['reel'].value:5.1f}  even {even:5.1f}  random {chance:5.1f}  {leads}"
    )


def compare_sentences(grounder: Grounder, clip: FrozenClip, stories: Sequence[Story]) -> None:
    """Print how much of what a sentence names is in the reel for it."""
    rate, rng = int(grounder.frame_rate()), default_rng(0)
    shares: dict[tuple[str, float], list[list[float]]] = {}
    for story in stories:
        features = encode(clip, story, rate)
        queries = [clip.encode_query(query.sentence) for query in story.queries]
        answers = {
            "trained run": grounder.ground(features, queries),
            "frozen CLIP": Grounder.zero_shot(clip).ground(features, queries),
        }
        duration = features.duration_seconds
        for length in VIDEO_LENGTHS:
            others = [evenly_spaced(duration, length), random_reel(rng, duration, length)]
            for name, found in answers.items():
                rows = []
                for query, answer in zip(story.queries, found, strict=True):
                    moments = [(start, end) for start, end in query.moments.tolist()]
                    total = sum(end - start for start, end in moments)
                    reel = salient_segments(answer.saliency, rate, duration, length)
                    rows.append(
                        [100 * shared_seconds(moments, each) / total for each in (reel, *others)]
                    )
                if rows:
                    shares.setdefault((name, length), []).append(np.mean(rows, axis=0).tolist())
    print("\nshare of a sentence's moments that is in the reel for it")
    for (name, length), rows in shares.items():
        print_row(f"{name}, {length:g} s", np.array(rows).T)


def main() -> None:
    """Compare reels on videos, on films, and for sentences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--level", choices=get_args(Level), default="plain")
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--seed", type=int, default=3, help="0 to 2 were looked at")
    options = parser.parse_args()
    grounder = Grounder.load(shipped_run())
    clip = FrozenClip.load("r2t-demo", layers=grounder.spec.num_layers)
    stories = [
        make_story("test", options.seed, index, options.level) for index in range(options.videos)
    ]
    videos = []
    for story in stories:
        embedding = encode(clip, story, RATE_FPS).embedding
        assert embedding is not None
        videos.append(Shown(embedding, happenings(story)))
    rng = default_rng(options.seed)
    films = [make_film(rng, videos) for _ in range(options.films)]
    print(f"{options.level}: {len(videos)} videos, {len(films)} films; shares in percent")
    compare("videos", videos, VIDEO_LENGTHS)
    compare("films", films, FILM_LENGTHS)
    compare_sentences(grounder, clip, stories)


if __name__ == "__main__":
    main()
