"""Is CLIP's own similarity worth handing to the model? Trains with and without it and compares.

    python benchmarks/prior_study.py --second-clip second-clip --seeds 3 --out prior-study
    python benchmarks/prior_study.py --levels plain --epochs 12 --out quick

On each level of the demo world, with the demo's CLIP and, where one is given, a second: the scores
of a model with the prior, of the same without it, and of frozen similarity, whose rule is chosen on
the training videos. `train_demo_clip.py --no-patch-contrast` makes a second CLIP.

Beside the scores on the test split stand those with others' sentences, those by kind of sentence,
and how well the answers tell which video a sentence was written for. Differences are paired by
query, in the mean of the seeds; their intervals are over videos, and the seeds' scores stand beside
each other. Each run leaves one file in `--out`, so the same command again goes on where it was
interrupted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import numpy as np
from ablation_study.scores import METRICS
from prior_tables import FROZEN, MAP, PLAIN, PRIOR, Table, Ways, markdown

import r2t.extract
import r2t.store
import r2t.train
from r2t.cli.commands.demo import steps
from r2t.cli.commands.demo.scores import OURS, SHUFFLED, SIMILARITY, score_model, score_untrained
from r2t.cli.shared import note
from r2t.extract.demo import Level, read_kinds
from r2t.extract.video import find_videos
from r2t.store.annotations import Annotation
from r2t.store.datasets import read_annotations
from r2t.store.files import write_whole
from r2t.store.wording import counted
from r2t.train.metrics import QueryScores
from r2t.train.run import RunFolder
from r2t.train.training import Execution, split_annotations, train_model

FILES = {FROZEN: "frozen", PLAIN: "plain", PRIOR: "prior"}
SENTENCES = 80  # that every test video is asked


@dataclass(frozen=True)
class World:
    """A level of the demo world, seen by one CLIP."""

    level: Level
    clip: str
    weights: str
    layers: int
    out: Path

    @property
    def name(self) -> str:
        """How files of it are called."""
        return f"{self.level}-{self.clip}"

    @property
    def videos(self) -> Path:
        """Where its videos are, which all CLIPs share."""
        return self.out / f"videos-{self.level}"

    def result(self, way: str, seed: int) -> Path:
        """Return where a run's scores are kept."""
        return self.out / "scores" / f"{self.name}-{FILES[way]}-{seed}.json"

    def results(self, way: str, num_seeds: int) -> list[dict[str, Any]]:
        """Read the scores of seeds up to the first that is missing, so that two ways pair."""
        paths = takewhile(Path.exists, (self.result(way, seed) for seed in range(num_seeds)))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def load_clip(self) -> r2t.extract.FrozenClip:
        """Load the CLIP that sees it."""
        return r2t.extract.FrozenClip.load(self.weights, layers=self.layers)

    def open(self, num_train: int, num_test: int) -> r2t.store.FeatureStore:
        """Open its store, made before where there is none."""
        location, done = self.out / f"{self.name}.zarr", self.out / f"{self.name}.done"
        if not done.exists():
            steps.make_videos(self.videos, num_train, num_test, num_val=40, level=self.level)
            self._extract(location)
            done.touch()
        return r2t.store.FeatureStore.open(location)

    def _extract(self, location: Path) -> None:
        clip = self.load_clip()
        config = r2t.extract.ExtractConfig(frame_rate=1.0, num_workers=1)
        store = r2t.store.FeatureStore.create(
            location,
            clip.spec(config.frame_rate, config.dtype),
            clip.provenance(),
            embedding=clip.embedding,
        )
        annotations = [
            row
            for split in ("train", "val", "test")
            for row in read_annotations(self.videos / f"{split}.jsonl")
        ]
        videos = find_videos(self.videos)
        found = r2t.extract.extract_videos(config, clip, store, videos, annotations, lambda _: None)
        if not found.complete:
            raise SystemExit(f"{location} is incomplete: {found.failed}")


def train_and_score(
    world: World, store: r2t.store.FeatureStore, way: str, seed: int, epochs: int
) -> dict[str, Any]:
    """Train one model, answer the test queries, and rank the test videos by its answers."""
    folder = world.out / "runs" / world.result(way, seed).stem
    config = steps.demo_config(store, epochs=epochs, seed=seed)
    config = replace(config, prior="on" if way == PRIOR else "off")
    began = time.process_time()
    execution = Execution(resume=RunFolder(folder).has_state())
    train_model(config, store, split_annotations(store), folder, execution=execution)
    seconds = time.process_time() - began
    grounder = r2t.train.Grounder.load(folder)
    scores = score_model(grounder, store, np.random.default_rng(0))
    saliency, moments = rankings(grounder, store)
    return {
        **values(scores[OURS]),
        "others": float(np.mean(scores[SHUFFLED].metrics()[MAP])),
        "cpu_seconds": seconds,
        "ranking": {"highest saliency": saliency, "best moment": moments},
    }


def values(scores: QueryScores) -> dict[str, Any]:
    """Return the scores of each query as JSON values."""
    return {
        "query_ids": list(scores.query_ids),
        "video_ids": list(scores.video_ids),
        "metrics": {name: scores.metrics()[name].tolist() for name in METRICS},
    }


def score_frozen(world: World, store: r2t.store.FeatureStore) -> dict[str, Any]:
    """Answer and rank by the frozen CLIP alone."""
    scores = score_untrained(world.load_clip(), store, np.random.default_rng(0))[SIMILARITY]
    asked, videos = _asked(store)
    sentences = [store.read_query(row.query_id).embedding for row in asked]
    table = np.array([_highest(store.read_embedding(video), sentences) for video in videos]).T
    found = ranked(table, asked, videos)
    return {**values(scores), "ranking": {"highest cosine": found}}


def _highest(frames: Any, sentences: Sequence[Any]) -> Table:
    cosines = np.stack(sentences).astype(np.float32) @ frames.astype(np.float32).T
    return cosines.max(axis=1).astype(np.float64)


def _asked(store: r2t.store.FeatureStore) -> tuple[list[Annotation], list[str]]:
    """Draw the sentences that every test video is asked."""
    test = store.annotations("test")
    chosen = np.random.default_rng(0).choice(len(test), min(SENTENCES, len(test)), replace=False)
    return [test[place] for place in sorted(chosen)], sorted({row.video_id for row in test})


def rankings(
    grounder: r2t.train.Grounder, store: r2t.store.FeatureStore
) -> tuple[dict[str, float], dict[str, float]]:
    """Rank the test videos for each sentence by highest saliency, and by the best moment."""
    asked, videos = _asked(store)
    queries = [store.read_query(row.query_id) for row in asked]
    saliency, moments = np.zeros((2, len(asked), len(videos)))
    for column, video in enumerate(videos):
        found = grounder.ground(store.read_video(video), queries)
        saliency[:, column] = [float(each.saliency.max()) for each in found]
        moments[:, column] = [each.moments[0, 2] for each in found]
    return ranked(saliency, asked, videos), ranked(moments, asked, videos)


def ranked(table: Table, asked: Sequence[Annotation], videos: Sequence[str]) -> dict[str, float]:
    """Say how high a sentence's own video ranks, and how often it scores above another one.

    Others may show the sentence too, so no score can reach 100 and 1.
    """
    own = np.array([[row.video_id == video for video in videos] for row in asked])
    score = table[own][:, None]
    rank = (table > score).sum(axis=1)
    others = np.sort(table[~own])
    below = np.searchsorted(others, score, "left") + np.searchsorted(others, score, "right")
    return {
        "recall@1": 100 * float((rank < 1).mean()),
        "recall@10": 100 * float((rank < 10).mean()),
        "AUC": float(below.mean() / (2 * len(others))),
    }


def report(worlds: Sequence[World], num_seeds: int) -> str:
    """Write the tables of all worlds, with the seeds that are there both with and without."""
    parts: list[str] = []
    for world in worlds:
        runs = {way: world.results(way, num_seeds) for way in FILES}
        pairs = min(len(runs[PLAIN]), len(runs[PRIOR]))
        if not (pairs and runs[FROZEN]):
            continue
        kinds = read_kinds(world.videos / "test.jsonl")
        ways = Ways({way: found[:pairs] for way, found in runs.items()}, kinds)  # frozen has one
        tables = (ways.scores(), ways.by_kind(), ways.ranking())
        parts.append(f"**{world.level}, {world.clip} CLIP, {counted(pairs, 'seed')}**")
        parts += map(markdown, tables)
    return "\n\n".join(parts)


def main() -> None:
    """Make what is missing, then compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--second-clip", type=Path, help="a folder in open_clip's format")
    parser.add_argument("--levels", nargs="*", choices=get_args(Level), default=get_args(Level))
    parser.add_argument("--layers", type=int, default=4, help="of CLIP, the last ones")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=steps.USUAL.epochs)
    parser.add_argument("--videos", type=int, default=300, help="to train on")
    parser.add_argument("--test-videos", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("prior-study"))
    parser.add_argument("--report", action="store_true", help="train nothing, show what there is")
    options = parser.parse_args()
    clips = {"demo": "r2t-demo"}
    if options.second_clip is not None:
        clips["second"] = str(options.second_clip)
    worlds = [
        World(level, clip, weights, options.layers, options.out)
        for level in options.levels
        for clip, weights in clips.items()
    ]
    (options.out / "scores").mkdir(parents=True, exist_ok=True)
    jobs = [(world, FROZEN, 0) for world in worlds]
    jobs += [
        (world, way, seed)
        for seed in range(options.seeds)
        for world in worlds
        for way in (PLAIN, PRIOR)
    ]
    for world, way, seed in jobs:
        path = world.result(way, seed)
        if path.exists() or options.report:
            continue
        store = world.open(options.videos, options.test_videos)
        if way == FROZEN:
            found = score_frozen(world, store)
        else:
            found = train_and_score(world, store, way, seed, options.epochs)
        write_whole(path, json.dumps(found))
        note(f"{path.stem}: mAP {np.mean(found['metrics'][MAP]):.1f}")
    text = report(worlds, options.seeds)
    print(text)
    (options.out / "prior.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
