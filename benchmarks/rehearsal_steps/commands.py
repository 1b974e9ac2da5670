"""The commands of a document, as bash expands them, carried out one after another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from r2t.cli.main import app

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path.insert(0, str(TESTS))
from documents import Block, blocks_of, commands_of  # noqa: E402 - beside the suite, not installed

_NOTING = '#!/bin/bash\nprintf "%s\\0" "$#" "$@" >> "$R2T_NOTED"\n'
GROUPS = ("store", "data")


@dataclass(frozen=True)
class Command:
    """One call of r2t: its words as the document has them, and where they stand."""

    place: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """What is called: train, store import."""
        return " ".join(self.words[: 2 if self.words[0] in GROUPS else 1])

    def option(self, name: str) -> str | None:
        """Return an option's last value."""
        places = [place for place, word in enumerate(self.words) if word == name]
        return self.words[places[-1] + 1] if places else None

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Said:
    """How a command ended, its answer (stdout) and its notes (stderr)."""

    status: int
    answer: str
    notes: str
    seconds: float


Carrier = Callable[[Sequence[str], Path], Said]


def carry_out_apart(words: Sequence[str], folder: Path) -> Said:
    """Run a command as a reader does: in a process of its own, in a folder."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "r2t.cli", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def carry_out_here(words: Sequence[str], folder: Path) -> Said:
    """Run a command in this process, which saves loading the libraries anew."""
    before = Path.cwd()
    began = time.monotonic()
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # what is warned of is said, too
            result = CliRunner().invoke(app, list(words))
    finally:
        os.chdir(before)
    seconds = time.monotonic() - began
    return Said(result.exit_code, result.stdout, result.stderr, seconds)


def rehearse(
    document: Path,
    folder: Path,
    stand_ins: Mapping[str, str],
    carrier: Carrier,
    wanted: Callable[[Command], bool],
) -> Iterator[tuple[Command, Said]]:
    """Carry out a document's commands in order, each with what stands in for its costly options.

    A command that fails does not keep the following ones from being tried.
    """
    for block in blocks_of(document):
        if block.kind != "sh" or not any(commands_of(block.text)):
            continue
        for command in expand(block, folder):
            if wanted(command):
                extra = stand_ins.get(command.name, "").split()
                yield command, carrier([*command.words, *extra], folder)


def expand(block: Block, folder: Path) -> list[Command]:
    """Let bash expand a block's loops, variables and patterns; its calls are noted, not made.

    Any other program in the block is an error, since it would have run too early.
    """
    tools = folder / ".noting"
    tools.mkdir(exist_ok=True)
    noted = tools / "noted"
    noted.unlink(missing_ok=True)
    (tools / "r2t").write_text(_NOTING)
    (tools / "r2t").chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None, "bash is needed"
    subprocess.run(
        [bash, "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env={"PATH": str(tools), "R2T_NOTED": str(noted)},
        check=True,
    )
    fields = iter(noted.read_text(encoding="utf-8").split("\0")[:-1])
    return [
        Command(block.place, tuple(next(fields) for _ in range(int(count)))) for count in fields
    ]
