"""Store-wide work over many videos, on Dask's threads.

Threads suffice, because what takes the time, reading and hashing, releases Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import dask
from dask.callbacks import Callback

from r2t.store.machine import allowed_cores
from r2t.store.progress import OnProgress, no_progress

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_delayed = cast("Callable[..., Any]", cast("Any", dask).delayed)
_compute = cast("Callable[..., Any]", cast("Any", dask).compute)


def map_threads(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    num_threads: int | None = None,
    on_done: OnProgress = no_progress,
) -> list[_Result]:
    """Return the results in order of the items; `on_done` is told how many there are so far.

    As many items are in memory as there are threads: by default, one a core.
    """
    num_done = 0

    def count(*_: object) -> None:
        nonlocal num_done
        num_done += 1
        on_done(num_done, len(items))

    tasks = [_delayed(function, pure=False)(item) for item in items]
    with Callback(posttask=count):
        return list(
            _compute(*tasks, scheduler="threads", num_workers=num_threads or allowed_cores())
        )
