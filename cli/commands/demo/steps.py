"""What the demo does between two answers: videos, features and training, at a size of choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import r2t.extract
import r2t.store
import r2t.train
import r2t.train.run
from r2t.cli.commands.train.progress import epoch_line
from r2t.cli.shared import note, progress_bar
from r2t.extract import demo, video
from r2t.store import datasets
from r2t.store.annotations import Split
from r2t.store.errors import StoreError
from r2t.store.machine import allowed_cores
from r2t.train import grounding, model, training

SAMPLING_RATE_FPS = 1.0
NUM_LAYERS = 2  # in this world as good as four, in half of their time


@dataclass(frozen=True)
class DemoSize:
    """How much the demo makes and trains."""

    videos: int
    test_videos: int
    epochs: int
    val_videos: int = 20
    seeds: int = 1


USUAL = DemoSize(videos=600, test_videos=100, epochs=18)
QUICK = DemoSize(videos=60, test_videos=20, epochs=12, val_videos=10)
FULL = replace(USUAL, seeds=3)


def run_folder(out: Path, size: DemoSize, seed: int) -> Path:
    """Return where a training is kept, so that the same one is not done twice."""
    return out / "runs" / f"{size.videos}-videos-{size.epochs}-epochs-seed-{seed}"


def make_videos(
    folder: Path,
    num_train: int,
    num_test: int,
    *,
    num_val: int = USUAL.val_videos,
    level: demo.Level = "plain",
) -> None:

    processes = min(4, allowed_cores())
    wanted: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
    total, before = sum(wanted.values()), 0
    with progress_bar("videos", total) as bar:
        for split, count in wanted.items():
            base = before
            demo.make_world(
                folder,
                num_videos=count,
                seed=0,
                split=split,
                level=level,
                processes=processes,
                on_video=lambda done, _, base=base: bar(base + done, total),
            )
            before += count
            if split != "train":  # nobody is asked which videos of a training fit
                relevant = demo.world_relevance(num_videos=count, seed=0, split=split, level=level)
                demo.write_relevance(folder / "relevant" / f"{split}.jsonl", relevant)


def extract_features(
    folder: Path, location: Path, *, layers: int = NUM_LAYERS
) -> tuple[r2t.extract.FrozenClip, r2t.store.FeatureStore]:
    clip = r2t.extract.FrozenClip.load("r2t-demo", layers=layers)
    config = r2t.extract.ExtractConfig(
        frame_rate=SAMPLING_RATE_FPS, num_workers=r2t.extract.default_num_workers()
    )
    spec = clip.spec(config.frame_rate, config.dtype)
    store = r2t.store.FeatureStore.create(
        location, spec, clip.provenance(), embedding=clip.embedding
    )
    videos = video.find_videos(folder)
    annotations = [
        row
        for split in ("train", "val", "test")
        for row in datasets.read_annotations(folder / f"{split}.jsonl")
    ]
    with progress_bar("features", len(videos)) as bar:
        report = r2t.extract.extract_videos(
            config,
            clip,
            store,
            videos,
            annotations,
            lambda state: bar(state.num_finished, len(videos)),
        )
    if report.interrupted:
        raise KeyboardInterrupt
    if not report.complete:
        failures = [*report.failed.items(), *report.quarantined.items()]
        raise StoreError(f"{location} is incomplete; {len(failures)} videos failed: {failures[:3]}")
    return clip, store


def train_demo_model(
    store: r2t.store.FeatureStore, run: Path, *, epochs: int, seed: int
) -> grounding.Grounder:
    config = demo_config(store, epochs=epochs, seed=seed)
    with progress_bar("epochs", epochs) as bar:

        def on_epoch(record: Any) -> None:
            note(epoch_line(record, epochs, record.seconds))
            bar(record.epoch + 1, epochs)

        resume = r2t.train.run.RunFolder(run).has_state()
        training.train_model(
            config,
            store,
            training.split_annotations(store),
            run,
            execution=training.Execution(resume=resume, on_epoch=on_epoch),
        )
    return grounding.Grounder.load(run)


def demo_config(store: r2t.store.FeatureStore, *, epochs: int, seed: int) -> r2t.train.TrainConfig:
    """Return QVHighlights' settings at the demo's size.

    The model is narrow and nothing is dropped out, since a few minutes on a CPU leave no time for a
    model to learn around it; a frame is a second, so moments are rounded to whole ones. Saliency
    and calibration weigh a fifth of the paper's and boundaries twice as much, since in few epochs
    that took the validation score further. Batches share videos, which the queries of a batch then
    cost but once. The model is given CLIP's own similarity where the store has embeddings.
    """
    spec = store.spec
    config = r2t.train.find_preset("qvhighlights").train_config(
        num_layers=spec.num_layers, seed=seed
    )
    return replace(
        config,
        preset="demo",
        prior="auto",
        losses=replace(
            config.losses,
            boundary_weight=0.2,
            saliency_weight=0.02,
            video_weight=0.02,
            layer_weight=0.02,
        ),
        model=model.R2Config(
            num_layers=spec.num_layers,
            vision_width=spec.vision_width,
            text_width=spec.text_width,
            width=64,
            num_heads=4,
            dropout=0.0,
        ),
        decoding=model.DecodeConfig(unit_seconds=1.0, suppression="linear"),
        # Halved whenever half of what was left is over.
        schedule=r2t.train.run.ScheduleConfig(
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
