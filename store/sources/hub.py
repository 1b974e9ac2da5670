"""Repositories of the Hugging Face hub, or of another server that `HF_ENDPOINT` names.

Files are read by ranges over http(s) from the addresses where the hub resolves them, all at the
commit that the revision named when it was asked first: what is read fits together, though somebody
pushes meanwhile. That costs one question, one for each file that lies elsewhere, and then a request
a range; huggingface_hub's own file system asks for the listing of each folder besides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import quote

from r2t.store.errors import ConfigError, ServerError, StoreError, in_one_line
from r2t.store.sources.http_folder import HttpFolder
from r2t.store.wording import how_to_install

HUB = "hf://"
RepoKind = Literal["model", "dataset"]

_PLACE = re.compile(
    r"hf://(?P<datasets>datasets/)?(?P<repo>[^/@\s]+/[^/@\s]+)"
    r"(@(?P<revision>refs/(?:pr|convert)/[^/@\s]+|[^/@\s]+))?(?P<path>(/[^/]+)*)/?"
)
_QUERY = re.compile(r"(?<=\S)\?[^\s'\"]*=[^\s'\"]*")  # of a URL; it may be a signature
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:[.-][A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class HubPlace:
    """A repository of the hub, at a revision (None: its main branch), and a path in it."""

    kind: RepoKind
    repo: str
    revision: str | None = None
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> HubPlace:
        """Read `hf://[datasets/]org/name[@revision][/path]`; raise `ConfigError` on anything else.

        Without `datasets/` it is a repository of a model.
        """
        found = _PLACE.fullmatch(url)
        parts = found["repo"].split("/") if found else []
        path = (found["path"] if found else "").strip("/")
        legal = all(_PART.fullmatch(part) and len(part) <= 96 for part in parts)
        if not found or not legal or {".", ".."} & set(path.split("/")):
            raise ConfigError(
                f"{url!r}: give hf://datasets/ORG/NAME for a store, hf://ORG/NAME for a run, with "
                "@REVISION behind it if another than the newest is meant"
            )
        if parts[0] in ("spaces", "datasets", "models", "buckets"):
            raise ConfigError(f"{url!r}: {parts[0]} of the hub are not read; give {HUB}ORG/NAME")
        return cls(
            "dataset" if found["datasets"] else "model", found["repo"], found["revision"], path
        )

    def __str__(self) -> str:
        prefix = "datasets/" if self.kind == "dataset" else ""
        revision = f"@{self.revision}" if self.revision else ""
        path = f"/{self.path}" if self.path else ""
        return f"{HUB}{prefix}{self.repo}{revision}{path}"

    @property
    def page(self) -> str:
        """The address of the repository's page, for people."""
        prefix = "datasets/" if self.kind == "dataset" else ""
        return f"{_endpoint()}/{prefix}{self.repo}"

    def resolve_url(self, commit: str) -> str:
        """Return the address of the path's bytes at a commit."""
        path = f"/{quote(self.path)}" if self.path else ""
        return f"{self.page}/resolve/{quote(commit, safe='')}{path}"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size, and the digest that the hub has of it.

    `sha256` is that of a large file, `blob` git's of a small one.
    """

    num_bytes: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class HubListing:
    """All files of a repository at a commit, by their paths."""

    commit: str
    files: Mapping[str, HubFile]


def is_hub_url(location: object) -> bool:
    """Whether a location is a place on the hub."""
    return str(location).lower().startswith(HUB)


def hub_api(place: HubPlace) -> Any:
    """Return huggingface_hub's client, for the endpoint and the token that are set up.

    Raises `StoreError` where `HF_HUB_OFFLINE` is set.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise StoreError(f"{place}: HF_HUB_OFFLINE is set, so the hub is not asked")
    return HfApi(endpoint=_endpoint())


def hub_listing(place: HubPlace) -> HubListing:
    """Ask which files a repository has at a revision; raise `ServerError` saying what to do."""
    try:
        info = hub_api(place).repo_info(
            place.repo, repo_type=place.kind, revision=place.revision, files_metadata=True
        )
    except Exception as error:  # the hub's client raises its own, http's and the system's errors
        raise explained_hub_error(place, error) from error
    files = {
        each.rfilename: HubFile(each.size or 0, each.lfs and each.lfs["sha256"], each.blob_id)
        for each in info.siblings or ()
    }
    return HubListing(info.sha, files)


def open_hub_folder(url: str) -> HttpFolder:
    """Return the files below a place on the hub, at the commit that its revision names now."""
    place = HubPlace.parse(url)
    try:
        info = hub_api(place).repo_info(
            place.repo, repo_type=place.kind, revision=place.revision, expand=["sha"]
        )
    except Exception as error:  # as above
        raise explained_hub_error(place, error) from error
    import fsspec  # pyright: ignore[reportMissingTypeStubs]

    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        http = cast("Any", fsspec).filesystem("http", headers=headers, skip_instance_cache=True)
    except ImportError as error:
        raise StoreError(
            f"cannot open {url}: reading from the hub needs a package that is not installed; "
            f"{how_to_install('http')}"
        ) from error
    return HttpFolder(url, http, place.resolve_url(info.sha), keeps_redirects=True)


def explained_hub_error(place: HubPlace, error: Exception) -> StoreError:
    """Say in one line why the hub refuses, and what to do; no token is ever part of it."""
    from huggingface_hub import errors

    if isinstance(error, StoreError):
        return error
    log_in = "log in with `hf auth login`, or set HF_TOKEN to a token that may"
    if isinstance(error, errors.GatedRepoError):
        return ServerError(
            f"{place} is gated: accept its conditions at {place.page}, and {log_in} read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ServerError(f"{place}: the repository has no such revision; see {place.page}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ServerError(
            f"there is no {place}, or it is private: check the name; for a private one {log_in} "
            "see it"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return ServerError(f"{place}: the repository lacks a file: {_unsigned(error)}")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return ServerError(f"{place}: the hub refuses (status {status}): {log_in} do this")
    return ServerError(
        f"{place}: the hub cannot be used: {_unsigned(error)}; what arrived is kept: run the "
        "same command again"
    )


def _unsigned(error: Exception) -> str:
    token, cause = _token(), error.__cause__
    text = in_one_line(error)
    if isinstance(cause, Exception):
        text = f"{text} ({in_one_line(cause)})"
    text = _QUERY.sub("?…", text)
    return text.replace(token, "<token>") if token else text


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT.rstrip("/")
