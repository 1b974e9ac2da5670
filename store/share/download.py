"""Fetching a file from a hub into a folder: resumed, and checked by the digest the hub gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from r2t.store.errors import ServerError, StoreError
from r2t.store.share.commits import is_same
from r2t.store.sources import HubListing, HubPlace, explained_hub_error, hub_api

MOST_CARD_BYTES = 2**20


def download(place: HubPlace, listing: HubListing, name: str, folder: Path) -> Path:
    """Fetch a file of a commit into a folder; what an earlier try left is continued.

    Raises `ServerError` if the hub refuses, has no such file, or sends other bytes than it says.
    """
    there = listing.files.get(name)
    if there is None:
        raise ServerError(f"{place}: there is no {name} at commit {listing.commit[:12]}")
    try:
        hub_api(place)  # raises offline
        path = fetch_from_hub(place, name, revision=listing.commit, local_dir=folder)
    except Exception as error:  # the hub's client raises its own, http's and the system's errors
        raise explained_hub_error(place, error) from error
    if not is_same(path, there):
        path.unlink()
        raise ServerError(
            f"{place}/{name}: what arrived is not what the hub says of it (its size or digest "
            "differs); run the same command again"
        )
    return path


def read_from_hub(
    place: HubPlace, listing: HubListing, name: str, folder: Path, most_bytes: int
) -> bytes | None:
    """Return a small file of a commit, None if it has none; raise `StoreError` if it is large."""
    there = listing.files.get(name)
    if there is None:
        return None
    if there.num_bytes > most_bytes:
        raise StoreError(
            f"{place}/{name} has {there.num_bytes:,} bytes, more than the {most_bytes:,} that it "
            "may have"
        )
    return download(place, listing, name, folder).read_bytes()


def fetch_from_hub(place: HubPlace, name: str, **options: Any) -> Path:
    """Let huggingface_hub fetch a file, with its own options, from the endpoint that is set up."""
    import huggingface_hub
    from huggingface_hub import constants

    get = cast("Any", huggingface_hub).hf_hub_download
    kind, endpoint = place.kind, constants.ENDPOINT
    return Path(get(place.repo, name, repo_type=kind, endpoint=endpoint, **options))
