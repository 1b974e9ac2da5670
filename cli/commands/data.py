"""`r2t data`: look after annotations before they cost an extraction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from r2t.cli.shared import (
    SOME_FAILED,
    AnnotationsBeside,
    FollowLinks,
    Json,
    LazyCommand,
    answers,
    cell,
    examples,
    handle_errors,
    new_app,
    parse_fps,
    passed_over,
    print_json,
    progress_bar,
    say,
    split_option,
)
from r2t.extract import video
from r2t.store import datasets
from r2t.store.errors import AnnotationError, VideoError
from r2t.store.json_lines import is_utf8, printable
from r2t.store.video_names import require_utf8_name
from r2t.store.wording import counted

NUM_EXAMPLES = 3
COUNTED = {"videos": "video", "queries": "query", "moments": "moment"}

app = new_app(
    LazyCommand("check", "Compare annotations with their videos.", f"{__name__}:check"),
    help="Check your own videos and annotations.",
)


@app.callback()
def data() -> None:
    """Check your own videos and annotations."""


@examples(
    "r2t data check --videos ./mine",
    "r2t data check --videos ./mine --annotations a.csv --annotations val=b.csv --fps 1",
    "r2t data check --videos ./mine --annotations train.csv --json | jq .problems",
)
def check(
    videos: Annotated[Path, typer.Option(help="Folder of videos.")],
    annotations: AnnotationsBeside = None,
    fps: Annotated[
        float,
        typer.Option(
            help="Frames per second that will be sampled; a moment must last one frame.",
            parser=parse_fps,
            metavar="FPS",
        ),
    ] = 0.5,
    examples: Annotated[
        int, typer.Option(min=1, help="How many of each finding to show.")
    ] = NUM_EXAMPLES,
    follow_links: FollowLinks = False,
    json: Json = False,
) -> None:
    """Compare annotations with their videos, and say how to correct what does not fit.

    Reads each video's header and first picture; nothing is changed. Exits with 1 if there are
    problems; notes are not problems.
    """
    with handle_errors():
        rows = _read(videos, annotations)
        durations = _durations(videos, rows, fps, follow_links=follow_links)
        rows.findings.extend(datasets.check_annotations(rows.located, fps))
        rows.findings.extend(datasets.check_against_videos(rows.located, durations))
        problems = _by_kind(
            finding for finding in rows.findings if finding.kind not in datasets.NOTES
        )
        notes = _by_kind(finding for finding in rows.findings if finding.kind in datasets.NOTES)
        counts = {
            "videos": len(durations),
            "queries": len(rows.located),
            "moments": sum(len(row.moments) for _, row in rows.located),
        }
        if json:
            print_json(
                {"ok": not problems, **counts, "problems": _json(problems), "notes": _json(notes)}
            )
        else:
            _print(problems, notes, counts, examples)
    if problems:
        raise typer.Exit(SOME_FAILED)


def _read(videos: Path, given: Sequence[str] | None) -> datasets.Rows:

    rows = datasets.Rows()
    files = [split_option(text) for text in given or ()]
    if not given:
        survey = datasets.survey_folder(videos)
        files = [(None, path) for path in survey.annotations]
        if not files:
            raise AnnotationError(
                f"there are no annotations in {videos}{passed_over(survey)}: give --annotations"
            )
        for path, reason in survey.passed_over.items():
            rows.findings.append(datasets.Finding("passed_over", printable(path), reason))
        for path, reason in survey.others.items():
            rows.findings.append(datasets.Finding("other_file", printable(path), reason))
    for split, path in files:
        with progress_bar(f"rows of {path.name}") as show_rows:
            found = datasets.read_leniently(path, split, show_rows)
        rows.located.extend(found.located)
        rows.findings.extend(found.findings)
    return rows


def _durations(
    folder: Path, rows: datasets.Rows, fps: float, *, follow_links: bool
) -> dict[str, float | str]:
    """Return each video's duration in seconds, or why it cannot be decoded."""
    paths = video.find_videos(folder, follow_links=follow_links)
    durations: dict[str, float | str] = {}
    with video.DecodePool() as pool, progress_bar("videos", len(paths)) as show_done:
        for done, path in enumerate(paths, start=1):
            try:
                require_utf8_name(path)
                durations[path.stem] = pool.measure(path, fps).duration_seconds
            except VideoError as error:
                if is_utf8(path.stem):
                    durations[path.stem] = str(error)
                else:
                    rows.findings.append(
                        datasets.Finding("unusable_name", printable(path.name), str(error))
                    )
            show_done(done, len(paths))
    return durations


def _by_kind(findings: Iterable[datasets.Finding]) -> dict[str, list[datasets.Finding]]:
    grouped: dict[str, list[datasets.Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.kind, []).append(finding)
    return grouped


def _json(grouped: dict[str, list[datasets.Finding]]) -> dict[str, Any]:

    return {
        kind: {
            "count": len(found),
            "advice": datasets.ADVICE[found[0].kind],
            "findings": [{"where": each.where, "message": each.message} for each in found],
        }
        for kind, found in grouped.items()
    }


def _print(
    problems: dict[str, list[datasets.Finding]],
    notes: dict[str, list[datasets.Finding]],
    counts: dict[str, int],
    num_examples: int,
) -> None:

    console = answers()
    for style, grouped in (("bold red", problems), ("bold yellow", notes)):
        for kind, found in grouped.items():
            console.print(Text.assemble((kind.replace("_", " "), style), f": {len(found):,}"))
            for finding in found[:num_examples]:
                console.print(Padding(cell(_line(finding)), (0, 0, 0, 2)))
            if len(found) > num_examples:
                console.print(f"  … and {len(found) - num_examples:,} more")
            console.print(
                Padding(cell(f"→ {datasets.ADVICE[found[0].kind]}"), (0, 0, 0, 2)), style="dim"
            )
    summary = ", ".join(counted(counts[name], noun) for name, noun in COUNTED.items())
    number = sum(map(len, problems.values()))
    say(f"{summary}: {counted(number, 'problem') if number else 'no problems'}")


def _line(finding: datasets.Finding) -> str:
    if finding.message.startswith(finding.where):
        return finding.message
    return f"{finding.where}: {finding.message}"
