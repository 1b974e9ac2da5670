"""The CLIP that a run was trained with, loaded again and proven to be the one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from r2t.cli.compatibility import require_compatible
from r2t.cli.ui import human_bytes, note

if TYPE_CHECKING:
    from r2t.extract.query_encoder import QueryEncoder
    from r2t.train.grounder import Grounder


def load_query_encoder(
    grounder: Grounder, model: str | None, pretrained: str | None, *, device: str, offline: bool
) -> QueryEncoder:
    """Load the text tower alone of the CLIP whose features a run was trained on."""
    from r2t.extract.query_encoder import QueryEncoder

    spec, recorded = grounder.spec, grounder.provenance
    encoder = QueryEncoder.load(
        model or recorded.get("model", spec.model),
        pretrained or recorded.get("pretrained"),
        spec.text_layers,
        device=device,
        offline=offline,
        announce=announce_download,
    )
    given = replace(
        spec,
        model=encoder.model,
        weights_sha256=encoder.weights_sha256,
        text_width=encoder.text_width,
    )
    require_compatible(
        spec, given, action=f"ask a run trained on other features than {encoder.model} makes"
    )
    return encoder


def announce_download(source: str, num_bytes: int | None) -> None:
    """Say what is about to be downloaded."""
    size = "size unknown" if num_bytes is None else human_bytes(num_bytes)
    note(f"downloading {source} ({size})")
