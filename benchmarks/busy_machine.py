"""What do trainings that share a machine cost each other, and what do the threads matter?

Trains the demo's model on a store for one epoch in several processes at a time, in turns with each
setting: threads chosen by what is free, one thread, and as many threads as cores whatever happens.
Prints, per process, samples and processor seconds, and how often a thread had to wait or was put
aside: median and spread over processes and rounds.

    python benchmarks/busy_machine.py --store r2t-demo/feats.zarr --side-by-side 1 2
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from r2t.cli.commands.demo import steps as demo_steps
from r2t.store.feature_store import FeatureStore
from r2t.store.machine import allowed_cores
from r2t.train.training.execution import Execution
from r2t.train.training.fit import split_annotations, train_model

SETTINGS = {
    "by what is free": None,
    "one thread": "1",
    "a thread a core": str(allowed_cores()),
}
FIGURES = ("samples/s", "CPU s", "waits", "put aside")


def main() -> None:
    """Train side by side in turns, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, required=True, help="features of `r2t demo`")
    parser.add_argument("--side-by-side", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(one_epoch(options.store)))
        return
    print(
        f"{allowed_cores()} cores, load {os.getloadavg()[0]:.1f} before, torch "
        f"{torch.__version__}, {options.rounds} rounds in turns; median (lowest to highest)"
    )
    for num_processes in options.side_by_side:
        found: dict[str, list[list[float]]] = {name: [] for name in SETTINGS}
        for _ in range(options.rounds):
            for name, threads in SETTINGS.items():
                found[name] += side_by_side(options.store, num_processes, threads)
        print(f"\n{num_processes} at a time{'':7}" + "".join(f"{name:>26}" for name in FIGURES))
        for name, rows in found.items():
            columns = [
                f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
                for values in zip(*rows, strict=True)
            ]
            print(f"{name:18}" + "".join(f"{column:>26}" for column in columns))


def side_by_side(store: Path, num_processes: int, threads: str | None) -> list[list[float]]:
    """Train in so many processes at a time; return each one's figures."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    command = [sys.executable, __file__, "--store", str(store), "--child"]
    children = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(num_processes)
    ]
    outputs = [child.communicate()[0] for child in children]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def one_epoch(location: Path) -> list[float]:
    """Train for an epoch; return the figures of this process while it did."""
    store = FeatureStore.open(location)
    splits = split_annotations(store)
    config = demo_steps.demo_config(store, epochs=1, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        train_model(config, store, splits, Path(folder) / "run", execution=Execution())
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = time.perf_counter() - began
    return [
        len(splits.train) / seconds,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        float(after.ru_nvcsw - before.ru_nvcsw),
        float(after.ru_nivcsw - before.ru_nivcsw),
    ]


if __name__ == "__main__":
    main()
