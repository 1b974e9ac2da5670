"""A Dask cluster on this machine: its workers, and the GPU that each of them sees."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from distributed import Nanny, Scheduler, SpecCluster


def visible_devices(
    num_workers: int, num_gpus: int, already: str | None = None, *, only: int | None = None
) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each local worker: one GPU each, in turn; None without GPUs.

    `already` is the variable's present value, whose devices are shared out; `only` is the number of
    the one that all of them are to have.
    """
    devices = already.split(",") if already else [str(number) for number in range(num_gpus)]
    if only is not None:
        devices = devices[only : only + 1]
    if not devices:
        return [None] * num_workers
    return [devices[number % len(devices)] for number in range(num_workers)]


def split_device(device: str | torch.device | None) -> tuple[int | None, str | None]:
    """Return the number of a GPU that was asked for, and what a worker that sees it alone takes."""
    if device is None:
        return None, None
    asked = torch.device(device)
    return (asked.index, "cuda") if asked.type == "cuda" else (None, str(asked))


@contextmanager
def local_cluster(visible: Sequence[str | None], share: int) -> Generator[SpecCluster]:
    """Start a worker of `share` cores for each value of CUDA_VISIBLE_DEVICES; None sets nothing."""
    # Two threads at least, so that a worker decodes one video while it encodes another.
    options = {"nthreads": max(2, share), "host": "127.0.0.1", "silence_logs": logging.ERROR}
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                **options,
                "env": {} if device is None else {"CUDA_VISIBLE_DEVICES": device},
            },
        }
        for number, device in enumerate(visible)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": ":0"}}
    make_cluster: Any = SpecCluster  # typed as if used in a coroutine
    with make_cluster(
        workers=workers, scheduler=scheduler, silence_logs=logging.ERROR, name="r2t"
    ) as cluster:
        yield cluster
