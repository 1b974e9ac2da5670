"""`r2t report`: one page that shows what a model finds in a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from r2t.cli.answers import (
    HIGHLIGHTS_ONLY,
    Answers,
    Asking,
    ask_store,
    presence_verdict,
    score_table,
)
from r2t.cli.pages import (
    FILE_POLICY,
    VideoPlace,
    breakdown_table,
    data_url,
    file_source,
    metrics_table,
    note_bare_names,
    per_query_scores,
    query_entry,
    render_page,
    strip_image,
    video_entries,
)
from r2t.cli.shared import (
    SOME_FAILED,
    Checkpoint,
    Device,
    Domain,
    QueryBatch,
    QuerySplit,
    Store,
    Windows,
    examples,
    handle_errors,
    human_bytes,
    note,
)
from r2t.store.errors import ConfigError
from r2t.store.files import require_writable, write_whole
from r2t.store.json_lines import as_utf8
from r2t.store.wording import counted

if TYPE_CHECKING:
    from r2t.cli.answers import AskedStore, FrameStrip
    from r2t.train.model import Grounding

TOP = 5  # found moments of each query


@examples(
    "r2t report --store feats.zarr --checkpoint runs/x --out report.html",
    "r2t report --store feats.zarr --checkpoint runs/x --videos ./qvh --out report.html",
    "r2t report --store feats.zarr --checkpoint runs/x --split test --out report.html "
    '--videos "https://example.org/{video_id}.mp4"',
)
def report(  # noqa: PLR0913 - a parameter for each option
    store: Store,
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    split: QuerySplit = "val",
    domain: Domain = None,
    videos: Annotated[
        str | None,
        typer.Option(
            help="Folder of the videos, to show pictures of them and to play them; or a URL with "
            "{video_id} to play them from."
        ),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(min=1, help="How often to resample the videos for 95 % intervals.")
    ] = 1000,
    batch_size: QueryBatch = 16,
    windows: Windows = "auto",
    device: Device = "auto",
) -> None:
    """Write a page of what a model finds: scores with intervals, and a timeline for every query.

    The page is one file that needs no network and names no folder of this machine. With --videos
    it shows pictures, and plays a video from where you click; the videos stay where they are.
    """
    with handle_errors():
        from r2t.train.grounding import load_rule

        require_page_path(out)
        require_writable(out.parent)
        place = VideoPlace.parse(videos)
        rule = load_rule(checkpoint)
        asking = Asking(batch_size, windows, device)
        asked = ask_store(store, checkpoint, split, domain, asking)
        summary, tables, scores = _scores(asked, num_samples=bootstrap)
        durations = {
            row.video_id: asked.groundings[row.query_id].duration_seconds for row in asked.truth
        }
        entries, failed = video_entries(durations, place, out)
        where = f"{split}, {domain}" if domain else split
        facts = {
            "run": checkpoint.resolve().name,
            "store": last_name(store),
            "split": where,
            "queries": str(len(asked.truth)),
            "videos": str(len(durations)),
        }
        data = {
            "title": f"{checkpoint.resolve().name} on {where}",
            "facts": _facts(facts),
            "summary": summary,
            "tables": tables,
            "videos": entries,
            "queries": [
                query_entry(
                    asked.groundings[row.query_id],
                    query_id=row.query_id,
                    video_id=row.video_id,
                    query=row.query,
                    top=TOP,
                    truth=row.moments,
                    scores=scores.get(row.query_id),
                    verdict=presence_verdict(rule, asked.groundings[row.query_id]),
                )
                for row in asked.truth
            ],
        }
        _write(out, data, place.policy())
        note_bare_names((place.paths[each] for each in durations if each in place.paths), out)
        for reason in failed:
            note(f"no pictures of {reason}", style="yellow")
        if failed:
            raise typer.Exit(SOME_FAILED)


def write_video_report(
    path: Path,
    video: Path,
    query: str,
    grounding: Grounding,
    strip: FrameStrip,
    run: Path,
    *,
    top: int,
    verdict: str | None = None,
) -> None:
    """Write the page of one video and one query, with its `top` best moments."""
    name = as_utf8(video.name)
    entry = query_entry(
        grounding, query_id="query", video_id=name, query=query, top=top, verdict=verdict
    )
    shown = {
        "seconds": round(grounding.duration_seconds, 3),
        "strip": data_url(strip_image(strip)),
        "source": file_source(video, path),
    }
    data: dict[str, Any] = {
        "title": name,
        "facts": _facts({"run": run.resolve().name}),
        "summary": None,
        "tables": [],
        "videos": {name: shown},
        "queries": [entry],
    }
    _write(path, data, FILE_POLICY)
    note_bare_names([video], path)


def require_page_path(path: Path) -> None:
    """Raise `ConfigError` if no page can be written there, before work is spent on it."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path}: a report is a web page; give a name that ends in .html")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist")


def _write(path: Path, data: Mapping[str, Any], media_sources: Sequence[str]) -> None:
    page = render_page(data, title=f"{data['title']} - r2t", media_sources=media_sources)
    write_whole(path, page)
    queries = counted(len(data["queries"]), "query")
    note(f"report: {path} ({queries}, {human_bytes(len(page))})")


def last_name(location: str) -> str:
    """Return the last part of a path or URL: the rest tells where somebody keeps their files."""
    if "://" in location:
        parts = urlsplit(location)
        return PurePosixPath(parts.path).name or parts.hostname or parts.scheme
    return Path(location).resolve().name


def _facts(given: Mapping[str, str]) -> list[list[str]]:
    made = datetime.now().strftime("%Y-%m-%d %H:%M")
    facts = {**given, "made": f"{made} by r2t {version('r2-tuning')}"}
    return [[name, value] for name, value in facts.items()]


def _scores(
    asked: AskedStore, *, num_samples: int
) -> tuple[dict[str, Any] | None, list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Return the leading table, the other tables, and each query's scores, as the page has them.

    Queries without labels have none of them; highlight datasets have a table of domains alone.
    """
    from r2t.train.grounding import submission_rows
    from r2t.train.metrics import COLUMNS, bootstrap_intervals, score_breakdown, score_queries

    evaluator = asked.grounder.config.evaluator
    answers = Answers(submission_rows(asked.groundings, asked.truth), asked.truth, evaluator)
    if not answers.labelled:
        note("the queries have no labels to score with")
        return None, [], {}
    answers = answers.with_labels()
    if evaluator in HIGHLIGHTS_ONLY:
        found = score_table(answers)
        domains = found.get("domains", {})
        means = {"mAP": found, **domains}
        percents = {name: 100.0 * table["mAP"] for name, table in means.items()}
        return None, [metrics_table("Highlights", percents)], {}
    scores = score_queries(answers.rows, answers.truth, evaluator=evaluator)
    groups = score_breakdown(scores, answers.truth, num_samples=num_samples)
    every = bootstrap_intervals(scores.metrics(), scores.video_ids, num_samples=num_samples)
    summary = breakdown_table(groups, COLUMNS) if groups else None
    return summary, [metrics_table("All metrics", every)], per_query_scores(scores)
