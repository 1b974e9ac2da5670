"""Asking a server again where that may help, and saying what to do where it does not."""

from __future__ import annotations

import asyncio
import random
import time
import warnings
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from r2t.store.errors import ServerError, ServerWarning, StoreError
from r2t.store.sources.http import TransientError

_T = TypeVar("_T")

_ATTEMPTS = 5
_ATTEMPTS_IN_SILENCE = 3
_FIRST_PAUSE_SECONDS = 0.2
# Errors of clients that are no dependency of ours, by name.
_TRANSIENT = {
    "ClientPayloadError",
    "ClientConnectionError",
    "ConnectTimeoutError",
    "EndpointConnectionError",
    "FSTimeoutError",
    "IncompleteReadError",
    "ReadTimeoutError",
    "ResponseStreamingError",
}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}


def ask_with_retries(name: str, request: Callable[[], _T], silence: str | None = None) -> _T | None:
    """Make a request, again after a pause if it may then succeed; None if nothing is there.

    `name` is the URL that is asked for; `silence` says what it means when no answer comes. Raises
    `ServerError` where asking does not help.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return request()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except StoreError:
            raise
        except Exception as error:  # each protocol has its own
            silent = isinstance(error, TimeoutError | asyncio.TimeoutError)
            attempts = _ATTEMPTS_IN_SILENCE if silent else _ATTEMPTS
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
            raise _explained(name, error, attempt, reason) from error
    raise AssertionError("unreachable")


def _explained(name: str, error: Exception, attempts: int, reason: str) -> ServerError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & _NO_CREDENTIALS:
        return ServerError(
            f"cannot read {name}: no credentials ({error}); set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket set "
            "FSSPEC_S3_ANON=true"
        )
    if isinstance(error, PermissionError):
        return ServerError(
            f"cannot read {name}: access denied ({error}); check that it exists and that the "
            "credentials in use may read and list it"
        )
    times = f" after {attempts} attempts" if attempts > 1 else ""
    return ServerError(f"cannot read {name}{times}: {reason}")


def _host(location: str) -> str:
    return urlsplit(location.split("::")[-1]).hostname or location


def _is_transient(error: Exception) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    network = (ConnectionError, TimeoutError, asyncio.TimeoutError, TransientError)
    return isinstance(error, network) or bool(kinds & _TRANSIENT)
