"""`r2t demo`: the whole way from videos to moments on an embedded example, offline."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from r2t.cli.ui import answers, cell, handle_errors, note, print_json, progress_bar, write_json
from r2t.store.errors import StoreError

if TYPE_CHECKING:
    from r2t.cli.demo_scores import Contender
    from r2t.extract.clip import FrozenClip
    from r2t.store.annotations import Split
    from r2t.store.feature_store import FeatureStore
    from r2t.train.config import TrainConfig
    from r2t.train.grounder import Grounder
    from r2t.train.metrics_bootstrap import Interval

FRAME_RATE_FPS = 1.0
NUM_VAL_VIDEOS = 20
METRIC_TITLES = {"MR-full-R1@0.5": "R1@0.5", "MR-full-R1@0.7": "R1@0.7", "MR-full-mAP": "mAP"}
EXAMPLES = (
    "Examples:\n\n"
    "  r2t demo\n\n"
    "  r2t demo --out /tmp/demo --videos 60 --test-videos 20 --epochs 4    # a quick look"
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "r2t-demo"
    ),
    videos: Annotated[int, typer.Option(min=2, help="Videos to train on.")] = 300,
    test_videos: Annotated[int, typer.Option(min=2, help="Unseen videos to test on.")] = 100,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training queries.")] = 14,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights and order of training.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Make videos, extract, train, evaluate on unseen videos and draw a picture, offline.

    What is there already from an earlier run is used again.
    """
    with handle_errors():
        began = time.monotonic()
        folder = out / "videos"
        with _stage("1/5 videos"):
            _make_videos(folder, videos, test_videos)
        with _stage("2/5 features"):
            clip, store = _extract(folder, out / "feats.zarr")
        run = out / "runs" / f"{videos}-videos-{epochs}-epochs-seed-{seed}"
        with _stage("3/5 training"):
            grounder = _train(store, run, epochs=epochs, seed=seed)
        with _stage("4/5 evaluation"):
            contenders = _compare(grounder, clip, store, seed)
        with _stage("5/5 picture"):
            picture = _draw(grounder, clip, store, folder, out)
        result = _result(contenders, store, run, picture, time.monotonic() - began)
        write_json(result, out / "scores.json")
        if json:
            print_json(result)
        else:
            for table in _tables(contenders, test_videos):
                answers().print(table)
            _farewell(store, run, folder, picture, result["seconds"])


@contextmanager
def _stage(name: str) -> Generator[None]:
    began = time.monotonic()
    note(f"{name} …", style="bold")
    yield
    note(f"{name}: {time.monotonic() - began:.0f} s")


def _make_videos(folder: Path, num_train: int, num_test: int) -> None:
    from r2t.extract.demo.world import make_world

    processes = min(4, os.cpu_count() or 1)
    wanted: dict[Split, int] = {"train": num_train, "val": NUM_VAL_VIDEOS, "test": num_test}
    with progress_bar("videos", sum(wanted.values())) as bar:
        before = 0
        for split, count in wanted.items():
            base = before
            make_world(
                folder,
                num_videos=count,
                seed=0,
                split=split,
                processes=processes,
                progress=lambda done, _, base=base: bar(base + done),
            )
            before += count


def _extract(folder: Path, location: Path) -> tuple[FrozenClip, FeatureStore]:
    from r2t.extract.clip import FrozenClip
    from r2t.extract.config import ExtractConfig, default_num_workers
    from r2t.extract.frames import find_videos
    from r2t.extract.pipeline import extract
    from r2t.store.datasets import read_annotations
    from r2t.store.feature_store import FeatureStore

    clip = FrozenClip.load("r2t-demo", layers=4)
    config = ExtractConfig(frame_rate=FRAME_RATE_FPS, num_workers=default_num_workers())
    spec = clip.spec(config.frame_rate, config.dtype)
    store = FeatureStore.create(location, spec, clip.provenance())
    videos = find_videos(folder)
    annotations = [
        row
        for split in ("train", "val", "test")
        for row in read_annotations(folder / f"{split}.jsonl")
    ]
    with progress_bar("features", len(videos)) as bar:
        report = extract(
            config, clip, store, videos, annotations, lambda state: bar(state.num_finished)
        )
    if report.interrupted:
        raise KeyboardInterrupt
    if not report.complete:
        failures = [*report.failed.items(), *report.quarantined.items()]
        raise StoreError(f"{location} is incomplete; {len(failures)} videos failed: {failures[:3]}")
    return clip, store


def _train(store: FeatureStore, run: Path, *, epochs: int, seed: int) -> Grounder:
    from r2t.cli.train import epoch_line
    from r2t.train.checkpoint import RunFolder
    from r2t.train.fit import fit, split_annotations
    from r2t.train.grounder import Grounder

    config = demo_config(store, epochs=epochs, seed=seed)
    with progress_bar("epochs", epochs) as bar:

        def on_epoch(record: Any) -> None:
            note(epoch_line(record, epochs, record.seconds))
            bar(record.epoch + 1)

        resume = RunFolder(run).has_state()
        fit(config, store, split_annotations(store), run, resume=resume, on_epoch=on_epoch)
    return Grounder.load(run)


def demo_config(store: FeatureStore, *, epochs: int, seed: int) -> TrainConfig:
    """Return QVHighlights' settings at the demo's size.

    The model is narrow and nothing is dropped out, since a few minutes on a CPU leave no time for a
    model to learn around it; two frames make a clip, so moments are rounded to whole seconds.
    """
    from dataclasses import replace

    from r2t.train.decode import DecodeConfig
    from r2t.train.model import R2Config
    from r2t.train.presets import preset
    from r2t.train.schedule import ScheduleConfig

    spec = store.spec
    return replace(
        preset("qvhighlights").train_config(num_layers=spec.num_layers, seed=seed),
        preset="demo",
        model=R2Config(
            num_layers=spec.num_layers,
            vision_width=spec.vision_width,
            text_width=spec.text_width,
            width=64,
            num_heads=4,
            dropout=0.0,
        ),
        decoding=DecodeConfig(unit_seconds=1.0, suppression="linear"),
        schedule=ScheduleConfig(
            learning_rate=1e-3, warmup_iterations=100, step_epochs=(max(1, round(0.75 * epochs)),)
        ),
        epochs=epochs,
        repeats=1,
        batch_size=32,
    )


def _compare(
    grounder: Grounder, clip: FrozenClip, store: FeatureStore, seed: int
) -> list[Contender]:
    from r2t.cli.demo_scores import compare, num_questions

    with progress_bar("questions", num_questions(store)) as bar:
        return compare(grounder, clip, store, seed=seed, on_queries=bar)


def _draw(
    grounder: Grounder, clip: FrozenClip, store: FeatureStore, folder: Path, out: Path
) -> Path:
    """Draw the first query of the first test video, as `r2t predict --plot` does."""
    from r2t.cli.plots import plot_grounding
    from r2t.cli.predict import frame_strip

    first = store.annotations("test")[0]
    video = folder / f"{first.video_id}.mp4"
    features = clip.encode_video(video, FRAME_RATE_FPS)
    grounding = grounder(features, clip.encode_query(first.query))
    picture = out / "example.png"
    truth = [(start, end) for start, end in first.moments.tolist()]
    plot_grounding(
        grounding,
        first.query,
        picture,
        strip=frame_strip(video, features.duration_seconds),
        truth=truth,
        top=3,
    )
    return picture


def _result(
    contenders: Sequence[Contender], store: FeatureStore, run: Path, picture: Path, seconds: float
) -> dict[str, Any]:
    return {
        "videos": len(store.videos),
        "run": str(run),
        "picture": str(picture),
        "seconds": round(seconds),
        "scores": {each.name: _intervals(each.scores) for each in contenders},
        "lead": {each.name: _intervals(each.lead) for each in contenders if each.lead},
    }


def _intervals(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {
        METRIC_TITLES[metric]: {
            "value": round(interval.value, 2),
            "interval": [round(interval.low, 2), round(interval.high, 2)],
        }
        for metric, interval in intervals.items()
    }


def _tables(contenders: Sequence[Contender], num_videos: int) -> list[Table]:
    scores = Table(title=f"{num_videos} unseen videos, percent", title_justify="left")
    lead = Table(title="lead of R²-Tuning, with 95 % interval", title_justify="left")
    for table in (scores, lead):
        table.add_column("")
        for title in METRIC_TITLES.values():
            table.add_column(title, justify="right")
    for each in contenders:
        values = [f"{interval.value:.1f}" for interval in each.scores.values()]
        scores.add_row(*map(cell, [each.name, *values]))
        if each.lead is not None:
            leads = [f"{d.value:+.1f} [{d.low:+.1f}, {d.high:+.1f}]" for d in each.lead.values()]
            lead.add_row(*map(cell, [each.name, *leads]))
    return [scores, lead]


def _farewell(store: FeatureStore, run: Path, folder: Path, picture: Path, seconds: float) -> None:
    first = store.annotations("test")[0]
    note(f"picture: {picture}")
    note(f"took {seconds / 60:.1f} minutes; ask a video yourself:")
    note(f'  r2t predict --checkpoint {run} {folder / first.video_id}.mp4 "{first.query}"')
