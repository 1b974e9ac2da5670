"""Is obstore as good as s3fs for reading a store, and could its http client be ours?

Clients take turns in every round, and figures are ratios of one round, with their spread:

- `obstore` and `s3fs` read the same objects, as `Bucket` and as `FsspecFolder`. Throughput is
  measured against nginx, which takes a signed request for a plain one, since moto is slow; what is
  asked is counted by moto.
- `http` is our own `HttpFolder`, and `obstore http` obstore's client, both against nginx.
- Faults: what each gives where every request fails once, and where the service lies.

    pip install s3fs && python benchmarks/object_stores.py [--rounds 9] [--megabytes 512]
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
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from features import columns, random_tokens, small_query, small_spec, write_video
from s3_server import Fault, S3Server, s3_server
from servers import nginx

from r2t.store import FeatureStore
from r2t.store.errors import StoreError
from r2t.store.sources import connect, connection, retries, root
from r2t.store.sources.fsspec_folder import FsspecFolder
from r2t.store.sources.remote import open_folder
from r2t.store.sources.sources import Source

CLIENTS = ("obstore", "s3fs", "http", "obstore http")
SIZES = {"256 KB": 2**18, "16 MB": 2**24}
AT_ONCE = 8
PATIENCE_SECONDS = 15
KEY = "feats.zarr/zarr.json"
TRIED: tuple[Fault, ...] = (
    "slow down",
    "internal error",
    "truncate",
    "dropped",
    "too much",
    "whole instead of range",
    "stall",
    "stall in body",
    "drip",
)


def s3fs_folder(url: str) -> Source:
    """Return what reads a bucket through s3fs, with its own limits of time."""
    options: dict[str, Any] = {
        "connect_timeout": connection.CONNECT_SECONDS,
        "read_timeout": connection.IDLE_SECONDS,
    }
    file_system = fsspec.filesystem("s3", config_kwargs=options, skip_instance_cache=True)
    return FsspecFolder(url, file_system, url.removeprefix("s3://"))


class ObstoreHttp:
    """What obstore's http client offers of a `Source`."""

    def __init__(self, url: str) -> None:
        from obstore.store import HTTPStore

        self._store = HTTPStore.from_url(url, client_options={"allow_http": True})

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return a range."""
        return self._store.get_range(key, start=start, end=stop).to_bytes()


def open_client(client: str, url: str) -> Any:
    """Return what reads objects of the bucket, or of the same folder behind nginx."""
    if client == "s3fs":
        return s3fs_folder("s3://bucket")
    if client == "obstore":
        return connect("s3://bucket")
    return open_folder(f"{url}/bucket") if client == "http" else ObstoreHttp(f"{url}/bucket")


def read_all(client: str, url: str, num_bytes: int, total: int) -> dict[str, float]:
    """Read ranges all over an object, eight at a time; return MB/s, of a CPU second as well."""
    source = open_client(client, url)
    starts = range(0, total, num_bytes)
    source.read("object", 0, 10)
    own, began = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lengths = list(
            pool.map(lambda start: len(source.read("object", start, start + num_bytes)), starts)
        )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - own
    assert sum(lengths) == total
    return {"MB/s": total / 1e6 / seconds, "MB/CPU s": total / 1e6 / cpu_seconds}


def peak_memory(client: str, url: str, total: int) -> dict[str, float]:
    """Read 16 MB ranges in this process; return what its memory grew by, and the start's time."""
    own = time.process_time()
    open_client(client, url).read("object", 0, 10)
    started = time.process_time() - own
    before = _memory_mb("VmRSS")
    read_all(client, url, SIZES["16 MB"], total)
    return {"start, CPU s": started, "memory, MB": _memory_mb("VmHWM") - before}


def _memory_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def throughput(rounds: int, total: int) -> None:
    """Print the medians of all clients, and their ratios to obstore."""
    found: dict[str, dict[str, list[float]]] = {client: {} for client in CLIENTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bucket").mkdir()
        (folder / "bucket" / "object").write_bytes(os.urandom(total))
        with nginx(folder, folder / "work") as server:
            given = {
                "AWS_ACCESS_KEY_ID": "me",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": server.url,
            }
            os.environ.update(given)
            for _ in range(rounds):
                for client in CLIENTS:
                    for size, num_bytes in SIZES.items():
                        measured = read_all(client, server.url, num_bytes, total)
                        _note(found[client], measured, f"{size}: ")
                    command = [sys.executable, __file__, "--memory", client, server.url, str(total)]
                    child = subprocess.run(command, capture_output=True, check=True, text=True)
                    _note(found[client], json.loads(child.stdout), "")
    print(f"{rounds} rounds of {total / 1e6:.0f} MB, {AT_ONCE} ranges at a time, nginx on loopback")
    for name in found["obstore"]:
        for client in CLIENTS:
            values = found[client][name]
            ratios = sorted(a / b for a, b in zip(values, found["obstore"][name], strict=True))
            print(
                f"  {name:18} {client:13} {statistics.median(values):9.2f}   of obstore's: "
                f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


def _note(into: dict[str, list[float]], measured: dict[str, float], prefix: str) -> None:
    for name, value in measured.items():
        into.setdefault(prefix + name, []).append(value)


def make_store(server: S3Server, folder: Path) -> None:
    """Write a small store and copy it into the bucket."""
    store = FeatureStore.create(folder / "feats.zarr", small_spec())
    with store.writer() as writer:
        for number in range(3):
            write_video(writer, f"video {number}", random_tokens(301, seed=number))
        writer.add_queries(*columns(small_query("q", "video 0")))
    bucket = connect(server.url)
    for file in (folder / "feats.zarr").rglob("*"):
        if file.is_file():
            bucket.create(str(file.relative_to(folder)), file.read_bytes())


def requests(server: S3Server, opening: dict[str, Callable[[str], Source]]) -> None:
    """Print what a store's reading asks of the service."""
    usual, url = root.open_folder, f"{server.url}/feats.zarr"
    for client, folder in opening.items():
        root.open_folder = folder
        server.count()
        store = FeatureStore.open(url)
        print(f"  {client:8} open          {server.count()}")
        store.read_video("video 0")
        print(f"  {client:8} read a video  {server.count()}")
    root.open_folder = usual


def faults(server: S3Server, opening: dict[str, Callable[[str], Source]]) -> None:
    """Print what comes where the first request fails, and where all do."""
    right = connect(server.url).read(KEY, 0, 300)
    for fault in TRIED:
        for client, folder in opening.items():
            for first in (1, 10**9):
                source = folder(server.url)
                server.count()
                server.fault = lambda _, f=fault, n=first: f if len(server.requests) <= n else None
                began = time.perf_counter()
                told = _outcome(server, source, right)
                seconds, asked = time.perf_counter() - began, sum(server.count().values())
                kind = "once" if first == 1 else "always"
                print(f"  {fault:23} {kind:7}{client:8} {seconds:6.1f} s {asked:3} asked  {told}")


def _outcome(server: S3Server, source: Source, right: bytes | None) -> str:
    """Read, and let the service be well again where no end is seen."""
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(source.read, KEY, 0, 300)
        try:
            found = reading.result(PATIENCE_SECONDS)
        except TimeoutError:
            server.fault = lambda _: None
            return f"nothing after {PATIENCE_SECONDS} s"
        except StoreError as error:
            return f"an error: {str(error).split(server.url)[-1][:70]}"
    return "the right bytes" if found == right else "WRONG BYTES"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        client, url, total = options.memory
        print(json.dumps(peak_memory(client, url, int(total))))
        return
    throughput(options.rounds, options.megabytes * 2**20)
    warnings.simplefilter("ignore")
    opening: dict[str, Callable[[str], Source]] = {"obstore": connect, "s3fs": s3fs_folder}
    with s3_server() as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.environment)
        make_store(server, Path(folder))
        print("requests, by kind")
        requests(server, opening)
        print("faults, with limits of 1 s without a byte and 2 s in all")
        connection.IDLE_SECONDS, connection.REQUEST_SECONDS = 1.0, 2.0
        retries._FIRST_PAUSE_SECONDS = 0.01
        faults(server, opening)


if __name__ == "__main__":
    main()
