"""What happens to an extraction when something goes wrong?

Injects one fault at a time into a run of the real pipeline with the demo's CLIP, and prints what
became of the faulty video, of its neighbours, and of the next run. Decoders are made to misbehave
by the suite's own saboteur (tests/extract/video/sabotaged_worker.py); files are damaged on disk;
whole runs of `r2t extract` are ended by signals at random moments.

    python benchmarks/faults.py --kills 5
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.pipeline import ExtractReport, extract_videos
from r2t.extract.video import decode_process
from r2t.store.feature_store import FeatureStore

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))
from barcode_videos import Recipe, write_video  # noqa: E402 - beside the suite, not installed

LIMIT_SECONDS = 5.0
DECODER_FAULTS = {
    "crashes": "decoder crashes (SIGSEGV)",
    "aborts": "decoder aborts",
    "exits": "decoder exits",
    "breaks": "decoder raises",
    "hangs": "decoder sleeps for ever",
    "spins": "decoder spins for ever",
    "eats": "decoder eats memory",
    "decord-crashes": "decord crashes in the middle",
    "decord-hangs": "decord hangs in the middle",
}


def cut(path: Path, share: float) -> None:
    """Keep the first part of a file."""
    os.truncate(path, int(path.stat().st_size * share))


def cut_out(path: Path) -> None:
    """Drop the middle three fifths of a transport stream, packet by packet."""
    content = path.read_bytes()
    fifth = len(content) // 5 // 188 * 188
    path.write_bytes(content[:fifth] + content[-fifth:])


def overwrite(path: Path) -> None:
    """Replace the middle half of a file by noise."""
    content = bytearray(path.read_bytes())
    quarter = len(content) // 4
    content[quarter : 3 * quarter] = random.Random(0).randbytes(2 * quarter)
    path.write_bytes(content)


FILE_FAULTS: dict[str, tuple[Recipe, Callable[[Path], object]]] = {
    "file is empty": (Recipe(), lambda path: cut(path, 0)),
    "file is text": (Recipe(), lambda path: path.write_text("no video\n" * 500)),
    "MP4 without its table (end cut off)": (Recipe(), lambda path: cut(path, 0.5)),
    "MP4 cut in half, table first": (
        Recipe(container_options={"movflags": "faststart"}),
        lambda path: cut(path, 0.5),
    ),
    "Matroska cut in half": (Recipe(suffix=".mkv"), lambda path: cut(path, 0.5)),
    "Matroska, middle overwritten": (Recipe(suffix=".mkv"), overwrite),
    "transport stream, middle missing": (Recipe(suffix=".ts"), cut_out),
    "transport stream, middle overwritten": (Recipe(suffix=".ts"), overwrite),
}


def print_row(*cells: object) -> None:
    """Print a line of the table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def run(clip: FrozenClip, folder: Path, videos: list[Path]) -> tuple[ExtractReport, FeatureStore]:
    """Extract the videos of one case."""
    config = ExtractConfig(
        frame_rate=1.0, num_workers=1, timeout_seconds=LIMIT_SECONDS, memory_bytes=10**9
    )
    store = FeatureStore.create(folder / "feats.zarr", clip.spec(1.0), embedding=clip.embedding)
    return extract_videos(config, clip, store, videos, []), store


def bad_video(clip: FrozenClip, label: str, path: Path, good: Path) -> None:
    """Run one bad video between two good ones and print what happened."""
    neighbours = [path.with_name(f"{name}.mp4") for name in ("before", "after")]
    for each in neighbours:
        shutil.copy(good, each)
    began = time.monotonic()
    report, store = run(clip, path.parent, [neighbours[0], path, neighbours[1]])
    seconds = time.monotonic() - began
    if path.stem in report.failed:
        fate = "failed: " + report.failed[path.stem].replace(str(path), "…")
    else:
        video = store.read_video(path.stem)
        assert video.source is not None
        fate = f"stored, {video.num_frames} of 5 frames, by {video.source.decoder}"
    unharmed = sum(each.stem in report.done for each in neighbours)
    print_row(label, fate, f"{unharmed} of 2", f"{seconds:.1f}")


def ended_runs(number: signal.Signals, times: int, good: Path) -> None:
    """End runs of the command at random moments until one completes; compare with a quiet run."""
    chance = random.Random(int(number))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "videos").mkdir()
        for count in range(24):
            shutil.copy(good, folder / "videos" / f"v{count:02}.mp4")
        command = [sys.executable, "-m", "r2t.cli", "extract", "--videos", str(folder / "videos")]
        command += ["--model", "r2t-demo", "--fps", "2", "--device", "cpu", "--store"]
        quiet = subprocess.run(
            [*command, str(folder / "quiet.zarr")], capture_output=True, check=False
        )
        assert quiet.returncode == 0, quiet.stderr
        store = folder / "feats.zarr"
        seen: list[int] = []
        statuses: set[int] = set()
        for _ in range(times):
            process = subprocess.Popen([*command, str(store)], stderr=subprocess.DEVNULL)
            start = num_stored(store)
            while process.poll() is None and num_stored(store) == start:
                time.sleep(0.01)  # the model is loaded and the first video of this run is there
            time.sleep(chance.uniform(0, 0.3))
            process.send_signal(number)
            statuses.add(process.wait(60))
            seen.append(num_stored(store))
        last = subprocess.run([*command, str(store)], capture_output=True, check=False)
        ours, quiet_store = FeatureStore.open(store), FeatureStore.open(folder / "quiet.zarr")
        equal = sum(
            np.array_equal(ours.read_video(each).tokens, quiet_store.read_video(each).tokens)
            for each in quiet_store.videos["video_id"]
        )
    print_row(
        f"{number.name} to the whole run, {times} times",
        f"exit {', '.join(map(str, sorted(statuses)))}; {', '.join(map(str, seen))} of 24 videos "
        f"complete after each; the last run, left alone, exit {last.returncode}",
        f"{equal} of 24 equal to an undisturbed run",
        "",
    )


def num_stored(store: Path) -> int:
    """Count committed videos without opening the store."""
    with contextlib.suppress(FileNotFoundError):
        return len([path for path in (store / "videos").iterdir() if path.is_dir()])
    return 0


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=5, help="of each signal")
    chosen = parser.parse_args()
    clip = FrozenClip.load("r2t-demo", layers=2, device="cpu")
    print_row("fault", "what happened", "neighbours unharmed", "seconds")
    print_row(*["---"] * 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = write_video(folder / "good", Recipe())
        honest = decode_process.WORKER_COMMAND
        saboteur = TESTS / "extract" / "sabotaged_worker.py"
        decode_process.WORKER_COMMAND = (sys.executable, "-P", str(saboteur))
        for stem, label in DECODER_FAULTS.items():
            case = folder / stem
            case.mkdir()
            bad_video(clip, label, Path(shutil.copy(good, case / f"{stem}.mp4")), good)
        decode_process.WORKER_COMMAND = honest
        for number, (label, (recipe, damage)) in enumerate(FILE_FAULTS.items()):
            case = folder / str(number)
            case.mkdir()
            path = write_video(case / "bad", recipe)
            damage(path)
            bad_video(clip, label, path, good)
        # What a shell starts in the background ignores SIGINT, and the runs would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            ended_runs(each, chosen.kills, good)


if __name__ == "__main__":
    main()
