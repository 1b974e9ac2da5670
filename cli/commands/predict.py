"""`r2t predict`: ask one video one question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import r2t.cli.answers
import r2t.cli.pages
import r2t.extract.video
import r2t.train.grounding
import r2t.train.model
from r2t.cli.answers import (
    cut_moments,
    grounding_table,
    pick_frame_rate,
    presence_json,
    presence_verdict,
    require_subtitle_path,
    started_pool,
    write_subtitles,
)
from r2t.cli.shared import (
    Checkpoint,
    Device,
    Json,
    MaxHours,
    Offline,
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


@examples(
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee"',
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee" --plot dog.png',
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee" --json | jq .moments',
    'r2t predict --checkpoint runs/x dog.mp4 "a dog catches a frisbee" --report dog.html',
    'r2t predict --checkpoint runs/x film.mp4 "a car chase" --top 3 --cut "chase-{n}.mp4"',
)
def predict(  # noqa: PLR0913 - a parameter for each option
    video: Annotated[Path, typer.Argument(help="A video file.")],
    query: Annotated[str, typer.Argument(help="What to look for, as a sentence.")],
    checkpoint: Checkpoint,
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

    A video much longer than those the model was trained on is asked in overlapping windows. After
    `r2t calibrate` the answer also says whether the sentence is in the video at all.
    """
    with handle_errors(), started_pool(max_hours) as pool:
        _require_paths(plot, report, cut, srt)
        processor = r2t.train.pick_device(device)
        grounder = r2t.train.Grounder.load(checkpoint, device=processor)
        rule = r2t.train.grounding.load_rule(checkpoint, grounder.video_score_name)
        rate = pick_frame_rate(grounder, fps)
        clip = r2t.extract.FrozenClip.matching(
            grounder,
            clip_options(model, pretrained, device, offline=offline),
            pool=pool,
        )
        grounding, num_windows = ask_file(grounder, clip, video, query, rate, windows)
        absent = presence_verdict(rule, grounding)
        if json:
            print_json(
                {
                    "video": as_utf8(str(video)),
                    "query": query,
                    **grounding.to_dict(),
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
                r2t.cli.answers.plot_grounding(grounding, query, plot, strip=strip, top=top)
                note(f"drawn: {plot}")
            if report is not None:
                r2t.cli.pages.write_video_report(
                    report, video, query, grounding, strip, checkpoint, top=top, verdict=absent
                )
        if srt is not None:
            write_subtitles(grounding, query, srt, top)
        if cut is not None:
            cut_moments(pool, video, grounding, cut, top)


def _require_paths(
    plot: Path | None, report: Path | None, cut: Path | None, srt: Path | None
) -> None:
    """Refuse what cannot be written before anything is computed."""
    if plot is not None:
        r2t.cli.answers.require_picture_path(plot)
    if report is not None:
        r2t.cli.pages.require_page_path(report)
    if cut is not None:
        r2t.extract.video.require_clip_path(cut)
    if srt is not None:
        require_subtitle_path(srt)
    for path in filter(None, (plot, report, cut, srt)):
        require_writable(path.parent)


def ask_file(
    grounder: r2t.train.Grounder,
    clip: r2t.extract.FrozenClip,
    video: Path,
    query: str,
    frame_rate_fps: float,
    windows: str,
) -> tuple[r2t.train.model.Grounding, int]:
    """Find a sentence in a video file of any length, behind a progress bar.

    Also returns in how many windows it was asked; more than one are noted.
    """
    asked = clip.encode_query(query)
    plan = grounder.plan(as_windows(windows))
    with (
        progress_bar("frames") as show_done,
        clip.open_video(video, frame_rate_fps, on_frames=show_done) as source,
    ):
        num_windows = len(plan.windows(source.num_frames))
        if num_windows > 1 and plan.num_frames and plan.limit_frames:
            length, limit = (
                minutes(frames / frame_rate_fps) for frames in (plan.num_frames, plan.limit_frames)
            )
            note(
                f"note: {as_utf8(video.name)} is longer than {limit}, so it is asked in "
                f"{num_windows} overlapping windows of {length} and their answers are merged"
            )
        (grounding,) = grounder.ground(source, [asked], plan)
    return grounding, num_windows
