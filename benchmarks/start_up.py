"""What does a command cost before it begins? CPU seconds of each, beside its imports alone.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --repeats 9

Each command is asked for something that it can only refuse once everything is loaded: a video that
is not there, an empty sentence, a split without queries. Times are user and system CPU seconds of
the process and of those that it started, because a busy machine falsifies any other; the commands
take turns. CLIP is the embedded one, so that reading weights costs next to nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from r2t.extract.clip.clip import FrozenClip
from r2t.store import FeatureStore
from r2t.store.machine import allowed_cores
from r2t.train.model.model import R2Model
from r2t.train.run.presets import find_preset
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn

BASELINE = "import open_clip"


def make_run(folder: Path) -> None:
    """Write an untrained run of the embedded CLIP's features, and an empty store of them."""
    clip = FrozenClip.load("r2t-demo", layers=4, device="cpu")
    spec = clip.spec(1.0)
    FeatureStore.create(folder / "feats.zarr", spec, clip.provenance())
    config = find_preset("qvhighlights").train_config(
        num_layers=spec.num_layers, vision_width=spec.vision_width, text_width=spec.text_width
    )
    run = RunFolder(folder / "run")
    trained_on = TrainedOn(identity=spec, provenance=clip.provenance())
    run.claim(config, trained_on, resume=False)
    run.save_weights("best", R2Model(config.model))


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what is measured, by name."""
    python, r2t = [sys.executable, "-c"], [sys.executable, "-m", "r2t.cli"]
    run = ["--checkpoint", str(folder / "run"), "--device", "cpu"]
    store = ["--store", str(folder / "feats.zarr")]
    return {
        "import torch": [*python, "import torch"],
        BASELINE: [*python, "import open_clip"],
        "r2t --help": [*r2t, "--help"],
        "r2t predict": [*r2t, "predict", str(folder / "none.mp4"), "a ball", *run],
        "r2t search": [*r2t, "search", " ", *run, *store],
        "r2t eval": [*r2t, "eval", "--split", "test", *run, *store],
        "r2t report": [*r2t, "report", "--split", "test", *run, *store],
    }


def cpu_seconds(command: list[str]) -> float:
    """Run a command to its end; return the CPU time of it and its children."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(child.pid, 0)
    child.returncode = 0  # it was waited for here
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        make_run(Path(folder))
        wanted = commands(Path(folder))
        found: dict[str, list[float]] = {name: [] for name in wanted}
        for _ in range(repeats):
            for name, command in wanted.items():
                found[name].append(cpu_seconds(command))
    print(f"Python {platform.python_version()}, {allowed_cores()} cores, {repeats} times in turns")
    print(f"{'':<18}{'CPU s':>7}{'lowest':>8}{'highest':>9}{'above ' + BASELINE:>24}")
    base = found[BASELINE]
    for name, seconds in found.items():
        above = statistics.median(ours - theirs for ours, theirs in zip(seconds, base, strict=True))
        print(
            f"{name:<18}{statistics.median(seconds):7.2f}{min(seconds):8.2f}{max(seconds):9.2f}"
            f"{above:24.2f}"
        )


if __name__ == "__main__":
    main()
