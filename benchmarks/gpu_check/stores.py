"""The stores that other sections read, written by several threads."""

from __future__ import annotations

import time
from typing import get_args

from gpu_check.inputs import WRITERS, make_store
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.store.schema import StorageDtype


def run(setting: Setting, report: Report) -> None:
    """Write a store of each dtype."""
    dtypes: tuple[StorageDtype, ...] = get_args(StorageDtype)
    for dtype in dtypes:
        report.verify(dtype, lambda dtype=dtype: _write(setting, report, dtype))


def _write(setting: Setting, report: Report, dtype: StorageDtype) -> None:
    began = time.perf_counter()
    store = make_store(setting.folder, setting.sizes, dtype)
    seconds = time.perf_counter() - began
    num_frames = sum(store.lengths().values())
    note = f"{len(store.lengths())} videos by {WRITERS} threads, int8 as codes"
    report.measure(f"writing {dtype}", num_frames / seconds, "frames/s", note)
