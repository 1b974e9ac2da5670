"""The options that several commands take, each spelled out once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from r2t.cli.shared.option_values import one_of, parse_fps, parse_size, parse_windows
from r2t.cli.shared.runs import parse_run
from r2t.store.annotations import Split
from r2t.train.choices import Precision, PresetName

ExtractPrecision = Literal["auto", Precision, "fp32", "fp16", "bf16"]
ImportFormat = Literal["r2-npy"]
ExportFormat = Literal["r2-npy", "hdf5"]

# What is printed
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

# Which videos
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Follow links that lead out of the folder of videos."),
]
MaxHours = Annotated[
    float,
    typer.Option(
        "--max-hours",
        help="Refuse a video that lasts longer by its timestamps, as a damaged one may.",
    ),
]

# Where features are
Store = Annotated[str, typer.Option("--store", help="Feature store: a folder, a zip or a URL.")]
NewStore = Annotated[
    str,
    typer.Option("--store", help="Feature store to make or add to: a folder or s3://bucket/name."),
]
StoreArgument = Annotated[
    str, typer.Argument(help="The feature store: a folder, a zip or a URL.", metavar="STORE")
]
StoreFolder = Annotated[Path, typer.Argument(help="The feature store: a folder.", metavar="STORE")]
ChangedStore = Annotated[
    str,
    typer.Argument(help="The feature store: a folder or s3://bucket/name.", metavar="STORE"),
]
Into = Annotated[
    str, typer.Option(help="The store to make or add to: a folder or s3://bucket/name.")
]
Copy = Annotated[
    bool, typer.Option("--copy", help="Copy files instead of sharing them by hard links.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Check sizes and shapes, but do not read the tokens.")
]
OptionalZipSize = Annotated[
    int | None,
    typer.Option(
        "--zip-size",
        help="A set of zips, each with about so much of features, such as 2GB.",
        parser=parse_size,
        metavar="SIZE",
    ),
]

# What is shared, and where
HubDataset = Annotated[
    str, typer.Argument(help="Where on a hub: hf://datasets/ORG/NAME.", metavar="URL")
]
HubModel = Annotated[str, typer.Argument(help="Where on a hub: hf://ORG/NAME.", metavar="URL")]
Licence = Annotated[
    str | None,
    typer.Option(
        "--licence",
        help="SPDX licence, such as CC-BY-4.0 or MIT; by default what was stated before.",
    ),
]
Private = Annotated[
    bool, typer.Option("--private", help="If the repository is made now, let others not see it.")
]

# How a store is checked
Threads = Annotated[
    int | None, typer.Option(min=1, help="Videos to check at a time; by default one per core.")
]
DiskCache = Annotated[
    Path | None,
    typer.Option(
        "--disk-cache",
        help="Folder for what is read of a remote store, so that it is fetched only once.",
    ),
]
DiskCacheSize = Annotated[
    int,
    typer.Option(
        "--disk-cache-size",
        help="Most space that --disk-cache may take; by default 20GB.",
        parser=parse_size,
        metavar="SIZE",
        show_default=False,
    ),
]
DEFAULT_CACHE_BYTES = 20 * 10**9

# What is asked of which videos
Annotations = Annotated[
    list[str], typer.Option(metavar="FILE", help="Annotation file, or split=FILE; may be repeated.")
]
AnnotationsBeside = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Annotation file, or split=FILE; may be repeated. By default the files beside the "
        "videos.",
    ),
]
VideoIds = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID",
        help="Id of a video, or a file of ids, one per line; may be repeated. By default all.",
    ),
]
_SPLIT: Any = typer.Option("--split", help="Only the queries of this split.", **one_of(Split))
QuerySplit = Annotated[Split, _SPLIT]
OptionalSplit = Annotated[Split | None, _SPLIT]
Domain = Annotated[str | None, typer.Option(help="Only the queries of this domain.")]

# The trained model and its CLIP
OwnRun = Annotated[Path, typer.Option("--checkpoint", help="Folder of a training run.")]
InitialRun = Annotated[
    Path | None,
    typer.Option(
        "--init",
        help="Start from the best weights of this run (fine-tuning).",
        parser=parse_run,
        metavar="RUN",
    ),
]
RunOrPredictions = Annotated[
    list[Path],
    typer.Argument(
        help="Training runs, folders or hf://ORG/NAME, or files of predictions (JSON lines).",
        parser=parse_run,
        metavar="MODELS...",
    ),
]
RunFolderArgument = Annotated[Path, typer.Argument(help="Folder of a training run.", metavar="RUN")]
OptionalCheckpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Folder of a training run, or hf://ORG/NAME on a hub. Without one the frozen CLIP "
        "answers, which was not trained for moments.",
        parser=parse_run,
        metavar="RUN",
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, …")]
Windows = Annotated[
    str,
    typer.Option(
        "--windows",
        help="How to ask long videos. off: whole. N: those of more than 2N frames in overlapping "
        "windows of N frames. auto: in windows as long as the longest video of the training, but "
        "whole where a run with a dataset's preset is scored.",
        parser=parse_windows,
        metavar="auto|off|N",
    ),
]
RelevantFile = Annotated[
    Path | None,
    typer.Option(
        "--relevant",
        help="JSON lines of query_id and relevant, a list of the ids of videos that the sentence "
        "also fits. It fits those that it is annotated for without being told.",
    ),
]
_QUERY_BATCH: Any = typer.Option("--batch-size", min=1, help="Queries per batch.")
QueryBatch = Annotated[int, _QUERY_BATCH]
OptionalQueryBatch = Annotated[int | None, _QUERY_BATCH]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse predictions that would otherwise cause a warning.")
]
TopMoments = Annotated[int, typer.Option("--top", min=1, help="Moments to show.")]
RunModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="CLIP model or its folder; by default the run's, without a run the store's, and for a "
        "file ViT-B-32-quickgelu.",
    ),
]
RunPretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        help="CLIP weights: a tag or a file; by default the run's, without a run the store's, and "
        "for a file the model's usual ones.",
    ),
]
RunFps = Annotated[
    float | None,
    typer.Option(
        "--fps",
        help="Frames per second to sample; by default the run's, without a run 0.5.",
        parser=parse_fps,
        metavar="FPS",
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Download nothing; CLIP's weights must be on this machine."),
]
NumTokens = Annotated[
    int,
    typer.Option("--num-tokens", min=1, help="Tokens per frame in that model: CLS and patches."),
]

# How a training starts
_PRESET: Any = typer.Option(
    "--preset", help="The dataset whose settings are used.", **one_of(PresetName)
)
PresetOption = Annotated[PresetName, _PRESET]
OptionalPreset = Annotated[PresetName | None, _PRESET]
_SEED: Any = typer.Option("--seed", min=0, help="Seed for everything that is random.")
Seed = Annotated[int, _SEED]
OptionalSeed = Annotated[int | None, _SEED]
