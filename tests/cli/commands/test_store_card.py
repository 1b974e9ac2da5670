"""`r2t store card`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from r2t.cli.commands.store.card import card
from r2t.cli.commands.store.info import info
from r2t.store import FeatureStore


@pytest.fixture
def store(make_store: Callable[..., FeatureStore], tmp_path: Path) -> Path:
    return Path(make_store(tmp_path / "feats.zarr", num_videos=3).location)


def test_what_was_said_stays_until_something_else_is_said(
    store: Path, run_command: Callable[..., Result], tmp_path: Path
) -> None:
    bibliography = tmp_path / "paper.bib"
    bibliography.write_text("@misc{toys}")
    first = run_command(
        card, store, "--licence", "cc-by-4.0", "--citation", bibliography, "--title", "Toys"
    )
    assert first.exit_code == 0, first.output
    second = run_command(card, store, "--title", "", "--json")
    found = json.loads(second.stdout)
    assert found["card"] == {"licence": "CC-BY-4.0", "citation": "@misc{toys}"}
    assert found["files"] == [str(store / "README.md"), str(store / "croissant.json")]
    assert "@misc{toys}" in (store / "README.md").read_text()
    shown = run_command(info, store, "--json")
    assert json.loads(shown.stdout)["card"] == found["card"]


def test_an_unstated_licence_is_pointed_out(
    store: Path, run_command: Callable[..., Result]
) -> None:
    result = run_command(card, store)
    assert result.exit_code == 0
    assert "no licence is stated" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--licence", "CC BY 4.0", "no SPDX licence"),
        ("--url", "javascript:alert(1)", "url"),
        ("--title", "two\nlines", "one line"),
        ("--citation", "x" * 20_001, "at most 20,000"),
    ],
)
def test_illegal_texts_write_nothing(
    store: Path, run_command: Callable[..., Result], option: str, value: str, message: str
) -> None:
    before = sorted(store.rglob("*"))
    result = run_command(card, store, option, value)
    assert result.exit_code == 2
    assert message in result.stderr
    assert sorted(store.rglob("*")) == before
