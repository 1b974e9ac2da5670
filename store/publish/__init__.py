"""Changing a store where it is kept: a folder of this machine, or a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.publish.beside import file_beside as file_beside
    from r2t.store.publish.local import LocalPublisher as LocalPublisher
    from r2t.store.publish.marks import doing_of as doing_of
    from r2t.store.publish.places import (
        open_publisher as open_publisher,
        publisher_at as publisher_at,
        unfinished_work as unfinished_work,
    )
else:
    __getattr__ = lazy_exports(__name__)
