"""`r2t extract`: from videos and annotations to a feature store."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import r2t.extract
import r2t.store
from r2t.cli.commands.extract.inputs import (
    annotations_of,
    frame_rate,
    require_target,
    restrict,
    videos_in,
)
from r2t.cli.commands.extract.plan import show_plan
from r2t.cli.commands.extract.progress import announced_cluster, watch_extraction
from r2t.cli.commands.extract.report import extraction_json, show_extraction
from r2t.cli.shared import (
    INTERRUPTED,
    SOME_FAILED,
    AnnotationsBeside,
    Device,
    ExtractPrecision,
    FollowLinks,
    Json,
    MaxHours,
    NewStore,
    Offline,
    OptionalPreset,
    announce_download,
    examples,
    handle_errors,
    note,
    one_of,
    parse_rate,
    parse_size,
    print_json,
    say,
)
from r2t.extract import fetch, run
from r2t.extract.fetch import DEFAULT_MAX_VIDEO_BYTES, DEFAULT_SCRATCH_BYTES
from r2t.extract.video import DEFAULT_MAX_HOURS, DEFAULT_MEMORY_BYTES, DecoderChoice
from r2t.store.schema import StorageDtype


@examples(
    "r2t extract --videos ./qvh --layers 4",
    "r2t extract --videos ./charades --annotations charades_sta_train.txt --annotations "
    "val=charades_sta_test.txt --preset charades --store charades.zarr",
    "r2t extract --videos ./qvh --dry-run",
    "r2t extract --videos ./qvh --only damaged.txt --retry-failed",
    "r2t extract --videos ./qvh --dask local:4",
    "r2t extract --videos ./qvh --shard 3/8",
    "r2t extract --videos s3://bucket/videos --annotations rows.csv",
    "r2t extract --videos urls.txt --max-video-size 2GB --scratch /fast/disk",
    "r2t extract --videos ./tvsum --model ViT-L-14-quickgelu --pretrained weights.safetensors",
)
def extract(  # noqa: PLR0913 - a parameter for each option
    videos: Annotated[
        str,
        typer.Option(
            help="Folder of videos, or one video, here or in a bucket (s3://, gs://, az://); the "
            "URL of a video; or a list of URLs, one a line, in a file or behind a URL (.txt)."
        ),
    ],
    store: NewStore = "feats.zarr",
    annotations: AnnotationsBeside = None,
    model: Annotated[
        str, typer.Option(help="CLIP by open_clip's name, r2t-demo, or a model folder.")
    ] = "ViT-B-32-quickgelu",
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Weights: a tag of open_clip, a file, or none for random ones. By default openai, "
            "or a model folder's own."
        ),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(help="4: the last 4 of each tower; 9,10,12 or =12: these layers."),
    ] = "4",
    fps: Annotated[
        str | None,
        typer.Option(
            help="Frames a second, by default 0.5; per-video: one for each clip with saliency "
            "labels.",
            parser=parse_rate,
            metavar="FPS",
        ),
    ] = None,
    preset: OptionalPreset = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Extract this video alone: an id, or a file of ids, one a line; may be repeated."
        ),
    ] = None,
    dtype: Annotated[
        StorageDtype,
        typer.Option(
            help="How tokens are stored; int8 takes half the bytes.", **one_of(StorageDtype)
        ),
    ] = "float16",
    decoder: Annotated[
        DecoderChoice,
        typer.Option(
            help="auto: decord where its seeking is exact, else pyav. pyav reads all of a file, "
            "and so notices damage between the sampled frames.",
            **one_of(DecoderChoice),
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Decoding processes; by default by cores and free memory."),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        ExtractPrecision,
        typer.Option(
            help="What CLIP computes in; auto: float16 on a GPU, float32 elsewhere. tf32, for "
            "NVIDIA GPUs, is float32 with less exact products. On CPUs with bfloat16 instructions "
            "bfloat16 is about twice as fast; the error of a token is 0.8 %, measured with random "
            "weights of ViT-B/32.",
            **one_of(ExtractPrecision),
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Frames the model sees at a time; by default by free memory."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds without progress after which a decoder is killed.")
    ] = 60.0,
    memory_limit: Annotated[
        int,
        typer.Option(
            help="Memory that each decoding process may take (on Linux); by default 4GB.",
            parser=parse_size,
            metavar="SIZE",
            show_default=False,
        ),
    ] = DEFAULT_MEMORY_BYTES,
    max_hours: MaxHours = DEFAULT_MAX_HOURS,
    scratch: Annotated[
        str | None,
        typer.Option(
            help="Folder for videos that are fetched, each until it is extracted; by default the "
            "system's for temporary files.",
            metavar="FOLDER",
        ),
    ] = None,
    scratch_size: Annotated[
        int,
        typer.Option(
            help="What videos that this process fetches may take there at a time; by default 50GB. "
            "All processes leave a tenth of the free space.",
            parser=parse_size,
            metavar="SIZE",
            show_default=False,
        ),
    ] = DEFAULT_SCRATCH_BYTES,
    max_video_size: Annotated[
        int,
        typer.Option(
            help="Larger videos are not fetched; by default 20GB.",
            parser=parse_size,
            metavar="SIZE",
            show_default=False,
        ),
    ] = DEFAULT_MAX_VIDEO_BYTES,
    fetch_timeout: Annotated[
        float, typer.Option(help="Seconds that fetching one video may take.")
    ] = 3600.0,
    offline: Offline = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try videos again that failed before.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Extract the stored videos again whose files have changed."),
    ] = False,
    follow_links: FollowLinks = False,
    dask: Annotated[
        str | None,
        typer.Option(
            help="Extract on a Dask cluster: tcp://SCHEDULER:8786, whose machines see the same "
            "files, or local:N for N workers here, one for each GPU."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Take this share of the videos, 1/8 to 8/8, by a hash of their names. auto: that "
            "of this task of a Slurm array; auto/8: of this pod of a Kubernetes job of 8.",
            metavar="I/N",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only print how many frames and bytes and how much time it would take.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Run CLIP once over videos and their queries, and store the features.

    The same command again does only what is missing.
    """
    with handle_errors():
        config = r2t.extract.ExtractConfig(
            frame_rate=frame_rate(fps, preset),
            dtype=dtype,
            decoder=decoder,
            stream_choice="best" if preset is None else "first",
            num_workers=r2t.extract.default_num_workers() if workers is None else workers,
            timeout_seconds=timeout,
            memory_bytes=memory_limit,
            max_hours=max_hours,
            retry_failed=retry_failed,
            update=update,
            fetching=fetch.FetchConfig(
                scratch=scratch,
                scratch_bytes=scratch_size,
                max_video_bytes=max_video_size,
                max_seconds=fetch_timeout,
            ),
        )
        paths = videos_in(videos, follow_links=follow_links)
        queries = annotations_of(videos, annotations)
        paths, queries = restrict(paths, queries, only, shard)
        arguments: dict[str, Any] = {
            "name": model,
            "pretrained": "none" if dry_run else pretrained,
            "layers": layers,
            "device": None if device == "auto" else device,
            "precision": precision,
            "batch_size": batch_size,
            "offline": offline,
        }
        require_target(store, model, config)
        if dask is not None:
            run.require_cluster(dask)
        clip = r2t.extract.FrozenClip.load(**arguments, announce=announce_download)
        if dry_run:
            if not show_plan(config, clip, store, paths, queries, json=json):
                raise typer.Exit(SOME_FAILED)
            return
        target = _target(store, config, clip)
        with announced_cluster(dask, arguments) as cluster:
            report = watch_extraction(config, clip, target, paths, queries, cluster)
        show_extraction(report, store, note if json else say)
        if json:
            print_json(extraction_json(report, store))
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not report.complete:
        raise typer.Exit(SOME_FAILED)


def _target(
    location: str, config: r2t.extract.ExtractConfig, clip: r2t.extract.FrozenClip
) -> r2t.store.FeatureStore:
    """Make the store, or open the one that is there; say so if it gets no embeddings."""
    facts = {"decoder": config.decoder, "stream_choice": config.stream_choice}
    store = r2t.store.FeatureStore.create(
        location,
        clip.spec(config.frame_rate, config.dtype),
        {**clip.provenance(), **facts},
        embedding=clip.embedding,
    )
    if reason := r2t.extract.why_no_embeddings(clip, store):
        note(reason, style="yellow")
    return store
