"""docs/trust.md against the code: every command, every number shown, every test that it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from r2t.cli.answers.reels import Reel
from r2t.cli.main import app
from r2t.extract.reel.segments import Segment
from r2t.train.grounding.presence import PresenceRule
from r2t.train.model.decode import Grounding

ROOT = Path(__file__).parent.parent
TRUST = ROOT / "docs" / "trust.md"
SILENT = "Commands that show no such number"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(?:\w+::)?(\w+)`")
# Fields that say when, how long or in which words, and judge nothing.
NO_JUDGEMENT = {
    Grounding: {"frame_rate_fps", "duration_seconds", "caveat"},
    PresenceRule: {"score", "frame_rate", "num_present", "num_absent"},
    Reel: {"segments", "label", "duration_seconds", "frame_rate_fps", "curve_name"},
    Segment: {"start_seconds", "end_seconds"},
}


def commands(group: Any, name: str = "") -> Iterator[str]:
    """Yield the words that call each command."""
    for child, inner in group.commands.items():
        loaded = inner.load()
        words = f"{name} {child}".strip()
        if hasattr(loaded, "commands"):
            yield from commands(loaded, words)
        else:
            yield words


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table of numbers: seen, where, must beat, figure, tests."""
    lines = text.partition("| what you see |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def commands_in(text: str) -> set[str]:
    """Return the commands that a text names, as `r2t store info`."""
    return set(re.findall(r"`r2t ([a-z -]+?)`", text))


def missing_commands(text: str) -> set[str]:
    """Return the commands that are neither in the table nor in the list of silent ones."""
    known = {name for cells in rows(text) for name in commands_in(cells[1])}
    return set(commands(get_command(app))) - known - commands_in(text.partition(SILENT)[2])


def missing_tests(text: str) -> list[str]:
    """Return the tests that the table names and nobody wrote."""
    found: list[str] = []
    for file, name in TEST.findall(text):
        path = ROOT / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.parse("")
        if name not in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}:
            found.append(f"{file}::{name}")
    return found


def missing_fields(text: str) -> set[str]:
    """Return the fields of answers that judge something and have no row."""
    table = " ".join(cell for cells in rows(text) for cell in cells)
    return {
        f"{owner.__name__}.{each.name}"
        for owner, passed_over in NO_JUDGEMENT.items()
        for each in fields(owner)
        if each.name not in passed_over and f"`{owner.__name__}.{each.name}`" not in table
    }


def test_every_command_is_in_the_table_or_shows_no_such_number() -> None:
    text = TRUST.read_text(encoding="utf-8")
    assert missing_commands(text) == set()
    named = {name for cells in rows(text) for name in commands_in(cells[1])}
    named |= commands_in(text.partition(SILENT)[2])
    assert named <= set(commands(get_command(app))), "a command that does not exist"
    assert missing_commands(text.replace("`r2t search`", "")) == {"search"}


def test_every_number_of_an_answer_has_a_row() -> None:
    text = TRUST.read_text(encoding="utf-8")
    assert missing_fields(text) == set()
    assert missing_fields(text.replace("`Grounding.video_score`", "")) == {"Grounding.video_score"}
    for owner, passed_over in NO_JUDGEMENT.items():
        assert passed_over <= {each.name for each in fields(owner)}, owner


def test_every_row_says_what_it_must_beat_and_names_tests_that_exist() -> None:
    text = TRUST.read_text(encoding="utf-8")
    assert missing_tests(text) == []
    for cells in rows(text):
        assert len(cells) == 5, cells
        assert all(cells), cells
        assert TEST.search(cells[4]), cells[0]


@pytest.mark.parametrize(
    "named", ["`tests/test_trust.py::test_nobody_wrote`", "`tests/test_absent.py::test_saliency`"]
)
def test_a_test_that_nobody_wrote_is_found(named: str) -> None:
    assert missing_tests(named) == [named.strip("`")]
