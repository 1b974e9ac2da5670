"""Fetching a store from a hub into a folder: zip by zip, with every digest checked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from r2t.store.card import read_card, write_card
from r2t.store.change import MergeReport, merge_stores, unpack_set
from r2t.store.errors import CorruptFeatureError, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import ZIP_MANIFEST, VideosZip, ZipManifest, ZipRecord, storage_errors
from r2t.store.progress import OnProgress, no_progress
from r2t.store.share.download import download, read_from_hub
from r2t.store.sources import MAX_READ_BYTES, HubListing, HubPlace, hub_listing, is_url
from r2t.store.work_folders import make_own_folder


@dataclass(frozen=True)
class PullReport:
    """What was fetched; `failures` says by id what is damaged at the hub and was left out.

    `content` is the digest of the store's content now.
    """

    url: str
    commit: str
    num_videos: int
    num_present: int
    num_queries: int
    failures: Mapping[str, str]
    content: str


def pull_store(url: str, into: Path, *, on_video: OnProgress = no_progress) -> PullReport:
    """Fetch a store from `hf://datasets/ORG/NAME[@REVISION]` into a folder.

    Zips lie in `<into>.pull` beside the folder, one at a time, until all is here; after an
    interruption the same call continues. A repository with a plain folder is read file by file.

    Raises:
        ServerError: the hub refuses, or sends other bytes than it says.
        StoreError: the repository holds no store, or `into` is something else.
    """
    if is_url(into):
        raise StoreError(f"{into}: a store is pulled to a local disk; give a path")
    place = HubPlace.parse(url)
    listing = hub_listing(place)
    if ZIP_MANIFEST in listing.files:
        scratch = into.resolve().with_name(f"{into.name}.pull")
        with storage_errors(into):
            report = _pull_set(place, listing, into, scratch, on_video)
            shutil.rmtree(scratch)
    elif "zarr.json" in listing.files:
        pinned = replace(place, revision=listing.commit)
        report = merge_stores([str(pinned)], into, link=False, on_video=on_video)
    else:
        raise StoreError(
            f"{place} holds no store: it has neither {ZIP_MANIFEST} nor zarr.json; see {place.page}"
        )
    content = FeatureStore.open(into).content_digest()
    return PullReport(
        str(place),
        listing.commit,
        report.num_videos,
        report.num_present,
        report.num_queries,
        report.failures,
        content,
    )


def _pull_set(
    place: HubPlace, listing: HubListing, into: Path, scratch: Path, on_video: OnProgress
) -> MergeReport:
    scratch.parent.mkdir(parents=True, exist_ok=True)
    make_own_folder(scratch, "remove it, or pull to another place")
    manifest = ZipManifest.from_json(
        read_from_hub(place, listing, ZIP_MANIFEST, scratch, MAX_READ_BYTES) or b"",
        f"{place}/{ZIP_MANIFEST}",
    )

    def fetch(zipped: ZipRecord) -> None:
        there = listing.files.get(zipped.name)
        if there is not None and (there.num_bytes, there.sha256) != (
            zipped.num_bytes,
            zipped.sha256,
        ):
            raise CorruptFeatureError(
                f"{place}/{zipped.name} is another zip than the one that the manifest names: its "
                "size or SHA-256 differs; whoever pushed it should push again"
            )
        download(place, listing, zipped.name, scratch)

    def release(zipped: VideosZip) -> None:
        (scratch / zipped.name).unlink()

    fetch(manifest.index)
    report = unpack_set(
        scratch,
        into,
        manifest,
        fetch=fetch,
        release=release,
        facts={"pulled": f"{place} at {listing.commit}"},
        on_video=on_video,
    )
    texts = read_card(scratch)
    if texts.to_header():
        write_card(into, texts)
    return report
