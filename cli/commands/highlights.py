"""`r2t highlights`: a short reel of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import r2t.cli.answers
import r2t.extract
import r2t.extract.reel
import r2t.extract.video
import r2t.train.grounding
import r2t.train.model
from r2t.cli.answers import (
    FileAnswerer,
    cut_reel,
    load_for_files,
    load_presence_rule,
    presence_json,
    presence_verdict,
    reel_json,
    reel_table,
    salient_reel,
    started_pool,
    typical_reel,
)
from r2t.cli.shared import (
    Device,
    Json,
    MaxHours,
    Offline,
    OptionalCheckpoint,
    PartLength,
    RunFps,
    RunModel,
    RunPretrained,
    answers,
    clip_options,
    examples,
    handle_errors,
    note,
    parse_length,
    print_json,
    progress_bar,
    say,
)
from r2t.extract.video import DEFAULT_MAX_HOURS
from r2t.store.errors import ConfigError
from r2t.store.files import require_writable
from r2t.store.json_lines import as_utf8

FRAME_RATE_FPS = 2.0  # a segment lasts two seconds or more


@examples(
    "r2t highlights holiday.mp4 --length 30s --out reel.mp4",
    "r2t highlights holiday.mp4 --length 10% --plot reel.png",
    'r2t highlights game.mp4 "a player scores" --checkpoint runs/x --length 1m30s --out goals.mp4',
    "r2t highlights holiday.mp4 --length 0:45 --json | jq .segments",
)
def highlights(  # noqa: PLR0913 - a parameter for each option
    video: Annotated[Path, typer.Argument(help="A video file.")],
    length: Annotated[
        PartLength,
        typer.Option(
            help="How long the reel is: 30s, 1m30s, 0:45, or 10% of the video.",
            parser=parse_length,
            metavar="LENGTH",
        ),
    ],
    query: Annotated[
        str | None, typer.Argument(metavar="SENTENCE", help="What to show; else what is typical.")
    ] = None,
    checkpoint: OptionalCheckpoint = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Cut the reel into this .mp4, .mkv or .mov; with {n} in the name each segment "
            "goes into a file of its own."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the segments and their frames into this picture file.")
    ] = None,
    model: RunModel = None,
    pretrained: RunPretrained = None,
    fps: RunFps = None,
    max_hours: MaxHours = DEFAULT_MAX_HOURS,
    offline: Offline = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Choose a short reel of a video: segments of two seconds or more, in time order.

    Without a sentence they are typical of the video and unlike each other, by CLIP's embeddings of
    its frames. With one they are those of the highest saliency.
    """
    with handle_errors(), started_pool(max_hours) as pool:
        _require_places(video, out, plot)
        if checkpoint is not None and query is None:
            raise ConfigError("--checkpoint answers a sentence: give one, or leave the run out")
        loaded = load_for_files(
            checkpoint,
            clip_options(model, pretrained, device, offline=offline),
            fps=FRAME_RATE_FPS if fps is None and checkpoint is None else fps,
            windows="auto",
            device=device,
            pool=pool,
        )
        rule = load_presence_rule(checkpoint, loaded.answerer, loaded.frame_rate_fps)
        reel, grounding = _choose(loaded, video, query, length)
        absent = None if grounding is None else presence_verdict(rule, grounding)
        if json:
            presence = None if grounding is None else presence_json(rule, grounding)
            name = as_utf8(str(video))
            print_json({"video": name, "query": query, **reel_json(reel), "presence": presence})
        else:
            answers().print(reel_table(reel, video))
            say(reel.label)
            say(reel.figures)
            if absent is not None:
                say(absent, style="yellow")
        if plot is not None:
            r2t.cli.answers.plot_reel(pool, video, reel, plot)
            note(f"drawn: {plot}")
        if out is not None:
            cut_reel(pool, video, reel, out)


def _require_places(video: Path, out: Path | None, plot: Path | None) -> None:
    """Refuse what cannot be written before anything is computed."""
    if out is not None:
        r2t.extract.video.require_clip_path(out, video)
    if plot is not None:
        r2t.cli.answers.require_picture_path(plot)
    for path in filter(None, (out, plot)):
        require_writable(path.parent)


def _choose(
    loaded: FileAnswerer, video: Path, query: str | None, length: PartLength
) -> tuple[r2t.cli.answers.Reel, r2t.train.model.Grounding | None]:
    """Choose a reel of a video file of any length, and return the answer that it goes by, if any.

    Refuses a length that it cannot have before CLIP has seen a frame.
    """
    asked = None if query is None else loaded.clip.encode_query(query)
    with (
        progress_bar("frames") as show_done,
        loaded.clip.open_video(video, loaded.frame_rate_fps, on_frames=show_done) as source,
    ):
        seconds = length.of(source.duration_seconds)
        r2t.extract.reel.ReelPlan(source.duration_seconds, seconds)
        if query is None or asked is None:
            frames = r2t.train.grounding.ZeroShotGrounder.of_clip(loaded.clip).prepare(source)
            rate, duration = frames.frame_rate_fps, frames.duration_seconds
            return typical_reel(frames.embedding, rate, duration, seconds), None
        (grounding,) = loaded.answerer.ground(source, [asked])
        return salient_reel(grounding, query, seconds), grounding
