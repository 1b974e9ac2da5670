"""What does this format version take beside an earlier one: bytes, files, CPU to write and read?

The peer is r2t itself at an earlier commit, in a checkout of its own:

    git worktree add ../earlier COMMIT
    python benchmarks/store_versions.py ../earlier [--videos 8] [--queries 400] [--rounds 7]

Both, and this one with embeddings, take turns, each turn in a process of its own, after one round
that is not counted. A video has 75 frames, four layers and all 50 tokens of ViT-B/32 in float16.
Times are CPU seconds of one process, so that other work on the machine matters less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from other_checkout import output_of

from r2t.store import Annotation, FeatureSpec, FeatureStore, QueryFeatures

FRAMES, WORDS, WIDTH = 75, 12, 512
SPEC = FeatureSpec(
    model="random",
    weights_sha256="0" * 64,
    vision_layers=(9, 10, 11, 12),
    text_layers=(9, 10, 11, 12),
    frame_rate=0.5,
    num_tokens=50,
    vision_width=768,
    text_width=WIDTH,
    image_size=224,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
WAYS = ("earlier", "now", "now, with embeddings")
UNITS = {
    "kB of metadata a video": 1e-3,
    "files a video": 1,
    "files of parts": 1,
    "write, ms a video": 1e3,
    "write, us a query": 1e6,
    "open, ms": 1e3,
    "find, us a video": 1e6,
    "read, ms a video": 1e3,
    "read a query, us": 1e6,
}


def main() -> None:
    """Take turns, and print what each way takes beside the earlier one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), given.way, given.videos, given.queries)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as links:
        for number in range(given.rounds + 1):
            for way in WAYS:
                result = turn(Path(links), way, given)
                if number > 0:
                    found[way].append(result)
    print(f"{given.videos} videos, {given.queries} queries, {given.rounds} rounds; median (range)")
    print(
        f"{'':24}{'earlier':>10}" + "".join(f"{way:>10} {'ratio':>20}" for way in ("now", "with"))
    )
    for name, unit in UNITS.items():
        earlier = [each[name] for each in found["earlier"]]
        line = f"{name:24}{unit * statistics.median(earlier):10.3g}"
        for way in WAYS[1:]:
            values = [each[name] for each in found[way]]
            ratios = [value / before for value, before in zip(values, earlier, strict=True)]
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
            line += f"{unit * statistics.median(values):10.3g} "
            line += f"{statistics.median(ratios):7.2f} ({spread})".rjust(20)
        print(line)


def turn(links: Path, way: str, given: argparse.Namespace) -> dict[str, float]:
    """Measure one way in a process that imports r2t from its checkout."""
    checkout = given.checkout if way == "earlier" else Path(__file__).parents[1]
    command = [__file__, str(checkout), "--way", way]
    command += ["--videos", str(given.videos), "--queries", str(given.queries)]
    return json.loads(output_of(links, checkout, command))


def measure(folder: Path, way: str, num_videos: int, num_queries: int) -> dict[str, float]:
    """Write a store and read it; return what `UNITS` names, in bytes, files and CPU seconds."""
    with_embeddings = way == WAYS[-1]
    more: dict[str, Any] = {}
    if with_embeddings:
        from r2t.store import EmbeddingSpec

        more["embedding"] = EmbeddingSpec(width=WIDTH)
    store = FeatureStore.create(folder / "feats.zarr", SPEC, **more)
    videos = [made_video(seed, with_embeddings) for seed in range(num_videos)]
    queries = [made_query(number, num_videos, with_embeddings) for number in range(num_queries)]
    write_videos(store, videos[:1], "warm-up")
    found = {"write, ms a video": cpu(lambda: write_videos(store, videos)) / num_videos}
    found["write, us a query"] = cpu(lambda: write_queries(store, queries)) / num_queries
    path = folder / "feats.zarr"
    files = [file for file in (path / "videos").rglob("*") if file.is_file()]
    found["files a video"] = (len(files) - 1) / (num_videos + 1)
    metadata = [file.stat().st_size for file in files if file.name == "zarr.json"]
    found["kB of metadata a video"] = sum(metadata) / (num_videos + 1)
    of_parts = (file for name in ("parts", "index", "queries") for file in (path / name).rglob("*"))
    found["files of parts"] = sum(file.is_file() for file in of_parts)
    found["open, ms"] = cpu(lambda: [FeatureStore.open(path) for _ in range(5)]) / 5
    ids = list(store)[1:]
    seconds = cpu(lambda: [store.locate_video(each) for each in ids * 20])
    found["find, us a video"] = seconds / num_videos / 20
    found["read, ms a video"] = cpu(lambda: [store.read_video(each) for each in ids]) / num_videos
    asked = [annotation.query_id for annotation, _ in queries]
    found["read a query, us"] = (
        cpu(lambda: [store.read_query(each) for each in asked]) / num_queries
    )
    return found


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds that this process spends on something."""
    start = time.process_time()
    work()
    return time.process_time() - start


def made_video(seed: int, with_embeddings: bool) -> tuple[Any, ...]:
    """Return tokens, and embeddings where they are wanted."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, 2**14, (4, FRAMES, 50, 768), np.uint16).view(np.float16)
    return (tokens, unit_rows(generator, FRAMES)) if with_embeddings else (tokens,)


def made_query(
    number: int, num_videos: int, with_embeddings: bool
) -> tuple[Annotation, QueryFeatures]:
    """Return a sentence of random words."""
    generator = np.random.default_rng(number)
    tokens = generator.standard_normal((4, WORDS, WIDTH)).astype(np.float16)
    annotation = Annotation(
        query_id=f"q{number}",
        video_id=str(number % num_videos),
        query=f"sentence {number}",
        moments=np.array([[2.0, 6.0]]),
    )
    more = (unit_rows(generator, 1)[0],) if with_embeddings else ()
    return annotation, QueryFeatures(annotation.query_id, tokens, *more)


def unit_rows(generator: np.random.Generator, num_rows: int) -> Any:
    """Return float16 [rows, width] of unit length."""
    rows = generator.standard_normal((num_rows, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def write_videos(store: FeatureStore, videos: list[tuple[Any, ...]], prefix: str = "") -> None:
    """Write videos, each at one time."""
    with store.writer() as writer:
        for number, features in enumerate(videos):
            with writer.video(
                f"{prefix}{number}",
                num_frames=FRAMES,
                duration_seconds=2.0 * FRAMES,
                frame_rate_fps=0.5,
            ) as video:
                video.append(*features)


def write_queries(store: FeatureStore, queries: list[tuple[Annotation, QueryFeatures]]) -> None:
    """Write queries as one part."""
    with store.writer() as writer:
        writer.add_queries([each for each, _ in queries], [features for _, features in queries])


if __name__ == "__main__":
    main()
