"""Making a store that holds nothing yet: its header, and a group for each kind of content."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from r2t.store.format import Publisher, StoreHeader, group_names, open_group
from r2t.store.schema import EmbeddingSpec, FeatureSpec


def make_empty_store(
    publisher: Publisher,
    spec: FeatureSpec,
    provenance: Mapping[str, Any],
    embedding: EmbeddingSpec | None,
) -> None:
    """Make an empty store, whole or not at all; another process may be quicker."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    header = StoreHeader(
        spec=spec, provenance={**provenance, "created": created}, embedding=embedding
    )
    with publisher.errors(), publisher:
        unfinished = publisher.work / "empty"
        write_groups(unfinished, header)
        publisher.create(unfinished)


def write_groups(folder: Path, header: StoreHeader) -> None:
    """Write the groups that every store has; `header` is what the store says of itself."""
    open_group(str(folder), "a", {"r2t": header.to_dict()})
    for name in group_names(header.format_version):
        open_group(str(folder / name), "a")
