"""A folder for one training: made for it, kept from others, and removed if it stays empty."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path

from r2t.store.errors import ConfigError, RunWarning
from r2t.store.files import require_writable
from r2t.store.work_folders import exclusive


@contextlib.contextmanager
def reserved_folder(parent: Path, name: str) -> Generator[Path]:
    """Make a folder of this name, or name-2 and so on, for one run; remove it if it stays empty."""
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    for number in itertools.count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"cannot make {path}: {error.strerror or error}") from error
        try:
            yield path
        finally:
            _remove_empty([path, *made])
        return


@contextlib.contextmanager
def held_folder(path: Path) -> Generator[None]:
    """Make a run's folder and lock it for one training; remove it if nothing is put there.

    The lock is advisory. A disk that does not support locks causes a `RunWarning`.

    Raises:
        ConfigError: if nothing can be written there, or another training writes there.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        with contextlib.suppress(OSError):  # which the next line says better
            path.mkdir(parents=True, exist_ok=True)
        require_writable_run(path)
        try:
            locked = stack.enter_context(exclusive(path))
        except BlockingIOError as error:
            raise ConfigError(
                f"another training is writing into {path}: wait until it has ended, or "
                "choose another folder"
            ) from error
        if not locked:
            warnings.warn(
                f"the disk that holds {path} does not support locks: make sure that no "
                "other training writes into this folder",
                RunWarning,
                stacklevel=3,
            )
        yield


def require_writable_run(path: Path) -> None:
    """Raise `ConfigError` if nothing can be written into a run, before work is spent on it."""
    try:
        require_writable(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write into {path}: {error.strerror or error}; give another folder"
        ) from error


def _remove_empty(folders: Sequence[Path]) -> None:
    for path in folders:
        with contextlib.suppress(OSError):  # there is something in it
            path.rmdir()
