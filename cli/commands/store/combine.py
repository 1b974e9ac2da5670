"""`r2t store merge`, `subset`, `pack` and `unpack`: one store from several, and the reverse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import r2t.store
from r2t.cli.shared import (
    SOME_FAILED,
    Copy,
    Into,
    Json,
    OptionalSplit,
    OptionalZipSize,
    Quick,
    StoreArgument,
    StoreFolder,
    Threads,
    VideoIds,
    examples,
    handle_errors,
    human_bytes,
    json_ready,
    note,
    parse_size,
    print_json,
    progress_bar,
    read_video_ids,
    say,
)
from r2t.store import change, sources
from r2t.store.errors import ConfigError
from r2t.store.format import ZIP_MANIFEST
from r2t.store.schema import FeatureSpec
from r2t.store.wording import counted


@examples(
    "r2t store merge first-half.zarr second-half.zarr --into feats.zarr",
    "r2t store merge /media/usb/feats-001.zip --into feats.zarr --copy",
)
def merge(
    stores: Annotated[list[str], typer.Argument(help="Feature stores: folders, zips or URLs.")],
    into: Into,
    copy: Copy = False,
    quick: Quick = False,
    keep_first: Annotated[
        bool,
        typer.Option(
            "--keep-first",
            help="Where one id means two things, keep what --into has, or else the first store.",
        ),
    ] = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Merge the videos and queries of several stores into one.

    All must have been made with the same settings. Files are shared by hard links where the disk
    allows it, so that merging takes no space. Equal duplicates count once; if one id means two
    things, nothing is written without --keep-first: other machines round differently, and so do
    other batches of sentences. Run the same command again to resume.
    """
    with handle_errors():
        with progress_bar("videos") as show_done:
            report = change.merge_stores(
                stores,
                into,
                link=not copy,
                quick=quick,
                keep_first=keep_first,
                num_threads=threads,
                on_video=show_done,
            )
        _tell("merged", report, into, json=json)


@examples(
    "r2t store unpack feats.zip --into feats.zarr",
    "r2t store unpack feats-*.zip --into feats.zarr",
    "r2t store unpack feats.zips --into feats.zarr",
)
def unpack(
    archives: Annotated[
        list[Path], typer.Argument(help="Archives that pack made, or the folder of a set.")
    ],
    into: Into,
    json: Json = False,
) -> None:
    """Unpack archives into a folder, checking every digest.

    Only files that belong to a store are read from an archive, whatever else it holds.
    """
    with handle_errors():
        for archive in archives:
            if not archive.is_file() and not (archive / ZIP_MANIFEST).is_file():
                raise ConfigError(f"there is no archive, and no set of zips, {archive}")
        with progress_bar("videos") as show_done:
            report = change.merge_stores(archives, into, link=False, on_video=show_done)
        _tell("unpacked", report, into, json=json)


@examples(
    "r2t store subset feats.zarr --into val.zarr --split val",
    "r2t store subset feats.zarr --into small.zarr --layers 2 --cls-only",
    "r2t store subset feats.zarr --into some.zarr --videos ids.txt",
)
def subset(
    store: StoreArgument,
    into: Into,
    videos: VideoIds = None,
    split: OptionalSplit = None,
    layers: Annotated[
        str | None,
        typer.Option(help="2: the last 2 stored; 9,12 or =12: the layers with these numbers."),
    ] = None,
    cls_only: Annotated[
        bool, typer.Option("--cls-only", help="Keep only the CLS token of each frame.")
    ] = False,
    copy: Copy = False,
    json: Json = False,
) -> None:
    """Make a smaller store: some videos, a split, some layers, or CLS tokens alone."""
    with handle_errors():
        ids = None
        if videos is not None:
            known: list[str] = r2t.store.FeatureStore.open(store).videos["video_id"].tolist()
            ids = read_video_ids("--videos", videos, known, "stored")
        with progress_bar("videos") as show_done:
            report = change.subset_store(
                store,
                into,
                video_ids=ids,
                split=split,
                layers=None if layers is None else _places(layers, sources.open_root(store).spec),
                cls_only=cls_only,
                link=not copy,
                on_video=show_done,
            )
        _tell("taken", report, into, json=json)


@examples(
    "r2t store pack feats.zarr --out feats.zip",
    "r2t store pack feats.zarr --out feats.zip --size 4GB    # feats-001.zip, feats-002.zip, …",
    "r2t store pack feats.zarr --out feats.zips --zip-size 2GB    # a folder that opens as a store",
)
def pack(
    store: StoreFolder,
    out: Annotated[
        Path,
        typer.Option(help="The archive to make, NAME.zip; with --zip-size the folder to make."),
    ],
    size: Annotated[
        int | None,
        typer.Option(
            help="Largest size of an archive's features, such as 4GB; then NAME-001.zip and so on.",
            parser=parse_size,
            metavar="SIZE",
        ),
    ] = None,
    zip_size: OptionalZipSize = None,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """Write a store into uncompressed zip archives, which are read in place.

    Each archive is a store of its own. With --zip-size they are a set instead: a folder of zips
    with a manifest, which opens as one store, here or behind a URL. The same store always gives the
    same set; every video is checked before it goes into one.
    """
    with handle_errors():
        if size is not None and zip_size is not None:
            raise ConfigError("give --size for archives on their own, or --zip-size for a set")
        if quick and zip_size is None:
            raise ConfigError("--quick belongs to --zip-size: archives on their own read no tokens")
        with progress_bar("videos", len(r2t.store.FeatureStore.open(store).videos)) as show_done:
            if zip_size is None:
                report = change.pack_store(store, out, max_bytes=size, on_video=show_done)
            else:
                report = change.pack_zip_set(
                    store, out, max_bytes=zip_size, quick=quick, on_video=show_done
                )
        if json:
            print_json(json_ready(report))
        else:
            for archive in report.archives:
                say(str(archive))
            say(
                f"{counted(report.num_videos, 'video')}, {counted(report.num_queries, 'query')}, "
                f"{human_bytes(report.num_bytes)}"
            )


def _places(text: str, spec: FeatureSpec) -> tuple[int, ...]:
    """Read `--layers` as places among the stored layers."""
    stored = list(spec.vision_layers)
    try:
        if "," not in text and not text.startswith("="):
            count = int(text)
            if not 1 <= count <= len(stored):
                raise ConfigError(f"--layers {text}: the store holds {len(stored)}")
            return tuple(range(len(stored) - count, len(stored)))
        return tuple(stored.index(int(number)) for number in text.removeprefix("=").split(","))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"--layers {text!r}: the store holds {', '.join(map(str, stored))}; give a count such "
            "as 2, a list such as 9,12, or a single layer such as =12"
        ) from None


def _tell(what: str, report: change.MergeReport, into: str, *, json: bool) -> None:
    for name, reason in report.failures.items():
        note(f"failed: {name}: {reason}", style="red")
    if json:
        print_json({"store": into, **json_ready(report)})
    else:
        linked = f", {report.num_linked} of them by links" if report.num_linked else ""
        present = f" ({report.num_present} were there)" if report.num_present else ""
        say(
            f"{into}: {what}: {counted(report.num_videos, 'video')}{linked}{present}, "
            f"{counted(report.num_queries, 'query')}"
        )
    if report.num_unequal:
        note(f"of {counted(report.num_unequal, 'id')} that mean two things, the first was kept")
    if report.failures:
        damaged = counted(len(report.failures), "item")
        note(f"left out, because the source is damaged: {damaged}")
        raise typer.Exit(SOME_FAILED)
