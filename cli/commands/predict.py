"""`r2t predict`: ask one video one question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import r2t.cli.answers
import r2t.cli.pages
import r2t.extract.video
import r2t.train.model
from r2t.cli.answers import (
    FileAnswerer,
    answered_by,
    cut_moments,
    grounding_table,
    load_for_files,
    load_presence_rule,
    presence_json,
    presence_verdict,
    require_subtitle_path,
    started_pool,
    with_verdict,
    write_subtitles,
)
from r2t.cli.shared import (
    Device,
    Json,
    MaxHours,
    Offline,
    OptionalCheckpoint,
    RunFps,
    RunModel,
    RunPretrained,
    TopMoments,
    Windows,
    answers,
    as_windows,
    clip_options,
    examples,
    handle_errors,
    minutes,
    note,
    print_json,
    progress_bar,
)
from r2t.extract.video import DEFAULT_MAX_HOURS
from r2t.store.files import require_writable
from r2t.store.json_lines import as_utf8
from r2t.store.wording import counted

FEW_FRAMES = 20  # in which a window of three is long


@examples(
    'r2t predict dog.mp4 "a dog catches a frisbee" --plot dog.png',
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee"',
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee" --plot dog.png',
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee" --json | jq .moments',
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee" --report dog.html',
    'r2t predict --checkpoint runs/x film.mp4 "a car chase" --top 3 --cut "chase-{n}.mp4"',
)
def predict(  # noqa: PLR0913 - a parameter for each option
    video: Annotated[Path, typer.Argument(help="A video file.")],
    query: Annotated[str, typer.Argument(help="What to look for, as a sentence.")],
    checkpoint: OptionalCheckpoint = None,
    top: TopMoments = 5,
    plot: Annotated[
        Path | None, typer.Option(help="Draw frames, saliency and moments into this picture file.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a web page that plays the video at the moments found."),
    ] = None,
    cut: Annotated[
        Path | None,
        typer.Option(
            help="Cut the moments out of the video into this .mp4, .mkv or .mov, in time order; "
            "with {n} in the name each goes into a file of its own, and the best is number 1."
        ),
    ] = None,
    srt: Annotated[
        Path | None, typer.Option(help="Write the moments into this file as subtitles.")
    ] = None,
    model: RunModel = None,
    pretrained: RunPretrained = None,
    fps: RunFps = None,
    windows: Windows = "auto",
    max_hours: MaxHours = DEFAULT_MAX_HOURS,
    offline: Offline = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Find the moments of a video that a sentence describes; the best --top are shown and written.

    --json has the same moments, and the saliency of every frame.

    Without --checkpoint the frozen CLIP answers, which was not trained for moments: it takes no
    training, finds what a single frame shows, and knows nothing of movement.

    A video much longer than those the model was trained on is asked in overlapping windows. After
    `r2t calibrate` the answer also says whether the sentence is in the video at all.
    """
    with handle_errors(), started_pool(max_hours) as pool:
        _require_paths(video, plot, report, cut, srt)
        loaded = load_for_files(
            checkpoint,
            clip_options(model, pretrained, device, offline=offline),
            fps=fps,
            windows=windows,
            device=device,
            pool=pool,
        )
        rule = load_presence_rule(checkpoint, loaded.answerer, loaded.frame_rate_fps)
        grounding, num_windows = ask_file(loaded, video, query, windows)
        absent, told = presence_verdict(rule, grounding), with_verdict(rule, grounding)
        if json:
            print_json(
                {
                    "video": as_utf8(str(video)),
                    "query": query,
                    **grounding.to_dict(top),
                    "num_windows": num_windows,
                    "presence": presence_json(rule, grounding),
                }
            )
        else:
            answers().print(grounding_table(grounding, as_utf8(video.name), query, top))
            if absent is not None:
                answers().print(absent, style="yellow", soft_wrap=True)
        if plot is not None or report is not None:
            strip = r2t.cli.answers.draw_frame_strip(pool, video, grounding.duration_seconds)
            if plot is not None:
                r2t.cli.answers.plot_grounding(told, query, plot, strip=strip, top=top)
                note(f"drawn: {plot}")
            if report is not None:
                by = answered_by(checkpoint, loaded.answerer)
                r2t.cli.pages.write_video_report(
                    report, video, query, grounding, strip, by, top=top, verdict=absent
                )
        if srt is not None:
            write_subtitles(told, query, srt, top)
        if cut is not None:
            cut_moments(pool, video, grounding, cut, top)


def _require_paths(
    video: Path, plot: Path | None, report: Path | None, cut: Path | None, srt: Path | None
) -> None:
    """Refuse what cannot be written before anything is computed."""
    if plot is not None:
        r2t.cli.answers.require_picture_path(plot)
    if report is not None:
        r2t.cli.pages.require_page_path(report)
    if cut is not None:
        r2t.extract.video.require_clip_path(cut, video)
    if srt is not None:
        require_subtitle_path(srt)
    for path in filter(None, (plot, report, cut, srt)):
        require_writable(path.parent)


def ask_file(
    loaded: FileAnswerer, video: Path, query: str, windows: str
) -> tuple[r2t.train.model.Grounding, int]:
    """Find a sentence in a video file of any length, behind a progress bar.

    Also returns in how many windows it was asked; more than one are noted.
    """
    asked, rate = loaded.clip.encode_query(query), loaded.frame_rate_fps
    plan = loaded.answerer.plan(as_windows(windows))
    with (
        progress_bar("frames") as show_done,
        loaded.clip.open_video(video, rate, on_frames=show_done) as source,
    ):
        num_windows = len(plan.windows(source.num_frames))
        if loaded.answerer.caveat is not None and source.num_frames < FEW_FRAMES:
            note(
                f"note: {counted(source.num_frames, 'frame')} of {as_utf8(video.name)} at "
                f"{rate:g} fps; --fps {4 * rate:g} finds shorter moments"
            )
        if num_windows > 1 and plan.num_frames and plan.limit_frames:
            length, limit = (
                minutes(frames / rate) for frames in (plan.num_frames, plan.limit_frames)
            )
            note(
                f"note: {as_utf8(video.name)} is longer than {limit}, so it is asked in "
                f"{num_windows} overlapping windows of {length} and their answers are merged"
            )
        (grounding,) = loaded.answerer.ground(source, [asked], plan)
    return grounding, num_windows
