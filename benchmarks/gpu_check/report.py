"""What a section finds, written line by line, so that a section that dies loses nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Status = Literal["holds", "wrong", "measured", "unavailable"]
LONGEST_REASON = 160


@dataclass(frozen=True)
class Row:
    """A line of the table; `value`, in `unit`, is what a program would read of it."""

    name: str
    status: Status
    text: str
    value: float | None = None
    unit: str = ""


class Report:
    """Rows of one section, each on disk as soon as it is known.

    `check_device` raises where nothing works any more on the device: an error of a CUDA kernel
    stays with its process, and all that follows it would be blamed wrongly.
    """

    def __init__(
        self,
        path: Path,
        seconds: float = math.inf,
        check_device: Callable[[], None] = lambda: None,
    ) -> None:
        self.rows: list[Row] = []
        self._path = path
        self._ends = time.monotonic() + seconds
        self._check_device = check_device

    @property
    def seconds_left(self) -> float:
        """How long it is to the section's deadline."""
        return self._ends - time.monotonic()

    def add(self, row: Row) -> None:
        """Write a row down."""
        self.rows.append(row)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def check(self, name: str, text: str, *, holds: bool) -> None:
        """Say whether something is as it must be."""
        self.add(Row(name, "holds" if holds else "wrong", text))

    def within(self, name: str, error: float, limit: float, where: str = "") -> None:
        """Say whether an error is as small as it must be; NaN is not."""
        text = f"{error:.1e} of at most {limit:g}" + (f" ({where})" if where else "")
        self.add(Row(name, "holds" if error <= limit else "wrong", text, error, "error"))

    def measure(self, name: str, value: float, unit: str, note: str = "") -> None:
        """Say what was measured."""
        text = f"{value:,.4g} {unit}" + (f"; {note}" if note else "")
        self.add(Row(name, "measured", text, value, unit))

    def note(self, name: str, text: str) -> None:
        """Say what is no number."""
        self.add(Row(name, "measured", text))

    def unavailable(self, name: str, reason: str) -> None:
        """Say what cannot be had here, and why."""
        self.add(Row(name, "unavailable", f"n/a ({reason})"))

    def verify(self, name: str, work: Callable[[], None], *, seconds: float = 0) -> None:
        """Do what must work; an error of it is a wrong result.

        Where less than `seconds` are left before the deadline, it is left out.
        """
        self._do(name, work, seconds, must_work=True)

    def attempt(self, name: str, work: Callable[[], None], *, seconds: float = 0) -> None:
        """Do what this machine or version need not be able to do."""
        self._do(name, work, seconds, must_work=False)

    def _do(self, name: str, work: Callable[[], None], seconds: float, *, must_work: bool) -> None:
        if self.seconds_left < seconds:
            self.unavailable(name, f"{self.seconds_left:.0f} s are left, it needs {seconds:g}")
            return
        try:
            work()
        except Exception as error:
            reason = in_one_line(error)
            if must_work:
                self.check(name, reason, holds=False)
            else:
                self.unavailable(name, reason)
            self._check_device()


def in_one_line(error: BaseException) -> str:
    """Return an error's kind and the beginning of what it says."""
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a section so far; a line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [Row(**json.loads(line)) for line in lines if line.endswith("\n")]
