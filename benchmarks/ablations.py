"""Do the paper's claims hold on a store? Trains every variant with several seeds and compares.

    python benchmarks/ablations.py --seeds 5                      # makes the composed demo world
    python benchmarks/ablations.py --level crowded --only pooling baselines --out crowd
    python benchmarks/ablations.py --store feats.zarr --preset qvhighlights --seeds 5
    python benchmarks/ablations.py --only direction --seeds 2

The store needs train and test queries, and a val split or videos to hold out for choosing epochs.
Variants are those of `ablation_study.grid`; numbers of layers beyond the store's are left out. Each
run leaves its scores in `--out`, so the same command again goes on where it was interrupted. Runs
take turns in `--jobs` processes, one thread each, seed after seed.

Scores are on the test split, by the checkpoint that validation chose. Intervals speak of other
videos and other seeds; differences are paired by query and seed. Beside each score stands the same
model's with others' sentences: what the language is worth.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from ablation_study.grid import TABLES, VARIANTS, Variant
from ablation_study.scores import METRICS, Scores, by_group, markdown, plot, rows, write_csv
from ablation_study.stores import make_demo, make_tier, read_groups, tiers_table

from r2t.cli.commands.demo import steps as demo_steps
from r2t.cli.commands.demo.scores import OURS, SHUFFLED, score_model, score_untrained
from r2t.cli.shared.ui import note, progress_bar
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.world import Level
from r2t.store.feature_store import FeatureStore
from r2t.store.files import write_whole
from r2t.store.machine import allowed_cores
from r2t.train.grounding.grounder import Grounder
from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import find_preset
from r2t.train.run.run_folder import RunFolder
from r2t.train.training.execution import Execution
from r2t.train.training.fit import split_annotations, train_model

DEMO, DEMO_CLIP = "demo", "r2t-demo"


@dataclass(frozen=True)
class Job:
    """One training: a variant with a seed."""

    variant: Variant
    seed: int
    preset: str
    epochs: int | None
    out: Path

    @property
    def scores(self) -> Path:
        """Where its scores are kept."""
        return self.out / "scores" / f"{self.variant.key}-seed-{self.seed}.json"

    @property
    def store(self) -> Path:
        """The store that it reads."""
        return self.out / "stores" / f"{self.variant.tier.name}.zarr"

    def config(self, store: FeatureStore) -> TrainConfig:
        """Return the run's settings; the demo's with the paper's weights of the losses."""
        if self.preset == DEMO:
            config = demo_steps.demo_config(
                store, epochs=self.epochs or demo_steps.USUAL.epochs, seed=self.seed
            )
            weights = {"saliency_weight": 0.1, "video_weight": 0.1, "layer_weight": 0.1}
            # As in the paper: no prior, whatever the store has.
            config = replace(config, losses=replace(config.losses, **weights), prior="off")
        else:
            config = find_preset(self.preset).train_config(seed=self.seed)
            widths = {"vision_width": store.spec.vision_width, "text_width": store.spec.text_width}
            config = replace(config, model=replace(config.model, **widths))
            config = replace(config, epochs=self.epochs or config.epochs)
        return self.variant.configure(config)


def main() -> None:
    """Make what is missing, then compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, help="by default a demo world")
    parser.add_argument("--level", choices=get_args(Level), help="of that world; composed")
    parser.add_argument("--preset", default=DEMO)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--jobs", type=int, default=allowed_cores())
    parser.add_argument("--out", type=Path, default=Path("r2t-ablations"))
    parser.add_argument("--only", nargs="*", help="variants, or words in the titles of tables")
    parser.add_argument("--report", action="store_true", help="train nothing, show what there is")
    parser.add_argument("--videos", type=int, default=300, help="of the demo world, to train on")
    parser.add_argument("--test-videos", type=int, default=200)
    options = parser.parse_args()
    asked = {"preset": options.preset, "epochs": options.epochs}
    groups = None
    if options.store is not None:
        if options.level is not None:
            parser.error("--level is of the demo world, --store brings features of its own")
        require_same(asked, options.out / "settings.json")
        source = options.store
    else:
        level = options.level or "composed"
        sizes = {"videos": options.videos, "test_videos": options.test_videos}
        require_same({**asked, "level": level, **sizes}, options.out / "settings.json")
        source = make_demo(options.out, level, options.videos, options.test_videos)
        groups = read_groups(options.out / "videos" / "test.jsonl")
    store = FeatureStore.open(source)
    if store.spec.num_layers < VARIANTS["default"].tier.num_layers:
        raise SystemExit(f"{source} has {store.spec.num_layers} layers: the default reads 4")
    require_same({"features": store.content_digest()}, options.out / "features.json")
    variants = [
        each for each in chosen(options.only) if each.tier.num_layers <= store.spec.num_layers
    ]
    for tier in dict.fromkeys(variant.tier for variant in variants):
        make_tier(store, tier, options.out / "stores" / f"{tier.name}.zarr")
    jobs = [
        Job(variant, seed, options.preset, options.epochs, options.out)
        for seed in range(options.seeds)
        for variant in variants
    ]
    if not options.report:
        run_all([job for job in jobs if not job.scores.exists()], options.jobs)
    paths = {key: [job.scores for job in jobs if job.variant.key == key] for key in VARIANTS}
    # Up to the first that is missing, so that seeds of two variants pair.
    done = {key: list(takewhile(Path.exists, found)) for key, found in paths.items()}
    scores = {key: Scores.read(found) for key, found in done.items() if found}
    report(scores, groups, options.out)
    print(f"\n{spent([path for found in done.values() for path in found])}")
    print(f"\n**Tiers on the disk**\n\n{tiers_table(options.out, variants)}")
    if store.spec.model == DEMO_CLIP:
        print(f"\n**Without training**\n\n{untrained(FeatureStore.open(jobs[0].store))}")


def chosen(only: Sequence[str] | None) -> list[Variant]:
    """Return the default and the variants that are named, or all."""
    if not only:
        return list(VARIANTS.values())
    keys = {"default", *(word for word in only if word in VARIANTS)}
    for title, variants in TABLES.items():
        if any(word.lower() in title.lower() for word in only):
            keys |= set(variants.values())
    return [variant for key, variant in VARIANTS.items() if key in keys]


def require_same(settings: dict[str, Any], path: Path) -> None:
    """Refuse to mix scores that were made with other settings or features than a file tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    elif (found := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise SystemExit(f"{path.parent} was made with {found}, not {settings}: give another --out")


def run_all(jobs: list[Job], num_processes: int) -> None:
    """Train and score, several at a time."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with (
        progress_bar("runs", len(jobs)) as bar,
        ProcessPoolExecutor(num_processes, context, torch.set_num_threads, (1,)) as pool,
    ):
        futures = {pool.submit(run, job): job for job in jobs}
        for done, future in enumerate(as_completed(futures), start=1):
            job = futures[future]
            seconds, score = future.result()
            note(f"{job.variant.key}, seed {job.seed}: mAP {score:.1f}, {seconds:.0f} s")
            bar(done, len(jobs))


def run(job: Job) -> tuple[float, float]:
    """Train one, answer the test queries with it, and keep the scores."""
    began = time.monotonic()
    store = FeatureStore.open(job.store)
    folder = job.out / "runs" / f"{job.variant.key}-seed-{job.seed}"
    execution = Execution(resume=RunFolder(folder).has_state())
    train_model(job.config(store), store, split_annotations(store), folder, execution=execution)
    found = score(Grounder.load(folder), store)
    job.scores.parent.mkdir(exist_ok=True)
    seconds = time.monotonic() - began
    write_whole(job.scores, json.dumps({**found, "seconds": seconds}))
    return seconds, float(np.mean(found["metrics"]["MR-full-mAP"]))


def score(grounder: Grounder, store: FeatureStore) -> dict[str, Any]:
    """Ask every test query of its video, and another video's; return the scores per query."""
    scored = score_model(grounder, store, np.random.default_rng(0))
    own = scored[OURS]
    values = {
        name: {metric: each.metrics()[metric].tolist() for metric in METRICS}
        for name, each in scored.items()
    }
    return {
        "query_ids": list(own.query_ids),
        "video_ids": list(own.video_ids),
        "metrics": values[OURS],
        "others": values[SHUFFLED],
    }


def report(scores: dict[str, Scores], groups: dict[str, list[str]] | None, out: Path) -> None:
    """Print the tables; write them, a CSV file and a plot."""
    found = rows(scores)
    text = markdown(found)
    if groups is not None:
        text += f"\n\n**mAP by kind of query**\n\n{by_group(scores, groups)}"
    print(text)
    (out / "ablations.md").write_text(text + "\n", encoding="utf-8")
    write_csv(found, out / "ablations.csv")
    plot(found, out / "ablations.png")


def spent(paths: Sequence[Path]) -> str:
    """Tell how long the runs took."""
    seconds = [json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in paths]
    return (
        f"{len(paths)} runs of {statistics.median(seconds):.0f} s in the middle, "
        f"{sum(seconds) / 3600:.1f} hours of one thread in all"
    )


def untrained(store: FeatureStore) -> str:
    """Score what needs no training: CLIP's similarity, random moments, the whole video."""
    clip = FrozenClip.load(DEMO_CLIP, layers=store.spec.num_layers)
    lines = [f"| | {' | '.join(METRICS.values())} |", "| --- | --- | --- | --- |"]
    for name, scores in score_untrained(clip, store, np.random.default_rng(0)).items():
        means = " | ".join(f"{np.nanmean(scores.metrics()[metric]):.1f}" for metric in METRICS)
        lines.append(f"| {name} | {means} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
