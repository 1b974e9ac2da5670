"""Sections as processes: started, given a deadline, killed at it, and read whatever they come to.

Nothing here imports torch or r2t: a process that has touched a broken device is of no use.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu_check.report import LONGEST_REASON, Report, Row, read_rows

SECTIONS: dict[str, float] = {  # seconds of each; a section may also use what earlier ones left
    "machine": 20,
    "stores": 20,
    "ceilings": 20,
    "block": 80,
    "ring": 50,
    "resume": 35,
    "steps": 90,
    "extraction": 40,
    "answers": 30,
    "epoch": 5,
}
SECONDS = sum(SECTIONS.values())
READING_STORES = {"ring", "resume", "answers"}
MARGIN_SECONDS = 2.0  # between a section's own end and its being killed
DONE = "done"


@dataclass(frozen=True)
class Plan:
    """How to start a section: `command` takes `--section NAME` and what else `start` adds."""

    command: Sequence[str]
    folder: Path
    seconds: float = SECONDS
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True)
class Result:
    """What became of a section; `ended` is `DONE`, or says why it ended early."""

    name: str
    rows: list[Row]
    seconds: float
    ended: str

    @property
    def failed(self) -> bool:
        """Whether a check did not hold, or some were never made."""
        return self.ended != DONE or any(row.status == "wrong" for row in self.rows)


def run_sections(plan: Plan, names: Sequence[str]) -> list[Result]:
    """Run sections in their order, the machine first, and stores before what reads them."""
    chosen = {"machine", *names, *(["stores"] if READING_STORES & set(names) else [])}
    results: list[Result] = []
    spare = 0.0
    for name, share in SECTIONS.items():
        if name not in chosen:
            continue
        allowed = share * plan.seconds / SECONDS + spare
        print(f"{name}: at most {allowed:.0f} s", file=sys.stderr, flush=True)
        results.append(start(plan, name, allowed))
        if name == "machine" and results[-1].ended != DONE:
            break  # nothing else would do better
        spare = max(0.0, allowed - results[-1].seconds)
    return results


def start(plan: Plan, name: str, seconds: float) -> Result:
    """Run one section in a process of its own, and all that it starts in the same group."""
    began = time.monotonic()
    until = time.time() + seconds - MARGIN_SECONDS
    command = [
        *plan.command,
        "--section",
        name,
        "--folder",
        str(plan.folder),
        "--until",
        str(until),
    ]
    log = plan.folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(plan.environment),
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
            ended = DONE if status == 0 else _last_words(log, status)
        except subprocess.TimeoutExpired:
            ended = f"killed at its deadline of {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    rows = read_rows(rows_path(plan.folder, name))
    return Result(name, rows, time.monotonic() - began, ended)


def rows_path(folder: Path, name: str) -> Path:
    """Return where a section writes what it finds."""
    return folder / f"{name}.jsonl"


def run_section(name: str, device: str, folder: Path, until: float, *, small: bool) -> None:
    """Do the work of a section, in this process."""
    from gpu_check.setting import Setting

    setting = Setting.of(device, small=small, folder=folder)
    seconds = until - time.time()
    report = Report(rows_path(folder, name), seconds, setting.check_device)
    importlib.import_module(f"gpu_check.{name}").run(setting, report)
    setting.check_device()


def _last_words(log: Path, status: int) -> str:
    """Return why a process ended, as far as it said."""
    how = f"ended with status {status}"
    if status < 0:
        how = f"ended by {signal.Signals(-status).name}"
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{how}: {lines[-1].strip()[:LONGEST_REASON]}" if lines else how
