"""A few files as a repository of a hub: sent together, and fetched by name and size.

What is fetched is decided here and not by what the repository holds: other names are left there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r2t.store.card import README, readme_to_send
from r2t.store.errors import ConfigError, ServerError, StoreError
from r2t.store.files import commit_folder
from r2t.store.format import storage_errors
from r2t.store.share.commits import HubRepository, is_same
from r2t.store.share.download import (
    MOST_CARD_BYTES,
    download,
    fetch_from_hub,
    read_from_hub,
)
from r2t.store.sources import HubListing, HubPlace, explained_hub_error, hub_listing
from r2t.store.work_folders import make_own_folder


@dataclass(frozen=True)
class FileRules:
    """The files of a `what` that are fetched: the most bytes of each, and which must be there.

    The last of `required` is a file that no other kind of repository has.
    """

    what: str
    most_bytes: Mapping[str, int]
    required: tuple[str, ...]

    def require_fitting(self, place: HubPlace, listing: HubListing) -> list[str]:
        """Return the names that are there; raise `StoreError` if they make no `what`."""
        if missing := [name for name in self.required if name not in listing.files]:
            raise StoreError(
                f"{place} holds no {self.what}: it lacks {', '.join(missing)}; see {place.page}"
            )
        names = [name for name in self.most_bytes if name in listing.files]
        for name in names:
            if listing.files[name].num_bytes > self.most_bytes[name]:
                raise StoreError(
                    f"{place}/{name} has {listing.files[name].num_bytes} bytes, more than the "
                    f"{self.most_bytes[name]} that it may have"
                )
        return names


@dataclass(frozen=True)
class SentFiles:
    """What the hub has now; `num_new` of the files were sent, the others were there before."""

    url: str
    commit: str
    files: tuple[str, ...]
    num_new: int


def push_files(
    url: str,
    files: Mapping[str, Path | bytes],
    message: str,
    rules: FileRules,
    *,
    private: bool = False,
) -> SentFiles:
    """Send files, or texts, to `hf://ORG/NAME`, which is made if need be, in one commit.

    What people wrote into README.md there is kept. Raises `ServerError` if the hub refuses, and
    `StoreError` if the repository holds something else than the `rules` require, or people wrote
    there what would be replaced.
    """
    place = require_model(url)
    repository = HubRepository(place, private=private)
    repository.require_own(rules.required[-1:])
    num_new = 0
    with tempfile.TemporaryDirectory(prefix="r2t-push-") as scratch:
        for name, content in files.items():
            path = content if isinstance(content, Path) else Path(scratch, name)
            if name == README:
                content = _readme(repository, path, Path(scratch, "there"))
                path = Path(scratch, name)
            if isinstance(content, bytes):
                path.write_bytes(content)
            if not is_same(path, repository.listing.files.get(name)):
                repository.send(path, name)
                num_new += 1
        commit = repository.commit(message)
    return SentFiles(str(place), commit, tuple(files), num_new)


def _readme(repository: HubRepository, path: Path, scratch: Path) -> bytes:
    """Return the card to send, with what people wrote at the hub."""
    place = repository.place
    there = read_from_hub(place, repository.listing, README, scratch, MOST_CARD_BYTES)
    return readme_to_send(path.read_bytes(), there, f"{place}/{README}", str(path))


def pull_files(url: str, into: Path, rules: FileRules) -> tuple[str, list[Path]]:
    """Fetch files into a new folder; return the commit and the files.

    The folder appears whole. Until then what arrived is kept beside it, so that the same call
    continues after an interruption.
    """
    place = require_model(url)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ConfigError(f"{into} is there already: give a new folder")
    listing = hub_listing(place)
    names = rules.require_fitting(place, listing)
    scratch = into.resolve().with_name(f"{into.name}.pull")
    with storage_errors(into):
        scratch.parent.mkdir(parents=True, exist_ok=True)
        make_own_folder(scratch, "remove it, or pull to another place")
        ready = scratch / "ready"
        shutil.rmtree(ready, ignore_errors=True)  # of another commit perhaps
        paths = [download(place, listing, name, scratch) for name in names]
        ready.mkdir()
        for path in paths:
            os.replace(path, ready / path.name)
        commit_folder(ready, into)
        shutil.rmtree(scratch)
    return listing.commit, [into / name for name in names]


def cached_files(url: str, rules: FileRules, *, offline: bool) -> Path:
    """Return a folder of Hugging Face's cache with the files, fetched if they are not there.

    Raises `StoreError` if it holds no such thing, or `offline` and the cache lacks it.
    """
    from huggingface_hub import constants

    place = require_model(url)
    offline = offline or constants.HF_HUB_OFFLINE
    first, revision = rules.required[0], place.revision
    try:
        if offline:
            folder = fetch_from_hub(place, first, revision=revision, local_files_only=True).parent
        else:
            listing = hub_listing(place)
            names = rules.require_fitting(place, listing)
            # By the revision's own name, so that the cache knows it when there is no network.
            fetch_from_hub(place, first, revision=revision)
            paths = [fetch_from_hub(place, name, revision=listing.commit) for name in names]
            folder = paths[0].parent
            _require_same(place, listing, folder, names)
    except StoreError:
        raise
    except Exception as error:  # the hub's client raises its own, http's and the system's errors
        if offline:
            cache = constants.HF_HUB_CACHE
            raise StoreError(
                f"offline, and {place} is not in the cache {cache}: run the command once with a "
                "network, or give a run's folder"
            ) from error
        raise explained_hub_error(place, error) from error
    if missing := [name for name in rules.required if not (folder / name).is_file()]:
        raise StoreError(f"{place}: the cache lacks {', '.join(missing)}; run once with a network")
    return folder


def is_cached(folder: Path) -> bool:
    """Whether a folder is one of Hugging Face's cache, where nobody looks for results."""
    from huggingface_hub import constants

    return folder.resolve().is_relative_to(Path(constants.HF_HUB_CACHE).resolve())


def require_model(url: str) -> HubPlace:
    """Return the place of a repository of files that are no dataset."""
    place = HubPlace.parse(url)
    if place.kind != "model" or place.path:
        raise ConfigError(
            f"{url}: a run is a model: give hf://{place.repo}, with @REVISION if need be"
        )
    return place


def _require_same(place: HubPlace, listing: HubListing, folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        if not is_same(path, listing.files[name]):
            path.resolve().unlink()
            path.unlink()
            raise ServerError(
                f"{place}/{name}: what is here is not what the hub says of it (its size or digest "
                "differs); run the same command again"
            )
