"""Downloads of weights, told before they begin."""

from __future__ import annotations

from r2t.cli.shared.ui import human_bytes, note


def announce_download(source: str, num_bytes: int | None) -> None:
    """Say what is about to be downloaded."""
    size = "size unknown" if num_bytes is None else human_bytes(num_bytes)
    note(f"downloading {source} ({size})")
