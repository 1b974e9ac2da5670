"""Which CLIP a command loads, and its downloads, told before they begin."""

from __future__ import annotations

import r2t.extract
from r2t.cli.shared.ui import human_bytes, note


def clip_options(
    model: str | None, pretrained: str | None, device: str, *, offline: bool
) -> r2t.extract.ClipOptions:
    """Return what `--model`, `--pretrained`, `--device` and `--offline` say of the CLIP to load."""
    return r2t.extract.ClipOptions(
        model=model,
        pretrained=pretrained,
        device=None if device == "auto" else device,
        offline=offline,
        announce=announce_download,
    )


def announce_download(source: str, num_bytes: int | None) -> None:
    """Say what is about to be downloaded."""
    size = "size unknown" if num_bytes is None else human_bytes(num_bytes)
    note(f"downloading {source} ({size})")
