"""`r2t store upgrade`: making an older store one of the present format version."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

import r2t.extract
import r2t.store
from r2t.cli.shared import (
    Device,
    Json,
    Offline,
    Threads,
    clip_options,
    examples,
    handle_errors,
    human_bytes,
    json_ready,
    note,
    print_json,
    progress_bar,
    say,
)
from r2t.extract import clip as frozen
from r2t.store import change
from r2t.store.errors import ConfigError, SpecMismatchError
from r2t.store.schema import FORMAT_VERSION, EmbeddingSpec
from r2t.store.wording import counted


@examples(
    "r2t store upgrade feats.zarr --dry-run",
    "r2t store upgrade feats.zarr",
    "r2t store upgrade feats.zarr --no-embeddings",
)
def upgrade(  # noqa: PLR0913 - a parameter for each option
    store: Annotated[str, typer.Argument(help="The feature store: a folder.", metavar="STORE")],
    no_embeddings: Annotated[
        bool,
        typer.Option(
            "--no-embeddings", help="Add no embeddings: CLIP is not needed, and none can follow."
        ),
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="CLIP; by default the one that made the store.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Its weights; by default those that made the store.")
    ] = None,
    device: Device = "auto",
    offline: Offline = False,
    threads: Threads = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be done, and the bytes.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a store of format version 1 one of version 2, in place; no video is decoded.

    Adds CLIP's final embedding of each frame and sentence, made from the stored tokens, which need
    CLIP's last layer for that. Every video is checked on the way. The same command again goes on
    where one was interrupted; until the end the store is one of version 1. An older r2t refuses
    the result, and programs that have the store open must open it again.
    """
    with handle_errors():
        plan = change.plan_upgrade(store, None)
        embedder = None
        if plan.format_version < FORMAT_VERSION and not no_embeddings:
            options = clip_options(model, pretrained, device, offline=offline)
            embedder = _embedder(store, options)
            plan = change.plan_upgrade(store, None if embedder is None else embedder.spec)
        if dry_run:
            _show_plan(store, plan, json=json)
            return
        if plan.format_version < FORMAT_VERSION:
            note(f"{store}: an r2t that knows format version 1 alone will refuse it from now on")
        with progress_bar("videos", plan.num_videos) as show_done:
            report = change.upgrade_store(store, embedder, num_threads=threads, on_video=show_done)
        if json:
            print_json(json_ready(report))
        else:
            _show(store, report)


def _embedder(store: str, options: r2t.extract.ClipOptions) -> change.Embedder | None:
    """Load the CLIP that made a store; None, with a note, where its tokens have no embeddings."""
    try:
        clip = r2t.extract.FrozenClip.matching(
            r2t.store.FeatureStore.open(store), options, cls_suffices=True
        )
    except (ConfigError, SpecMismatchError) as error:
        raise ConfigError(
            f"{error}; or add --no-embeddings to upgrade {store} without this CLIP"
        ) from error
    if reason := frozen.why_no_token_embeddings(clip):
        note(f"no embeddings are added: {reason}", style="yellow")
        return None
    assert clip.embedding is not None
    return change.Embedder(
        clip.embedding, lambda features: frozen.embedding_of_tokens(clip, features)
    )


def _show_plan(store: str, plan: change.UpgradePlan, *, json: bool) -> None:
    if json:
        print_json(dataclasses.asdict(plan) | {"num_bytes": plan.num_bytes})
        return
    contents = (
        f"{counted(plan.num_videos, 'video')}, {counted(plan.num_frames, 'frame')}, "
        f"{counted(plan.num_queries, 'query')}"
    )
    if plan.format_version == FORMAT_VERSION:
        say(f"{store}: has format version {FORMAT_VERSION} already: {contents}")
        return
    say(
        f"{store}: from format version {plan.format_version} to {FORMAT_VERSION}, "
        f"{_described(plan.embedding)}: {contents}"
    )
    say(
        f"writes {human_bytes(plan.embedding_bytes)} of embeddings, and "
        f"{human_bytes(plan.part_bytes)} of index and queries in the place of the present ones; "
        f"{human_bytes(plan.free_bytes)} are free"
    )
    if plan.num_bytes > plan.free_bytes:
        note("warning: that does not fit", style="yellow")


def _show(store: str, report: change.UpgradeReport) -> None:
    contents = f"{counted(report.num_videos, 'video')}, {counted(report.num_queries, 'query')}"
    described = _described(report.embedding)
    if report.was_current:
        say(f"{store}: has format version {FORMAT_VERSION} already, {described}: {contents}")
    elif report.left_over:
        say(f"{store}: removed what was left of format version 1: {', '.join(report.left_over)}")
    else:
        say(f"{store}: now has format version {FORMAT_VERSION}, {described}: {contents}")
    if report.was_current and report.embedding is None:
        note("embeddings are made by `r2t extract` into a new store")


def _described(embedding: EmbeddingSpec | None) -> str:
    if embedding is None:
        return "without embeddings"
    return f"with embeddings of {embedding.width} numbers"
