"""The stores that ablations read: a demo world's features, and tiers of a store."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ablation_study.grid import Tier, Variant
from r2t.cli.commands.demo import steps as demo_steps
from r2t.extract.demo.world import Level
from r2t.store.change.subset import subset_store
from r2t.store.feature_store import FeatureStore


def make_demo(out: Path, level: Level, num_train: int, num_test: int) -> Path:
    """Make a demo world and extract all six layers of its small CLIP."""
    folder, store = out / "videos", out / "feats.zarr"
    demo_steps.make_videos(folder, num_train, num_test, num_val=40, level=level)
    demo_steps.extract_features(folder, store, layers=6)
    return store


def read_groups(path: Path) -> dict[str, list[str]]:
    """Return the kind of each test query, whether it composes anew, and whether it has moments."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        moments = "one moment" if len(row["relevant_windows"]) == 1 else "several moments"
        found[row["qid"]] = [row["kind"], "novel" if row["novel"] else "known", moments]
    return found


def make_tier(store: FeatureStore, tier: Tier, target: Path) -> None:
    """Write the last layers of a store, as CLS tokens or all, in float16 or int8."""
    marker = target.with_suffix(".done")
    if marker.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    layers = tuple(range(store.spec.num_layers))[-tier.num_layers :]
    plain = target if tier.dtype == "float16" else target.with_suffix(".float16")
    subset_store(store.location, plain, layers=layers, cls_only=tier.cls_only)
    if tier.dtype == "int8":
        to_int8(FeatureStore.open(plain), target)
        shutil.rmtree(plain)
    marker.touch()


def to_int8(store: FeatureStore, target: Path) -> None:
    """Write the features of a float16 store as eight-bit codes, as extraction would have."""
    codes = FeatureStore.create(target, replace(store.spec, dtype="int8"), store.provenance)
    annotations = store.annotations()
    with codes.writer() as writer:
        for video_id in map(str, store.videos["video_id"]):
            video = store.read_video(video_id)
            with writer.video(
                video_id,
                num_frames=video.num_frames,
                duration_seconds=video.duration_seconds,
                frame_rate_fps=video.frame_rate_fps,
                source=video.source,
            ) as open_video:
                open_video.append(video.tokens)
        writer.add_queries(annotations, [store.read_query(row.query_id) for row in annotations])


def tiers_table(out: Path, variants: Sequence[Variant]) -> str:
    """Measure what a video of each tier takes, and how fast they are read, in turns."""
    tiers = list(dict.fromkeys(variant.tier for variant in variants))
    stores = {tier: FeatureStore.open(out / "stores" / f"{tier.name}.zarr") for tier in tiers}
    seconds: dict[Tier, list[float]] = {tier: [] for tier in tiers}
    for _ in range(5):
        for tier, store in stores.items():
            began = time.perf_counter()
            for video_id in store.videos["video_id"]:
                store.read_video(str(video_id))
            seconds[tier].append(time.perf_counter() - began)
    lines = ["| tier | kB a video | videos/s | spread |", "| --- | --- | --- | --- |"]
    for tier, store in stores.items():
        count = len(store.videos)
        sizes = [path.stat().st_size for path in Path(store.location).rglob("*") if path.is_file()]
        rates = sorted(count / each for each in seconds[tier])
        lines.append(
            f"| {tier.name} | {sum(sizes) / count / 1000:.0f} | {statistics.median(rates):.0f} | "
            f"{rates[0]:.0f} to {rates[-1]:.0f} |"
        )
    return "\n".join(lines)
