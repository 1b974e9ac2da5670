"""Stores and runs on a hub: pushed and pulled, resumed and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.share.pull import PullReport as PullReport, pull_store as pull_store
    from r2t.store.share.push import PushReport as PushReport, push_store as push_store
    from r2t.store.share.small_files import (
        FileRules as FileRules,
        cached_files as cached_files,
        is_cached as is_cached,
        pull_files as pull_files,
        push_files as push_files,
    )
else:
    __getattr__ = lazy_exports(__name__)
