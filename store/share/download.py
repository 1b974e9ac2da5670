"""Fetching a file of a hub into a folder: resumed, and proved by the digest that the hub tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r2t.store.errors import ServerError
from r2t.store.share.commits import is_same
from r2t.store.sources import HubListing, HubPlace, explained_hub_error, hub_api


def download(place: HubPlace, listing: HubListing, name: str, folder: Path) -> Path:
    """Fetch a file of a commit into a folder; what an earlier try left is continued.

    Raises `ServerError` if the hub refuses, has no such file, or sends other bytes than it says.
    """
    import huggingface_hub
    from huggingface_hub import constants

    there = listing.files.get(name)
    if there is None:
        raise ServerError(f"{place}: there is no {name} at commit {listing.commit[:12]}")
    try:
        hub_api(place)  # raises offline
        fetch: Any = huggingface_hub.hf_hub_download
        path = Path(
            fetch(
                place.repo,
                name,
                repo_type=place.kind,
                revision=listing.commit,
                local_dir=folder,
                endpoint=constants.ENDPOINT,
            )
        )
    except Exception as error:  # the hub's client raises its own, http's and the system's errors
        raise explained_hub_error(place, error) from error
    if not is_same(path, there):
        path.unlink()
        raise ServerError(
            f"{place}/{name}: what arrived is not what the hub says of it (its size or digest "
            "differs); run the same command again"
        )
    return path
