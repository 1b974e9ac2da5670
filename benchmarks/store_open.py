"""How long does opening a store take, and how much memory, beside one JSON file of the same rows?

Writes an index of 10,000 and of 1,000,000 simulated videos in parts of at most 100,000 rows, with
one real video among them, and the same rows as JSON. Each measurement is a process of its own that
has imported everything first; the two kinds take turns. All files are in the page cache.

    python benchmarks/store_open.py [--rows 10000 1000000] [--repeats 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from toy_store import random_spec, write_video

from r2t.store import FeatureStore, VideoSource
from r2t.store.format.part_writer import PartWriter
from r2t.store.format.video_rows import VideoRow, video_columns
from r2t.store.publish import LocalPublisher

PART_ROWS = 100_000
NAMED = "video_0000017"


def make(folder: Path, num_rows: int) -> None:
    """Write a store whose index has `num_rows` rows, and the rows as `index.json`."""
    spec = random_spec(layers=(11, 12), num_tokens=5, vision_width=16, text_width=16, image_size=32)
    store = FeatureStore.create(folder / "feats.zarr", spec)
    source = VideoSource(name=f"{NAMED}.mp4", num_bytes=1, sha256="0" * 64, decoder="simulated")
    with store.writer() as writer:
        write_video(writer, NAMED, np.zeros((2, 75, 5, 16), np.float16), source=source)
    rows = [simulated_row(number) for number in range(num_rows) if number != 17]
    parts = PartWriter(LocalPublisher(folder / "feats.zarr", folder), store.header)
    for start in range(0, len(rows), PART_ROWS):
        parts.commit("index", video_columns(rows[start : start + PART_ROWS]))
    (folder / "index.json").write_text(
        json.dumps([asdict(row) for row in (*rows, store.video_row(NAMED))])
    )


def simulated_row(number: int) -> VideoRow:
    """Return an index row as long as a real one."""
    return VideoRow(
        video_id=f"video_{number:07d}",
        num_frames=75,
        duration_seconds=150.0 + number % 7,
        frame_rate_fps=0.5,
        decoder="decord 0.6.0",
        source_name=f"video_{number:07d}.mp4",
        source_bytes=10_000_000 + number,
        source_sha256=f"{number:064x}",
        digest=f"sha256:{number:064x}",
    )


def measure(folder: Path, kind: str) -> dict[str, float]:
    """Open the store or the JSON file once, then look a video up."""
    before = memory_mb("VmRSS")
    start = time.perf_counter()
    if kind == "json":
        rows = json.loads((folder / "index.json").read_bytes())
        assert len(rows) > 1
        opened = time.perf_counter()
        return {"open": opened - start, "memory": memory_mb("VmHWM") - before}
    store = FeatureStore.open(folder / "feats.zarr")
    opened = time.perf_counter()
    memory = memory_mb("VmHWM") - before
    times: list[float] = []
    for _ in range(50):
        begin = time.perf_counter()
        assert store.has_video(NAMED)
        times.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    located = store.locate_video(NAMED)
    assert located.num_bytes > 0
    locate = time.perf_counter() - begin
    begin = time.perf_counter()
    assert len(store.videos) > 1
    return {
        "open": opened - start,
        "memory": memory,
        "look-up": statistics.median(times),
        "first locate": locate,
        "table": time.perf_counter() - begin,
    }


def memory_mb(field: str) -> float:
    """Return this process's resident memory (VmRSS) or its peak (VmHWM), as Linux counts them.

    `getrusage` would give the peak of the process that started this one where that was higher.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def warm_up() -> None:
    """Import and start all that the first use of zarr starts, on another store."""
    with tempfile.TemporaryDirectory() as other:
        make(Path(other), 20)
        measure(Path(other), "store")


def compare(folder: Path, num_rows: int, repeats: int) -> None:
    """Print both kinds beside each other."""
    place = folder / str(num_rows)
    place.mkdir(parents=True)
    make(place, num_rows)
    found: dict[str, list[dict[str, float]]] = {"store": [], "json": []}
    for _ in range(repeats):
        for kind, results in found.items():
            child = subprocess.run(
                [sys.executable, __file__, "--measure", kind, "--folder", str(place)],
                capture_output=True,
                check=True,
                text=True,
            )
            results.append(json.loads(child.stdout))
    json_bytes = (place / "index.json").stat().st_size
    print(f"{num_rows:,} rows ({json_bytes / 1e6:.1f} MB of JSON), {repeats} repeats")
    for kind, results in found.items():
        for name in results[0]:
            values = sorted(result[name] for result in results)
            scale, unit = (1, "MB") if name == "memory" else (1000, "ms")
            low, middle, high = (
                value * scale for value in (values[0], statistics.median(values), values[-1])
            )
            print(f"  {kind:5} {name:12} {middle:9.2f} {unit}  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", choices=["store", "json"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        warm_up()
        print(json.dumps(measure(given.folder, given.measure)))
    else:
        with tempfile.TemporaryDirectory(dir=given.folder) as work:
            for count in given.rows:
                compare(Path(work), count, given.repeats)
