"""Asking a server again where that may help, and saying what to do where it does not."""

from __future__ import annotations

import asyncio
import random
import time
import warnings
from collections.abc import Callable
from itertools import count
from typing import TypeVar
from urllib.parse import urlsplit

from r2t.store.errors import NoAnswerError, ServerError, ServerWarning, StoreError

_T = TypeVar("_T")


class TransientError(Exception):
    """A request that may succeed if it is made again."""


class BusyError(TransientError):
    """A service that has more to do than it can, and may take a while."""


_ATTEMPTS = 5
_ATTEMPTS_IN_SILENCE = 3
_ATTEMPTS_WHEN_BUSY = 8  # half a minute: a service that asks for patience
_FIRST_PAUSE_SECONDS = 0.2
# Errors of aiohttp, which is no dependency of ours, and of fsspec, by name.
_TRANSIENT = {"ClientPayloadError", "ClientConnectionError", "FSTimeoutError"}


def ask_with_retries(
    name: str, request: Callable[[], _T], silence: str | None = None, verb: str = "read"
) -> _T | None:
    """Make a request, again after a pause if it may then succeed; None if nothing is there.

    `name` is the URL that is asked for, and `verb` what for; `silence` says what it means when no
    answer comes. Raises `ServerError` where asking does not help, `NoAnswerError` where it has not
    helped so far.
    """
    for attempt in count(1):
        try:
            return request()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except StoreError:
            raise
        except Exception as error:  # each protocol has its own
            silent = isinstance(error, TimeoutError | asyncio.TimeoutError)
            attempts = _attempts(error, silent)
            if attempt < attempts and _is_transient(error):
                if silent:
                    warnings.warn(
                        f"{_host(name)} does not answer; asked again, "
                        f"{attempts - attempt} more times",
                        ServerWarning,
                        stacklevel=2,
                    )
                pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
                time.sleep(pause * random.uniform(0.5, 1.5))
                continue
            reason = silence if silent and silence else str(error) or repr(error)
            raise _explained(f"{verb} {name}", error, attempt, reason) from error
    raise AssertionError("unreachable")


def _attempts(error: Exception, silent: bool) -> int:
    if silent:
        return _ATTEMPTS_IN_SILENCE
    return _ATTEMPTS_WHEN_BUSY if isinstance(error, BusyError) else _ATTEMPTS


def _explained(asked: str, error: Exception, attempts: int, reason: str) -> ServerError:
    if isinstance(error, PermissionError):
        verb = asked.split(" ")[0]
        return ServerError(
            f"cannot {asked}: access denied ({error}); check that it exists and that the "
            f"credentials in use may {verb} it"
        )
    times = f" after {attempts} attempts" if attempts > 1 else ""
    kind = NoAnswerError if _is_transient(error) else ServerError
    return kind(f"cannot {asked}{times}: {reason}")


def _host(location: str) -> str:
    return urlsplit(location.split("::")[-1]).hostname or location


def _is_transient(error: Exception) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    network = (ConnectionError, TimeoutError, asyncio.TimeoutError, TransientError)
    return isinstance(error, network) or bool(kinds & _TRANSIENT)
