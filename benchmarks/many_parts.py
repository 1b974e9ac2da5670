"""How long does opening a store with very many parts take, and by how many requests?

Simulates the parts of many runs, each with its videos and a sentence for each of them, and opens
the store from the disk, and by http and as an S3 bucket from a server on this machine that answers
every request after a pause. Then `r2t store repair --compact` joins the parts, and it is opened
again. A first look at the sentences, which are read on demand, is timed apart. Every opening is a
process of its own that has imported everything.

    python benchmarks/many_parts.py [--videos 1000000] [--runs 1000] [--latency 0.02] [--repeats 3]
        [--earlier ../checkout-of-an-earlier-commit]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from other_checkout import output_of
from slow_server import BUCKET, Address, slow_server
from store_open import memory_mb, simulated_row
from toy_store import make_store, random_spec

from r2t.store import Annotation, FeatureStore, QueryFeatures

SPEC = random_spec(layers=(12,), num_tokens=1, vision_width=4, text_width=4, image_size=32)
WAYS = ("disk", "http", "s3")
NOW = "now"


def make(folder: Path, num_videos: int, num_runs: int) -> Path:
    """Write a store as `num_runs` runs leave it, without the videos themselves."""
    # Imported here, since an earlier checkout, which only reads, may lack them.
    from r2t.store.format.part_files import write_part
    from r2t.store.format.part_writer import PartWriter, new_part_name
    from r2t.store.format.parts import PartKind, part_place
    from r2t.store.format.video_rows import video_columns
    from r2t.store.publish import LocalPublisher
    from r2t.store.schema import FORMAT_VERSION

    path = folder / "feats.zarr"
    store = FeatureStore.create(path, SPEC)
    rows = num_videos // num_runs
    for run in range(num_runs):
        numbers = range(run * rows, (run + 1) * rows)
        parts: dict[PartKind, Any] = {
            "index": video_columns([simulated_row(number) for number in numbers]),
            "queries": simulated_queries(numbers),
        }
        for kind, columns in parts.items():
            place = path / part_place(kind, FORMAT_VERSION) / new_part_name()
            write_part(place, columns, version=FORMAT_VERSION)
    PartWriter(LocalPublisher(path, folder), store.header).record()
    return path


def simulated_queries(numbers: range) -> dict[str, Any]:
    """Return the columns of a sentence for each video."""
    from r2t.store.format.query_rows import query_columns

    annotations = [
        Annotation(
            query_id=f"query_{number:07d}",
            video_id=f"video_{number:07d}",
            query=f"somebody does the thing with the number {number}",
            moments=np.array([[2.0, 6.0 + number % 9]]),
        )
        for number in numbers
    ]
    tokens = np.ones((1, 2, 4), np.float16)
    return query_columns(
        annotations, [QueryFeatures(each.query_id, tokens) for each in annotations]
    )


def measure(location: str, num_videos: int, server: Address | None) -> dict[str, float]:
    """Open a store once, look something up in it, and read what else its parts hold."""
    before, began, spent = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    store = FeatureStore.open(location)
    found = {
        "open, s": time.perf_counter() - began,
        "open, CPU s": time.process_time() - spent,
        "memory to open, MB": memory_mb("VmHWM") - before,
    }
    if server is not None:
        found["requests to open"] = sum(server.counts().values())
    assert len(store) == num_videos
    assert store.is_indexed("video_0000017")
    began = time.perf_counter()
    assert sum(store.lengths().values()) == 75 * num_videos
    found["lengths, s"] = time.perf_counter() - began
    began = time.perf_counter()
    assert store.read_query("query_0000017").tokens.shape == (1, 2, 4)
    found["a query, s"] = time.perf_counter() - began
    began = time.perf_counter()
    assert len(store.queries) == num_videos
    found["table of queries, s"] = time.perf_counter() - began
    return found


def turn(
    links: Path, checkout: Path, location: str, num_videos: int, server: Address
) -> dict[str, float]:
    """Measure in a process that imports r2t from a checkout."""
    command = [__file__, "--measure", location, "--videos", str(num_videos)]
    if location.startswith(("http", "s3")):
        command += ["--port", str(server.port)]
    return json.loads(output_of(links, checkout, command))


def open_it(path: Path, given: argparse.Namespace, server: Address, label: str) -> None:
    """Print what opening a store takes by each way, for each checkout."""
    own = Path(__file__).resolve().parents[1]
    checkouts = {"earlier": given.earlier, NOW: own} if given.earlier else {NOW: own}
    locations = {
        "disk": str(path),
        "http": f"{server.url}/{path.name}",
        "s3": f"s3://{BUCKET}/{path.name}",
    }
    for way in given.ways:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        counts: dict[str, dict[str, int]] = {}
        for _ in range(given.repeats):
            for name, checkout in checkouts.items():
                server.counts()
                found[name].append(
                    turn(path.parent, checkout, locations[way], given.videos, server)
                )
                counts[name] = server.counts()
        for name, results in found.items():
            middle = {key: statistics.median(each[key] for each in results) for key in results[0]}
            print(f"{label}, {way}, {name}: ", end="")
            print(", ".join(f"{key} {value:.2f}" for key, value in middle.items()), flush=True)
            if counts[name]:
                kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts[name].items()))
                print(
                    f"    requests after that: {sum(counts[name].values())} ({kinds})", flush=True
                )


def compact(path: Path) -> None:
    """Join the parts, in a process of its own, and print what that takes."""
    command = [sys.executable, __file__, "--compact", str(path)]
    subprocess.run(command, check=True)


def main() -> None:
    """Measure before and after the parts are joined."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--earlier", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", type=Path, help="where the store is made, and kept")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--compact", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        with tempfile.TemporaryDirectory() as other:
            warm = make_store(Path(other) / "warm.zarr")
            assert len(FeatureStore.open(warm.location).queries) == len(warm.queries)
        server = Address(given.port) if given.port else None
        print(json.dumps(measure(given.measure, given.videos, server)))
        return
    if given.compact:
        from r2t.store.change import compact_store

        before, began, spent = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
        report = compact_store(given.compact)
        print(
            f"joined: {time.perf_counter() - began:.1f} s, CPU {time.process_time() - spent:.1f} s,"
            f" {memory_mb('VmHWM') - before:.0f} MB, parts {report.num_parts_before} -> "
            f"{report.num_parts_after}",
            flush=True,
        )
        return
    with tempfile.TemporaryDirectory() as work:
        folder = given.folder or Path(work)
        path = folder / "feats.zarr"
        if not path.exists():
            make(folder, given.videos, given.runs)
        with slow_server(folder, given.latency) as server:
            s3 = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
            os.environ |= {**s3, "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
            os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1"}
            open_it(path, given, server, f"{given.runs} runs")
            compact(path)
            given.earlier = None  # an earlier r2t may not know columns that lie apart
            open_it(path, given, server, "joined")


if __name__ == "__main__":
    main()
