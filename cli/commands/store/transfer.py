"""`r2t store import` and `export`: the official features, and files for other tools."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

import r2t.store
from r2t.cli.shared import (
    SOME_FAILED,
    Annotations,
    ExportFormat,
    ImportFormat,
    Json,
    NewStore,
    NumTokens,
    StoreArgument,
    as_frame_rate,
    examples,
    handle_errors,
    note,
    one_of,
    parse_rate,
    print_json,
    progress_bar,
    read_annotation_options,
    say,
)
from r2t.store import exchange
from r2t.store.errors import ConfigError
from r2t.store.wording import counted, named


@examples(
    "r2t store import --videos clip_b32_vid_k4 --queries clip_b32_txt_k4 --annotations "
    "qvhighlights_train.jsonl --annotations qvhighlights_val.jsonl",
    "r2t store import --videos vid --queries txt --annotations charades_train.jsonl --fps "
    "1 --store charades.zarr",
)
def import_(  # noqa: PLR0913 - a parameter for each option
    videos: Annotated[Path, typer.Option(help="Folder of {vid}.npy files.")],
    queries: Annotated[Path, typer.Option(help="Folder of {qid}.npy files.")],
    annotations: Annotations,
    store: NewStore = "feats.zarr",
    model: Annotated[
        str, typer.Option(help="CLIP model that made the features.")
    ] = "ViT-B-32-quickgelu",
    layers: Annotated[
        str, typer.Option(help="The layers of CLIP in the files, ascending.")
    ] = "9,10,11,12",
    fps: Annotated[
        str,
        typer.Option(
            help="Frames per second; per-video: number of frames over annotated duration.",
            parser=parse_rate,
            metavar="FPS",
        ),
    ] = "0.5",
    num_tokens: NumTokens = 50,
    vision_width: Annotated[int, typer.Option(help="Width of the frames' tokens.")] = 768,
    text_width: Annotated[int, typer.Option(help="Width of the words' tokens.")] = 512,
    file_format: Annotated[
        ImportFormat,
        typer.Option(
            "--format",
            help="r2-npy: files as the official code wrote them.",
            **one_of(ImportFormat),
        ),
    ] = "r2-npy",
    json: Json = False,
) -> None:
    """Make a store from the official features, without running CLIP.

    Run the same command again to resume.
    """
    with handle_errors():
        spec = exchange.official_spec(
            model=model,
            layers=_numbers(layers),
            frame_rate=as_frame_rate(fps),
            num_tokens=num_tokens,
            vision_width=vision_width,
            text_width=text_width,
        )
        rows = read_annotation_options(annotations)
        provenance = {
            "model": model,
            "imported": {"videos": str(videos), "queries": str(queries)},
            "packages": {"r2-tuning": version("r2-tuning")},
        }
        _require_folders(videos, queries)
        target = r2t.store.FeatureStore.create(store, spec, provenance)
        with progress_bar("videos", len(list(videos.glob("*.npy")))) as show_done:
            report = exchange.import_r2_npy(target, videos, queries, rows, on_video=show_done)
        _tell("imported", report, store, json=json)


@examples(
    "r2t store export feats.zarr --out npy",
    "r2t store export feats.zarr --format hdf5 --out feats.h5",
)
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Option(help="Folder of npy files, or the HDF5 file, to make.")],
    file_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="r2-npy: files as the official code reads them.",
            **one_of(ExportFormat),
        ),
    ] = "r2-npy",
    json: Json = False,
) -> None:
    """Write a store's features for other tools: OUT/videos/{vid}.npy, OUT/queries/{qid}.npy."""
    with handle_errors():
        source = r2t.store.FeatureStore.open(store)
        with progress_bar("videos", len(source.videos)) as show_done:
            if file_format == "hdf5":
                report = exchange.export_hdf5(source, out, on_video=show_done)
            else:
                report = exchange.export_r2_npy(
                    source, out / "videos", out / "queries", on_video=show_done
                )
        _tell("exported", report, str(out), json=json)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ConfigError(f"--layers {text!r}: give numbers such as 9,10,11,12") from None


def _require_folders(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}")


def _tell(what: str, report: exchange.TransferReport, target: str, *, json: bool) -> None:
    """Name every failure, sum up, and exit with 1 if there were any."""
    if report.without_rate:
        note(
            "left out, because no annotation gives a duration to compute their frame rate from: "
            f"{named(report.without_rate)}",
            style="yellow",
        )
    for file, reason in report.failures.items():
        note(f"failed: {file}: {reason}", style="red")
    outcome: dict[str, Any] = {
        "videos": report.num_videos,
        "videos_skipped": report.num_skipped,
        "queries": report.num_queries,
        "without_rate": list(report.without_rate),
        "missing_videos": list(report.missing),
        "withheld_queries": report.num_withheld_queries,
        "failures": dict(report.failures),
    }
    if json:
        print_json({"target": target, **outcome})
    else:
        skipped = f" ({report.num_skipped} were there)" if report.num_skipped else ""
        videos, queries = counted(report.num_videos, "video"), counted(report.num_queries, "query")
        say(f"{what}: {target}: {videos}{skipped}, {queries}")
    if report.missing:
        note(
            f"left out, because their videos are not there: "
            f"{counted(report.num_withheld_queries, 'query')} of {named(report.missing)}",
            style="yellow",
        )
    if report.failures:
        note(f"could not be used: {counted(len(report.failures), 'file')}")
    if not report.complete:
        raise typer.Exit(SOME_FAILED)
