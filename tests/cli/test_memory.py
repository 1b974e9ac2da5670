"""Where memory runs out or a GPU fails: one line with what was being done and what to do."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable

import numpy as np
import pytest
import torch
from typer.testing import Result

from r2t.cli.shared.ui import handle_errors, progress_bar

RunCommand = Callable[..., Result]
TERABYTES = 1 << 50


def of_numpy() -> None:
    np.empty(TERABYTES, np.uint8)


def of_torch() -> None:
    torch.empty(TERABYTES, dtype=torch.uint8)


def of_the_system() -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def of_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")


def of_a_library() -> None:
    raise ImportError("libfoo.so: failed to map segment from shared object")


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        (of_numpy, "1,125,899,907 MB more were asked for"),
        (of_torch, "1,125,899,907 MB more were asked for"),
        (of_the_system, "Cannot allocate memory"),
        (of_a_gpu, "2,147 MB more were asked for"),
        (of_a_library, "failed to map segment"),
    ],
)
def test_a_shortage_is_one_line(
    ask: Callable[[], None],
    asked: str,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def command() -> None:
        with handle_errors(), progress_bar("epochs", 3):
            ask()

    monkeypatch.setattr(resource, "getrlimit", lambda _: (2_000_000_000, -1))
    answer = run_command(command)
    assert answer.exit_code == 2, answer.exception
    assert answer.stderr.startswith("error: not enough memory at the epochs: ")
    assert asked in answer.stderr
    assert "this process may have 2,000 MB (ulimit -v)" in answer.stderr
    assert "smaller --batch-size" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_gpu_that_fails_is_one_line(run_command: RunCommand) -> None:
    def command() -> None:
        with handle_errors(), progress_bar("epochs", 3):
            raise RuntimeError(
                "CUDA error: an illegal memory access was encountered\n"
                "CUDA kernel errors might be asynchronously reported at some other API call.\n"
            )

    answer = run_command(command)
    assert answer.exit_code == 2, answer.exception
    assert answer.stderr.startswith("error: the GPU failed at the epochs: CUDA error: an illegal ")
    assert "what was finished is safe" in answer.stderr
    assert "--device cpu" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_an_error_that_is_no_shortage_is_not_hidden(run_command: RunCommand) -> None:
    def command() -> None:
        with handle_errors(), progress_bar("epochs", 3):
            raise RuntimeError("a fault of ours")

    assert isinstance(run_command(command).exception, RuntimeError)
