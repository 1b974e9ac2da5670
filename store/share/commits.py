"""Changing a repository on a hub: files are sent ahead, and appear together with a commit."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from r2t.store.errors import StoreError
from r2t.store.sources import (
    HubFile,
    HubListing,
    HubPlace,
    explained_hub_error,
    hub_api,
    hub_listing,
)

_SMALL_BYTES = 2**24
_OF_NEW_REPOSITORIES = frozenset({".gitattributes", ".gitignore", "README.md"})


class HubRepository:
    """A repository that is written to; it is made if it is not there."""

    def __init__(self, place: HubPlace, *, private: bool = False) -> None:
        """Raise `ServerError` if it cannot be made or read."""
        if place.path:
            raise StoreError(f"{place}: a store or a run takes a whole repository; leave the path")
        self.place = place
        self._api = hub_api(place)
        self._sent: list[Any] = []
        try:
            self._api.create_repo(place.repo, repo_type=place.kind, private=private, exist_ok=True)
        except Exception as error:  # the hub's client raises its own, http's and the system's
            raise explained_hub_error(place, error) from error
        self.url = place.page
        self.listing: HubListing = hub_listing(place)

    def require_own(self, marks: Collection[str]) -> None:
        """Raise `StoreError` if it holds files, but none of `marks`, which tell what is ours.

        What hubs themselves put into a new repository does not count.
        """
        others = self.listing.files.keys() - _OF_NEW_REPOSITORIES
        if others and not others & set(marks):
            raise StoreError(
                f"{self.place} holds something else, such as {min(others)}: give the name of a "
                f"new repository, or empty that one at {self.url}"
            )

    def send(self, path: Path, name: str) -> None:
        """Send a file ahead for the next commit to add, unless the hub has its bytes already.

        The file is not needed any more afterwards: a large one is there, a small one in memory.
        """
        from huggingface_hub import CommitOperationAdd

        addition = CommitOperationAdd(name, str(path))
        if path.stat().st_size <= _SMALL_BYTES:
            addition = CommitOperationAdd(name, path.read_bytes())
        try:
            self._api.preupload_lfs_files(
                self.place.repo,
                [addition],
                repo_type=self.place.kind,
                revision=self.place.revision,
            )
        except Exception as error:  # as above
            raise explained_hub_error(self.place, error) from error
        if getattr(addition, "_should_ignore", False):  # else the commit leaves it out silently
            raise StoreError(
                f"{self.place}: the .gitignore there names {name}, so the hub would leave it out; "
                f"change that at {self.url}"
            )
        self._sent.append(addition)

    def commit(self, message: str, deleted: Sequence[str] = ()) -> str:
        """Add what was sent and delete files, all at once; return the commit.

        Raises `ServerError` if somebody else has changed the repository since it was listed.
        """
        from huggingface_hub import CommitOperationDelete

        operations = [*self._sent, *(CommitOperationDelete(name) for name in deleted)]
        if not operations:
            return self.listing.commit
        try:
            self._api.create_commit(
                self.place.repo,
                operations,
                commit_message=message,
                repo_type=self.place.kind,
                revision=self.place.revision,
                parent_commit=self.listing.commit,
            )
        except Exception as error:  # as above
            raise explained_hub_error(self.place, error) from error
        self._sent = []
        self.listing = hub_listing(self.place)
        return self.listing.commit


def is_same(path: Path, there: HubFile | None) -> bool:
    """Whether the hub has a file with these bytes, by the digest that it gives."""
    if there is None or there.num_bytes != path.stat().st_size:
        return False
    with path.open("rb") as file:
        if there.sha256 is not None:
            return hashlib.file_digest(file, "sha256").hexdigest() == there.sha256
        blob = hashlib.sha1(f"blob {there.num_bytes}\0".encode(), usedforsecurity=False)
        while piece := file.read(2**20):
            blob.update(piece)
        return blob.hexdigest() == there.blob
