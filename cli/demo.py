"""`r2t demo`: the whole way from videos to moments on an embedded example, offline."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from r2t.cli.demo_report import as_json, tables
from r2t.cli.shared.apps import examples
from r2t.cli.shared.options import Json, Seed
from r2t.cli.ui import answers, handle_errors, note, print_json, progress_bar, write_json
from r2t.store.errors import StoreError
from r2t.store.machine import allowed_cores

if TYPE_CHECKING:
    from r2t.cli.demo_scores import Scores
    from r2t.extract.clip import FrozenClip
    from r2t.extract.demo.world import Level
    from r2t.store.annotations import Split
    from r2t.store.feature_store import FeatureStore
    from r2t.train.config import TrainConfig
    from r2t.train.grounder import Grounder

FRAME_RATE_FPS = 1.0
NUM_TRAIN_VIDEOS, NUM_VAL_VIDEOS, NUM_TEST_VIDEOS = 300, 20, 100
NUM_EPOCHS = 36
EXAMPLES = examples(
    "r2t demo",
    "r2t demo --out /tmp/demo --videos 60 --test-videos 20 --epochs 4    # a quick look",
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "r2t-demo"
    ),
    videos: Annotated[int, typer.Option(min=2, help="Videos to train on.")] = NUM_TRAIN_VIDEOS,
    test_videos: Annotated[int, typer.Option(min=2, help="Unseen videos to test on.")] = (
        NUM_TEST_VIDEOS
    ),
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the training queries.")
    ] = NUM_EPOCHS,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Make videos, extract, train, evaluate on unseen videos and draw a picture, offline.

    What is there already from an earlier run is used again.
    """
    with handle_errors():
        from r2t.cli.demo_scores import compare
        from r2t.extract.demo.world import read_kinds

        began = time.monotonic()
        folder = out / "videos"
        with _stage("1/5 videos"):
            make_videos(folder, videos, test_videos)
        with _stage("2/5 features"):
            clip, store = extract_features(folder, out / "feats.zarr")
        run = run_folder(out, videos, epochs, seed)
        with _stage("3/5 training"):
            grounder = train_model(store, run, epochs=epochs, seed=seed)
        with _stage("4/5 evaluation"):
            scores = _score(grounder, clip, store, seed)
        with _stage("5/5 picture"):
            picture = _draw(grounder, clip, store, folder, out)
        contenders = compare([scores], read_kinds(folder / "test.jsonl"))
        seconds = round(time.monotonic() - began)
        result = {
            "videos": len(store.videos),
            "run": str(run),
            "picture": str(picture),
            "seconds": seconds,
            **as_json(contenders),
        }
        write_json(result, out / "scores.json")
        if json:
            print_json(result)
        else:
            for table in tables(contenders, test_videos):
                answers().print(table)
            _farewell(store, run, folder, picture, seconds)


@contextmanager
def _stage(name: str) -> Generator[None]:
    began = time.monotonic()
    note(f"{name} …", style="bold")
    yield
    note(f"{name}: {time.monotonic() - began:.0f} s")


def run_folder(out: Path, num_train: int, epochs: int, seed: int) -> Path:
    """Return where a training is kept, so that the same one is not done twice."""
    return out / "runs" / f"{num_train}-videos-{epochs}-epochs-seed-{seed}"


def make_videos(
    folder: Path,
    num_train: int,
    num_test: int,
    *,
    num_val: int = NUM_VAL_VIDEOS,
    level: Level = "plain",
) -> None:
    from r2t.extract.demo.world import make_world

    processes = min(4, allowed_cores())
    wanted: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
    with progress_bar("videos", sum(wanted.values())) as bar:
        before = 0
        for split, count in wanted.items():
            base = before
            make_world(
                folder,
                num_videos=count,
                seed=0,
                split=split,
                level=level,
                processes=processes,
                progress=lambda done, _, base=base: bar(base + done),
            )
            before += count


def extract_features(
    folder: Path, location: Path, *, layers: int = 4
) -> tuple[FrozenClip, FeatureStore]:
    from r2t.extract.clip import FrozenClip
    from r2t.extract.config import ExtractConfig, default_num_workers
    from r2t.extract.frames import find_videos
    from r2t.extract.pipeline import extract
    from r2t.store.datasets import read_annotations
    from r2t.store.feature_store import FeatureStore

    clip = FrozenClip.load("r2t-demo", layers=layers)
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


def train_model(store: FeatureStore, run: Path, *, epochs: int, seed: int) -> Grounder:
    from r2t.cli.train_run import epoch_line
    from r2t.train.checkpoint import RunFolder
    from r2t.train.conduct import Conduct
    from r2t.train.fit import fit, split_annotations
    from r2t.train.grounder import Grounder

    config = demo_config(store, epochs=epochs, seed=seed)
    with progress_bar("epochs", epochs) as bar:

        def on_epoch(record: Any) -> None:
            note(epoch_line(record, epochs, record.seconds))
            bar(record.epoch + 1)

        resume = RunFolder(run).has_state()
        fit(
            config,
            store,
            split_annotations(store),
            run,
            conduct=Conduct(resume=resume, on_epoch=on_epoch),
        )
    return Grounder.load(run)


def demo_config(store: FeatureStore, *, epochs: int, seed: int) -> TrainConfig:
    """Return QVHighlights' settings at the demo's size.

    The model is narrow and nothing is dropped out, since a few minutes on a CPU leave no time for a
    model to learn around it; a frame is a second, so moments are rounded to whole ones. Saliency
    and calibration weigh a fifth of the paper's and boundaries twice as much, since in few epochs
    that took the validation score further. Batches share videos, which the queries of a batch then
    cost but once.
    """
    from dataclasses import replace

    from r2t.train.decode import DecodeConfig
    from r2t.train.model_config import R2Config
    from r2t.train.presets import preset
    from r2t.train.schedule import ScheduleConfig

    spec = store.spec
    config = preset("qvhighlights").train_config(num_layers=spec.num_layers, seed=seed)
    return replace(
        config,
        preset="demo",
        losses=replace(
            config.losses,
            boundary_weight=0.2,
            saliency_weight=0.02,
            video_weight=0.02,
            layer_weight=0.02,
        ),
        model=R2Config(
            num_layers=spec.num_layers,
            vision_width=spec.vision_width,
            text_width=spec.text_width,
            width=64,
            num_heads=4,
            dropout=0.0,
        ),
        decoding=DecodeConfig(unit_seconds=1.0, suppression="linear"),
        # Halved whenever half of what was left is over.
        schedule=ScheduleConfig(
            learning_rate=2e-3,
            warmup_iterations=100,
            step_epochs=tuple(sorted({epochs - epochs // 2**n for n in range(1, 5)})),
            decay=0.5,
        ),
        epochs=epochs,
        repeats=1,
        batch_size=32,
        sampling="video",
    )


def _score(grounder: Grounder, clip: FrozenClip, store: FeatureStore, seed: int) -> Scores:
    from r2t.cli.demo_scores import num_questions, score_answers

    with progress_bar("questions", num_questions(store)) as bar:
        return score_answers(grounder, clip, store, seed=seed, on_queries=bar)


def _draw(
    grounder: Grounder, clip: FrozenClip, store: FeatureStore, folder: Path, out: Path
) -> Path:
    """Draw the first query of the first test video, as `r2t predict --plot` does."""
    from r2t.cli.plots import plot_grounding
    from r2t.cli.predict import frame_strip
    from r2t.extract.decode_pool import DecodePool

    first = store.annotations("test")[0]
    video = folder / f"{first.video_id}.mp4"
    grounding = grounder.ask(clip, video, first.query)
    with DecodePool() as pool:
        strip = frame_strip(pool, video, grounding.duration_seconds)
    picture = out / "example.png"
    truth = [(start, end) for start, end in first.moments.tolist()]
    plot_grounding(
        grounding,
        first.query,
        picture,
        strip=strip,
        truth=truth,
        top=3,
    )
    return picture


def _farewell(store: FeatureStore, run: Path, folder: Path, picture: Path, seconds: float) -> None:
    first = store.annotations("test")[0]
    note(f"picture: {picture}")
    note(f"took {seconds / 60:.1f} minutes; ask a video yourself:")
    note(f'  r2t predict --checkpoint {run} {folder / first.video_id}.mp4 "{first.query}"')
