"""How fast is a store verified and merged, beside hashing or copying the same bytes and no more?

    python benchmarks/store_verify.py [--videos 40] [--frames 75] [--rounds 5] [--folder DIR]

Writes a store of random features in the shape of ViT-B/32 (4 layers, 50 tokens, width 768; 23 MB a
video of 75 frames), and times rounds of all contenders in turn, the page cache warm: `verify`
against sha256 over the same files on as many threads, and merging by links, with and without
computing digests, against copying the files. Prints the median and range of GB/s.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toy_store import make_store, random_spec

from r2t.store import FeatureStore
from r2t.store.change.merge import merge_stores
from r2t.store.change.pack import pack_store
from r2t.store.check.verify import verify_store
from r2t.store.machine import allowed_cores

BLOCK_BYTES = 2**20


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            digest.update(data)
    return digest.hexdigest()


def contenders(store: Path, scratch: Path, threads: int) -> dict[str, Callable[[], object]]:
    shards = [file for file in store.rglob("*") if file.is_file() and "/c/" in str(file)]

    def hash_alone() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(sha256_of, shards))

    def merged(name: str, *, link: bool = True, quick: bool = False) -> Callable[[], object]:
        return lambda: merge_stores(
            [store], scratch / name, link=link, quick=quick, num_threads=threads
        )

    return {
        "sha256 of the files alone": hash_alone,
        "verify": lambda: verify_store(store, num_threads=threads),
        "verify --quick": lambda: verify_store(store, quick=True),
        "copy of the folder alone": lambda: shutil.copytree(store, scratch / "copied"),
        "merge --copy": merged("merge-copy", link=False),
        "merge by links": merged("merge-link"),
        "merge by links --quick": merged("merge-quick", quick=True),
        "pack": lambda: pack_store(store, scratch / "feats.zip"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=allowed_cores())
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store, scratch = Path(folder, "feats.zarr"), Path(folder, "scratch")
        make_store(
            store,
            lengths=[options.frames] * options.videos,
            queries_per_video=0,
            spec=random_spec(),
        )
        num_bytes = FeatureStore.open(store).num_bytes()
        print(f"{options.videos} videos, {num_bytes / 1e9:.2f} GB, {options.threads} threads")
        seconds: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            scratch.mkdir()
            for name, action in contenders(store, scratch, options.threads).items():
                began = time.perf_counter()
                action()
                seconds.setdefault(name, []).append(time.perf_counter() - began)
            shutil.rmtree(scratch)
    for name, times in seconds.items():
        rates = sorted(num_bytes / each / 1e9 for each in times)
        print(
            f"{name:26} {statistics.median(rates):7.2f} GB/s ({rates[0]:.2f} to {rates[-1]:.2f}), "
            f"{statistics.median(times):.2f} s"
        )


if __name__ == "__main__":
    main()
