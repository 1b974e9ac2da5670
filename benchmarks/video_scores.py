"""Which score orders videos for a sentence, and tells whether the sentence is in a video at all?

    python benchmarks/prior_study.py --second-clip second-clip --layers 2 --epochs 12 --seeds 1
    python benchmarks/video_scores.py --study prior-study --out video-scores

Asks the trainings of `prior_study.py`: every video of the validation and the test split, each
sentence of its split. What they say of each frame is kept in `--out`, one file a training, so the
same command again goes on where it was interrupted; the tables take seconds.

Which videos a sentence is true of follows from the world's stories. `own@10`: the video that a
sentence was written for is among the first ten. `any@1`: the first is one that it is true of. AUC:
a sentence scores higher in its own video than in one that lacks it. Misses and false alarms: by the
threshold that is best on the validation videos. Everything shown is of the test videos, with 95 %
intervals over videos.

Fits weigh several numbers of an answer as a logistic regression on the validation videos does. Of
videos with fewer frames the threshold is that of all frames: so it shows what another frame rate
does to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import r2t.train
from r2t.cli.shared import note
from r2t.extract.demo import Level, world_relevance
from r2t.store import FeatureStore
from r2t.train.data import frame_cosines, pad_priors, pad_second_axis, prior_features
from r2t.train.grounding.presence_scores import best_threshold
from r2t.train.metrics import Interval, bootstrap_intervals
from r2t.train.model.decode import frame_saliency
from r2t.train.model.ranking import BEST_FRAMES

Table = NDArray[Any]
SPLITS = ("val", "test")
BACKGROUND = "background"
THINNED = {2: "frozen: 3 best, every 2nd frame", 4: "frozen: 3 best, every 4th frame"}
SUMS = {
    "sum: frozen + learned": ("frozen: 3 best frames", "learned: 3 best frames"),
    "sum: frozen + moment": ("frozen: 3 best frames", "best moment"),
}
FITS = {
    "fit: frozen + background": ("frozen: 3 best frames", BACKGROUND),
    "fit: all numbers": (
        *("frozen: 3 best frames", "frozen: highest cosine", "frozen: mean cosine", BACKGROUND),
        *("learned: 3 best frames", "highest saliency", "best moment"),
    ),
}
RIDGE = 1e-3
WAYS = ("plain", "prior")
QUERIES_AT_ONCE = 50


@dataclass(frozen=True, eq=False)
class Asked:
    """A split's sentences and videos, which of them fit, and what each frame scores."""

    own: NDArray[np.bool_]
    fitting: NDArray[np.bool_]
    video_of_query: list[str]
    tables: Mapping[str, Table]


def frozen_curves(store: FeatureStore) -> dict[str, Table]:
    """Return CLIP's cosine of each frame with each sentence, and with the mean training frame."""
    train = sorted({row.video_id for row in store.annotations("train")})
    frames = np.concatenate([store.read_embedding(video) for video in train]).astype(np.float32)
    background = (frames / np.linalg.norm(frames, axis=1, keepdims=True)).mean(axis=0)
    kept: dict[str, Table] = {}
    for split in SPLITS:
        rows = store.annotations(split)
        sentences = [store.read_query_embedding(row.query_id) for row in rows]
        embedded = [store.read_embedding(video) for video in videos_of(store, split)]
        cosines = [[frame_cosines(frames, each) for frames in embedded] for each in sentences]
        kept[f"{split} clip"] = np.array(cosines, np.float32)
        lengths = [np.linalg.norm(each.astype(np.float32)) for each in sentences]
        kept[f"{split} background"] = np.stack(sentences) @ background / np.array(lengths)
    return kept


def model_curves(run: Path, store: FeatureStore) -> dict[str, Table]:
    """Return what a model says: saliency and learned cosine of each frame, and its best moment."""
    grounder = r2t.train.Grounder.load(run)
    model = grounder.model
    kept: dict[str, list[Table]] = {}
    with torch.inference_mode():
        for split in SPLITS:
            queries = [store.read_query(row.query_id) for row in store.annotations(split)]
            for video in videos_of(store, split):
                features = store.read_video(video)
                patches = model.prepare(torch.from_numpy(features.tokens))
                parts: dict[str, list[Table]] = {}
                for start in range(0, len(queries), QUERIES_AT_ONCE):
                    chosen = queries[start : start + QUERIES_AT_ONCE]
                    tokens = pad_second_axis([torch.from_numpy(each.tokens) for each in chosen])
                    words = torch.tensor([each.tokens.shape[1] for each in chosen])
                    priors = None
                    if grounder.has_prior:
                        embedding = features.embedding
                        assert embedding is not None
                        found = [prior_features(embedding, q.embedding) for q in chosen]  # pyright: ignore[reportArgumentType]
                        priors = pad_priors(found, features.num_frames)
                    said = model.read(model.refine(patches, tokens, words), priors)
                    lengths = [features.num_frames] * len(chosen)
                    frames = torch.nn.functional.normalize(said.layer_frames, dim=-1)
                    asked = torch.nn.functional.normalize(said.layer_queries, dim=-1)
                    learned = (frames * asked[:, :, None]).sum(-1).mean(0)
                    inside = said.points.position + said.points.stride <= features.num_frames
                    for name, table in {
                        "saliency": np.stack(
                            frame_saliency(said, lengths, grounder.config.decoding)
                        ),
                        "learned": learned.numpy(),
                        "moment": said.class_logits[:, inside].max(dim=-1).values.numpy(),
                    }.items():
                        parts.setdefault(name, []).append(table)
                for name, tables in parts.items():
                    kept.setdefault(f"{split} {name}", []).append(np.concatenate(tables))
    return {name: np.stack(tables, axis=1) for name, tables in kept.items()}


def videos_of(store: FeatureStore, split: str) -> list[str]:
    """Return the videos of a split, sorted."""
    return sorted({row.video_id for row in store.annotations(split)})


def kept(path: Path, make: Callable[[], dict[str, Table]]) -> dict[str, Table]:
    """Read a file of tables, made first where it is missing."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished.npz")
        np.savez(unfinished, **make())  # pyright: ignore[reportArgumentType] - no table has its name
        unfinished.rename(path)
        note(f"made {path}")
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def best_mean(curves: Table, count: int) -> Table:
    """Return the mean of the highest values of each curve."""
    return np.sort(curves, axis=-1)[..., -count:].mean(axis=-1)


def soft_maximum(curves: Table, temperature: float) -> Table:
    """Return the logarithm of the mean of exponentials, which weighs high values most."""
    top = curves.max(axis=-1)
    rest = np.exp((curves - top[..., None]) / temperature).mean(axis=-1)
    return top + temperature * np.log(rest)


def candidates(curves: Mapping[str, Table], split: str) -> dict[str, Table]:
    """Return the scores that are tried: one number for each sentence and video."""
    clip, learned = curves[f"{split} clip"], curves[f"{split} learned"]
    background = curves[f"{split} background"][:, None]
    return {
        "frozen: highest cosine": clip.max(axis=-1),
        "frozen: 3 best frames": best_mean(clip, BEST_FRAMES),
        "frozen: 5 best frames": best_mean(clip, 5),
        "frozen: soft maximum": soft_maximum(clip, 0.05),
        "frozen: 3 best, less background": best_mean(clip, BEST_FRAMES) - background,
        "learned: highest cosine": learned.max(axis=-1),
        "learned: 3 best frames": best_mean(learned, BEST_FRAMES),
        "learned: soft maximum": soft_maximum(learned, 0.1),
        "highest saliency": curves[f"{split} saliency"].max(axis=-1),
        "best moment": curves[f"{split} moment"],
        "frozen: mean cosine": clip.mean(axis=-1),
        BACKGROUND: np.broadcast_to(background, clip.shape[:2]),
        **{name: best_mean(clip[..., ::step], BEST_FRAMES) for step, name in THINNED.items()},
    }


def fit_weights(columns: Table, present: NDArray[np.bool_]) -> Table:
    """Return the weights of a logistic regression in which present and absent count alike."""
    counts = np.where(present, 0.5 / present.mean(), 0.5 / (1 - present.mean()))
    design = np.column_stack([columns, np.ones(len(columns))])
    weights, pull = np.zeros(design.shape[1]), RIDGE * len(design) * np.eye(design.shape[1])
    for _ in range(20):  # of Newton's method
        chance = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (counts * (chance - present)) + pull @ weights
        bend = (design.T * (counts * chance * (1 - chance))) @ design + pull
        weights -= np.linalg.solve(bend, slope)
    return weights[:-1]  # the last one, of what is the same for all, orders nothing


def with_combined(asked: Mapping[str, Asked]) -> dict[str, dict[str, Table]]:
    """Add sums and fits of scores, each standardised by the validation videos."""
    found, val = {split: dict(each.tables) for split, each in asked.items()}, asked["val"]
    sure = val.own | ~val.fitting
    for name, parts in {**SUMS, **FITS}.items():
        scale = {part: (val.tables[part].mean(), val.tables[part].std()) for part in parts}
        columns = {
            split: np.stack(
                [(tables[part] - mean) / std for part, (mean, std) in scale.items()], -1
            )
            for split, tables in found.items()
        }
        weights = np.ones(len(parts))
        if name in FITS:
            weights = fit_weights(columns["val"][sure], val.own[sure])
        for split, tables in found.items():
            tables[name] = columns[split] @ weights
    return found


def measure(table: Table, known: Table, test: Asked, val: Asked) -> dict[str, Interval]:
    """Return what a score is worth on the test videos, in percent but for AUC."""
    absent = np.sort(table[~test.fitting])
    own = table[test.own]
    threshold = best_threshold(known[val.own], known[~val.fitting])
    below = np.searchsorted(absent, own, "left") + np.searchsorted(absent, own, "right")
    fits = np.where(test.fitting, table, -np.inf).max(axis=1, keepdims=True)
    believed = [float((row[~right] >= threshold).mean()) if not right.all() else np.nan
                for row, right in zip(table, test.fitting, strict=True)]  # fmt: skip
    values = {
        "own@10": 100.0 * ((table > own[:, None]).sum(axis=1) < 10),
        "any@1": 100.0 * (((table >= fits) & ~test.fitting).sum(axis=1) < 1),
        "AUC": below / (2 * len(absent)),
        "misses": 100.0 * (own < threshold),
        "false alarms": 100.0 * np.array(believed),
    }
    return bootstrap_intervals(values, test.video_of_query)


def report(level: Level, store: FeatureStore, curves: Mapping[str, Table]) -> str:
    """Write the table of one world and training."""
    asked: dict[str, Asked] = {}
    for split in SPLITS:
        videos, rows = videos_of(store, split), store.annotations(split)
        right = world_relevance(num_videos=len(videos), seed=0, split=split, level=level)  # pyright: ignore[reportArgumentType]
        asked[split] = Asked(
            np.array([[row.video_id == video for video in videos] for row in rows]),
            np.array([[video in set(right[row.query_id]) for video in videos] for row in rows]),
            [row.video_id for row in rows],
            candidates(curves, split),
        )
    tables = with_combined(asked)
    lines: list[str] = []
    for name, table in tables["test"].items():
        chosen_on = "frozen: 3 best frames" if name in THINNED.values() else name
        found = measure(table, tables["val"][chosen_on], asked["test"], asked["val"])
        if not lines:
            lines += ["| score | " + " | ".join(found) + " |", "| --- |" + " --- |" * len(found)]
        lines.append(
            f"| {name} | " + " | ".join(_cell(key, each) for key, each in found.items()) + " |"
        )
    return "\n".join(lines)


def _cell(name: str, each: Interval) -> str:
    digits = 3 if name == "AUC" else 1
    return f"{each.value:.{digits}f} [{each.low:.{digits}f}, {each.high:.{digits}f}]"


def main() -> None:
    """Ask what was not asked before, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, default=Path("prior-study"))
    parser.add_argument("--levels", nargs="*", choices=get_args(Level), default=get_args(Level))
    parser.add_argument("--clips", nargs="*", default=["demo", "second"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("video-scores"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for level in options.levels:
        for name in (f"{level}-{clip}" for clip in options.clips):
            store = FeatureStore.open(options.study / f"{name}.zarr")
            frozen = kept(options.out / f"{name}-frozen.npz", lambda: frozen_curves(store))  # noqa: B023 - called at once
            for way in WAYS:
                run = options.study / "runs" / f"{name}-{way}-{options.seed}"
                said = kept(options.out / f"{run.name}.npz", lambda: model_curves(run, store))  # noqa: B023 - called at once
                print(f"\n**{level}, {name.removeprefix(f'{level}-')} CLIP, {way}**\n")
                print(report(level, store, {**frozen, **said}), flush=True)


if __name__ == "__main__":
    main()
