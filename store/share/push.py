"""Sending a store to a hub as a set of zips, resumed where it was broken off.

Zips are made one at a time and sent ahead; from time to time those that arrived are committed with
their records, so that the next try does not make them again. The manifest comes with the last
commit. Until then the repository is what it was: whoever reads it meanwhile reads the old set.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r2t.store.card import README, readme_to_send, require_own_document
from r2t.store.change import DEFAULT_ZIP_BYTES, SetPacker, card_files
from r2t.store.errors import StoreError
from r2t.store.files import write_whole
from r2t.store.format import (
    ZIP_MANIFEST,
    VideosZip,
    ZipManifest,
    storage_errors,
    unfinished_from_json,
    unfinished_to_json,
)
from r2t.store.progress import OnProgress, no_progress
from r2t.store.share.commits import HubRepository, is_same
from r2t.store.share.download import MOST_CARD_BYTES, read_from_hub
from r2t.store.sources import MAX_READ_BYTES, HubListing, HubPlace

UNFINISHED_ZIPS = "r2t-zips.unfinished.json"
"""The records of zips that have arrived, while others are still to come."""

_ZIPS_PER_COMMIT = 16
_OURS = re.compile(r"(index|videos)-[0-9a-f]{16}\.zip")


@dataclass(frozen=True)
class PushReport:
    """What the hub has now; `num_new` of its zips were sent, the others were there before."""

    url: str
    commit: str
    num_zips: int
    num_new: int
    num_videos: int
    num_queries: int
    num_bytes: int
    content: str


def push_store(
    location: str | Path,
    url: str,
    *,
    max_bytes: int = DEFAULT_ZIP_BYTES,
    private: bool = False,
    quick: bool = False,
    on_video: OnProgress = no_progress,
) -> PushReport:
    """Send a local store, with its card, to `hf://datasets/ORG/NAME`, which is made if need be.

    What people wrote into README.md there is kept.

    Every video that is sent is checked first; `quick` trusts the tokens' bytes. With `private`,
    a repository that is made for it is not shown to others.

    Raises:
        ServerError: the hub refuses, or somebody else pushes meanwhile.
        StoreError: the store is remote, damaged, of format version 1, the repository holds
            something else, or people wrote there what would be replaced.
    """
    place = HubPlace.parse(url)
    if place.kind != "dataset":
        raise StoreError(f"{url}: a store is a dataset: give hf://datasets/{place.repo}")
    packer = SetPacker(location)
    packer.plan(max_bytes)
    repository = HubRepository(place, private=private)
    repository.require_own((ZIP_MANIFEST, UNFINISHED_ZIPS))
    with (
        storage_errors(Path(location)),
        tempfile.TemporaryDirectory(
            dir=Path(location).resolve().parent, prefix=".r2t-push-"
        ) as scratch,
    ):
        return _push(packer, repository, Path(scratch), max_bytes, quick, on_video)


def _push(
    packer: SetPacker,
    repository: HubRepository,
    scratch: Path,
    max_bytes: int,
    quick: bool,
    on_video: OnProgress,
) -> PushReport:
    card = _card(packer, repository, scratch)
    present = _made(repository.place, repository.listing, scratch)
    planned = packer.plan(max_bytes, present)
    total = sum(len(each.rows) for each in planned)
    made: list[VideosZip] = []
    done = waiting = num_new = 0
    for each in planned:
        if each.made is None:
            target = scratch / each.name
            made.append(packer.write_videos(each, target, quick=quick))
            repository.send(target, each.name)
            target.unlink()
            num_new += 1
            waiting += 1
        else:
            made.append(each.made)
        done += len(each.rows)
        on_video(done, total)
        if waiting == _ZIPS_PER_COMMIT:
            _commit_some(repository, scratch, made)
            waiting = 0
    index = packer.write_index(scratch)
    manifest = packer.manifest(index, made)
    write_whole(scratch / ZIP_MANIFEST, manifest.to_json())
    for name, content in card.items():
        write_whole(scratch / name, content)
    for name in (index.name, ZIP_MANIFEST, *card):
        if not is_same(scratch / name, repository.listing.files.get(name)):
            repository.send(scratch / name, name)
            num_new += name == index.name
    commit = repository.commit(
        f"{total} videos, {len(packer.store.query_digests())} sentences",
        _outdated(repository.listing, manifest),
    )
    zips = manifest.zips()
    return PushReport(
        url=str(repository.place),
        commit=commit,
        num_zips=len(zips),
        num_new=num_new,
        num_videos=total,
        num_queries=len(packer.store.query_digests()),
        num_bytes=sum(each.num_bytes for each in zips),
        content=manifest.content,
    )


def _card(packer: SetPacker, repository: HubRepository, scratch: Path) -> dict[str, bytes]:
    """Return the card to send: the store's, with what people wrote at the hub."""
    place, listing = repository.place, repository.listing
    card = card_files(packer.root)
    there = {name: read_from_hub(place, listing, name, scratch, MOST_CARD_BYTES) for name in card}
    for name in card:
        if name == README:
            other = f"{packer.root.location}/{name}"
            card[name] = readme_to_send(card[name], there[name], f"{place}/{name}", other)
        else:
            require_own_document(there[name], f"{place}/{name}")
    return card


def _commit_some(repository: HubRepository, scratch: Path, made: Sequence[VideosZip]) -> None:
    """Commit the zips that were sent, with the records of all that are there."""
    write_whole(scratch / UNFINISHED_ZIPS, unfinished_to_json(made))
    repository.send(scratch / UNFINISHED_ZIPS, UNFINISHED_ZIPS)
    repository.commit(f"{len(made)} zips of videos, more to come")


def _made(place: HubPlace, listing: HubListing, scratch: Path) -> list[VideosZip]:
    """Return the records of zips of videos that the hub still has, by size and digest."""
    records: list[VideosZip] = []
    if content := read_from_hub(place, listing, ZIP_MANIFEST, scratch, MAX_READ_BYTES):
        records += ZipManifest.from_json(content, f"{place}/{ZIP_MANIFEST}").videos
    if content := read_from_hub(place, listing, UNFINISHED_ZIPS, scratch, MAX_READ_BYTES):
        records += unfinished_from_json(content, f"{place}/{UNFINISHED_ZIPS}")
    return [
        each
        for each in {record.name: record for record in records}.values()
        if (there := listing.files.get(each.name)) is not None
        and (there.num_bytes, there.sha256) == (each.num_bytes, each.sha256)
    ]


def _outdated(listing: HubListing, manifest: ZipManifest) -> list[str]:
    """Return our zips that are not of the new set, and what an interruption left."""
    current = {each.name for each in manifest.zips()}
    return sorted(
        name
        for name in listing.files
        if name == UNFINISHED_ZIPS or (_is_ours(name) and name not in current)
    )


def _is_ours(name: str) -> bool:
    return _OURS.fullmatch(name) is not None
