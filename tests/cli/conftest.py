"""A way to run one command, and a store to run it on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
import toy_store
from browsers import open_browser
from typer.testing import CliRunner, Result

from r2t.cli.shared.apps import new_app
from r2t.store import FeatureStore


@pytest.fixture
def make_store() -> Callable[..., FeatureStore]:
    """Write videos v0, v1, … of growing length with two queries each; two are the val split."""
    return toy_store.make_store


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    """A headless browser; the test is skipped where there is none."""
    with open_browser() as driver:
        yield driver


@pytest.fixture
def run_command() -> Callable[..., Result]:
    """Run a command function with arguments, as the shell would."""

    def run(command: Callable[..., None], *arguments: Any) -> Result:
        app = new_app()
        app.command()(command)
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run
