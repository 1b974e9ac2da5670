"""Places that cannot be written: one line with what to do, exit 2, and nothing lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from r2t.cli.commands.store.coverage import coverage
from r2t.cli.commands.train.train import train
from r2t.cli.main import app
from r2t.cli.shared.ui import handle_errors
from r2t.store import FeatureStore

RunCommand = Callable[..., Result]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_what_a_disk_refuses_is_one_line(code: int, run_command: RunCommand) -> None:
    def command() -> None:
        with handle_errors():
            raise OSError(code, os.strerror(code), "/media/out/report.html")

    answer = run_command(command)
    assert answer.exit_code == 2
    assert answer.stderr.startswith("error: ")
    assert "/media/out/report.html" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_an_error_that_no_disk_reported_is_not_hidden(run_command: RunCommand) -> None:
    def command() -> None:
        with handle_errors():
            raise OSError("a fault of ours")

    assert isinstance(run_command(command).exception, OSError)


def test_an_interruption_promises_only_that_the_command_can_be_run_again(
    run_command: RunCommand,
) -> None:
    def command() -> None:
        with handle_errors():
            raise KeyboardInterrupt

    answer = run_command(command)
    assert answer.exit_code == 130
    assert answer.stderr == "interrupted; run the same command again\n"


def test_a_list_cannot_replace_a_folder(
    run_command: RunCommand, make_store: Callable[..., FeatureStore], tmp_path: Path
) -> None:
    store = make_store(tmp_path / "feats.zarr")
    (tmp_path / "list").mkdir()
    answer = run_command(coverage, store.location, "--list", tmp_path / "list")
    assert answer.exit_code == 2
    assert answer.stderr == f"error: {tmp_path / 'list'} is a folder; give the path of a file\n"


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_run_cannot_go_where_a_file_is(
    place: str,
    run_command: RunCommand,
    make_store: Callable[..., FeatureStore],
    tmp_path: Path,
) -> None:
    store = make_store(tmp_path / "feats.zarr")
    (tmp_path / "file").write_text("in the way")
    options: dict[str, Any] = {"--store": store.location, "--out": tmp_path / place}
    answer = run_command(train, *(word for pair in options.items() for word in pair))
    assert answer.exit_code == 2, answer.exception
    assert "error: " in answer.stderr
    assert str(tmp_path / "file") in answer.stderr
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("predict", "https://host/dog.mp4", "a dog"), "video https://host/dog.mp4"),
        (("train", "--store", "x.zarr", "--out", "s3://bucket/run"), "--out s3://bucket/run"),
        (("eval", "--annotations", "HTTPS://host/a.jsonl"), "--annotations HTTPS://host/a.jsonl"),
        (("store", "export", "x.zarr", "--out", "gs://b/x"), "--out gs://b/x"),
        (("compare", "a.jsonl", "https://host/b.jsonl", "--annotations", "v"), "https://host/b"),
    ],
)
def test_a_url_is_no_path(
    words: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 2
    assert named in answer.stderr
    assert "this is a URL; give the path" in answer.stderr
    assert list(tmp_path.iterdir()) == []
