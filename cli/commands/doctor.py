"""`r2t doctor`: what this machine has, what works, and what to do about what does not."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import typer
from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

import r2t.extract
import r2t.train
from r2t.cli.shared import (
    SOME_FAILED,
    Json,
    answers,
    cell,
    examples,
    handle_errors,
    human_bytes,
    print_json,
    say,
)
from r2t.extract import clip, video
from r2t.store.errors import R2TError
from r2t.store.machine import allowed_cores
from r2t.store.wording import counted, how_to_install

State = Literal["ok", "note", "problem"]

DISTRIBUTION = "r2-tuning"
LOW_DISK_BYTES = 5 * 10**9
STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do about it if anything."""

    area: str
    name: str
    state: State
    found: str
    advice: str = ""


@examples(
    "r2t doctor",
    "r2t doctor --json | jq '.checks[] | select(.state != \"ok\")'",
)
def doctor(
    json: Json = False,
) -> None:
    """Check this machine: devices, decoders, CLIP's weights, disk, packages, extras.

    Decodes a small generated video and runs the embedded CLIP; uses no network. Exits with 1 if
    something that r2t needs does not work. Notes are about things that r2t can do without.
    """
    with handle_errors():
        areas = (_system, _devices, _decoders, _clip, _disk, _packages, _extras)
        checks = [check for area in areas for check in area()]
        problems = [check for check in checks if check.state == "problem"]
        if json:
            print_json({"ok": not problems, "checks": [vars(check) for check in checks]})
        else:
            answers().print(_table(checks))
            say(counted(len(problems), "problem") if problems else "everything r2t needs works")
    if problems:
        raise typer.Exit(SOME_FAILED)


def _table(checks: list[Check]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    area = ""
    for check in checks:
        state = Text(check.state, STYLES[check.state])
        found = f"{check.found}\n→ {check.advice}" if check.advice else check.found
        title = "" if check.area == area else check.area
        table.add_row(title, state, cell(check.name), cell(found))
        area = check.area
    return table


def _attempt(
    area: str, name: str, work: Callable[[], str], advice: str, state: State = "problem"
) -> Check:
    """Say what some work found, or why it failed."""
    try:
        return Check(area, name, "ok", work())
    except (R2TError, OSError, RuntimeError, ImportError) as error:
        return Check(area, name, state, str(error).strip().split("\n")[0], advice)


def _system() -> Iterator[Check]:
    yield Check("system", "python", "ok", f"{platform.python_version()}, {platform.platform()}")
    yield Check("system", "cores", "ok", str(allowed_cores()))


def _devices() -> Iterator[Check]:
    import torch  # at the head it would make `r2t doctor --help` wait

    def look_at(index: int) -> str:
        r2t.train.pick_device(f"cuda:{index}")
        _, num_bytes = torch.cuda.mem_get_info(index)
        return f"{torch.cuda.get_device_name(index)}, {human_bytes(num_bytes)}"

    for index in range(torch.cuda.device_count()):
        yield _attempt(
            "devices",
            f"cuda:{index}",
            partial(look_at, index),
            "check the driver with nvidia-smi, and that torch was built for its CUDA version",
        )
    if not torch.cuda.is_available():
        yield Check(
            "devices",
            "cuda",
            "note",
            f"no GPU that torch {torch.__version__} can use",
            "the CPU does everything, only slower; a GPU needs its driver and a torch for CUDA",
        )


def _decoders() -> Iterator[Check]:
    yield _attempt(
        "decoders",
        "pyav",
        lambda: f"{r2t.extract.check_decoder('pyav')} decodes a generated video correctly",
        "reinstall it: pip install --force-reinstall av",
    )
    if video.decord_name() is None:
        yield Check("decoders", "decord", "note", "not installed", "PyAV decodes everything alone")
    else:
        yield _attempt(
            "decoders",
            "decord",
            lambda: f"{r2t.extract.check_decoder('decord')} decodes a generated video correctly",
            "PyAV takes over by itself; r2t extract --decoder pyav skips the attempt",
            "note",
        )


def _clip() -> Iterator[Check]:
    yield _attempt("clip", "r2t-demo", _embedded_clip, "reinstall r2-tuning")
    model = f"{r2t.extract.DEFAULT_MODEL}/{clip.OPENAI}"
    source = clip.find_weights(clip.find_model(r2t.extract.DEFAULT_MODEL), clip.OPENAI)
    path = clip.cached_weights(source)
    if path is not None:
        size = human_bytes(path.stat().st_size)
        yield Check("clip", model, "ok", f"{size} in {path}")
    else:
        yield Check(
            "clip",
            model,
            "note",
            "the weights are in no cache on this machine",
            "r2t extract downloads them once; without a network copy them here from another "
            "machine and give --pretrained FILE",
        )


def _embedded_clip() -> str:
    embedded = clip.FrozenClip.load("r2t-demo", layers=4)
    pixels = np.zeros((16, 3, embedded.image_size, embedded.image_size), np.uint8)
    began = time.perf_counter()
    embedded.encode_frames(pixels)
    per_second = len(pixels) / (time.perf_counter() - began)
    return f"embedded, encodes {per_second:.0f} small frames per second on {embedded.device}"


def _disk() -> Iterator[Check]:
    for name, folder in (("working folder", Path.cwd()), ("weights' cache", clip.cache_folder())):
        present = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(present).free
        low = free < LOW_DISK_BYTES
        yield Check(
            "disk",
            name,
            "note" if low else "ok",
            f"{human_bytes(free)} free for {folder}",
            "an hour of video takes 0.55 GB of features at the default settings" if low else "",
        )


def _packages() -> Iterator[Check]:
    yield Check("packages", DISTRIBUTION, "ok", importlib.metadata.version(DISTRIBUTION))
    for requirement in _requirements():
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement, "problem")


def _extras() -> Iterator[Check]:
    names = importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    for extra in sorted(set(names) - {"test"}):
        wanted = [
            requirement
            for requirement in _requirements()
            if requirement.marker is not None
            and requirement.marker.evaluate({"extra": extra})
            and not requirement.marker.evaluate({"extra": ""})
        ]
        checks = [_package(requirement, "note") for requirement in wanted]
        missing = [check for check in checks if check.state != "ok"]
        if missing:
            found = ", ".join(f"{check.name} {check.found}" for check in missing)
            advice = f"{how_to_install(extra)}, if you want it"
            yield Check("extras", extra, "note", found, advice)
        else:
            found = ", ".join(f"{check.name} {check.found}" for check in checks)
            yield Check("extras", extra, "ok", found)


def _requirements() -> list[Requirement]:
    return [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]


def _package(requirement: Requirement, otherwise: State) -> Check:
    """Hold an installed package against the versions that r2t accepts."""
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        found = "is not installed"
    else:
        if requirement.specifier.contains(found, prereleases=True):
            return Check("packages", requirement.name, "ok", found)
        found = f"{found}, but r2t needs {requirement.specifier}"
    wanted = f"'{requirement.name}{requirement.specifier}'"
    return Check("packages", requirement.name, otherwise, found, f"pip install {wanted}")
