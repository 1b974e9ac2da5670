"""The table of all sections, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from gpu_check.report import Status
from gpu_check.runner import DONE, Result

MARKS: Mapping[Status, str] = {"holds": "ok", "wrong": "WRONG", "measured": "", "unavailable": ""}


def write_table(results: Sequence[Result]) -> str:
    """Return a line for each row, under a line for each section."""
    width = max((len(row.name) for result in results for row in result.rows), default=0)
    lines: list[str] = []
    for result in results:
        lines += ["", f"{result.name}, {result.seconds:.1f} s"]
        lines += [f"  {MARKS[row.status]:5}  {row.name:{width}}  {row.text}" for row in result.rows]
        if result.ended != DONE:
            lines.append(f"  {MARKS['wrong']:5}  {result.ended}")
    return "\n".join(lines[1:])


def summary(results: Sequence[Result]) -> str:
    """Return how many checks held, and which did not."""
    rows = [row for result in results for row in result.rows]
    held = sum(row.status == "holds" for row in rows)
    wrong = sum(row.status == "wrong" for row in rows)
    bad = failures(results)
    if not bad:
        return f"\nall {held} checks hold"
    return "\n".join([f"\n{wrong} of {held + wrong} checks do not hold:", *bad])


def failures(results: Sequence[Result]) -> list[str]:
    """Name every check that did not hold, and every section that ended before its end."""
    bad: list[str] = []
    for result in results:
        bad += [f"{result.name}: {row.name}" for row in result.rows if row.status == "wrong"]
        if result.ended != DONE:
            bad.append(f"{result.name} {result.ended}")
    return bad


def to_json(results: Sequence[Result]) -> str:
    """Return everything, for programs."""
    return json.dumps([asdict(result) for result in results], indent=1) + "\n"
