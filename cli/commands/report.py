"""`r2t report`: one page that shows what a model finds in a split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from r2t.cli.answers import (
    HIGHLIGHTS_ONLY,
    Answers,
    AskedStore,
    Asking,
    answered_by,
    ask_store,
    load_presence_rule,
    presence_verdict,
    score_table,
)
from r2t.cli.pages import (
    VideoPlace,
    breakdown_table,
    metrics_table,
    note_bare_names,
    page_facts,
    per_query_scores,
    query_entry,
    require_page_path,
    video_entries,
    write_page,
)
from r2t.cli.shared import (
    SOME_FAILED,
    Device,
    Domain,
    OptionalCheckpoint,
    QueryBatch,
    QuerySplit,
    Store,
    Windows,
    examples,
    handle_errors,
    note,
)
from r2t.store.files import require_writable
from r2t.store.sources import last_name
from r2t.train import grounding, metrics

TOP = 5  # found moments of each query


@examples(
    "r2t report --store feats.zarr --checkpoint runs/x --out report.html",
    "r2t report --store feats.zarr --checkpoint runs/x --videos ./qvh --out report.html",
    "r2t report --store feats.zarr --videos ./qvh --out frozen.html",
    "r2t report --store feats.zarr --checkpoint runs/x --split test --out report.html "
    '--videos "https://example.org/{video_id}.mp4"',
)
def report(  # noqa: PLR0913 - a parameter for each option
    store: Store,
    checkpoint: OptionalCheckpoint = None,
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
    Without --checkpoint the frozen CLIP answers, which was not trained for moments.
    """
    with handle_errors():
        require_page_path(out)
        require_writable(out.parent)
        place = VideoPlace.parse(videos)
        asking = Asking(batch_size, windows, device)
        asked = ask_store(store, checkpoint, split, domain, asking)
        rule = load_presence_rule(checkpoint, asked.answerer, asked.store.spec.frame_rate)
        summary, tables, scores = _scores(asked, num_samples=bootstrap)
        durations = {
            row.video_id: asked.groundings[row.query_id].duration_seconds for row in asked.truth
        }
        entries, failed = video_entries(durations, place, out)
        where = f"{split}, {domain}" if domain else split
        name = "frozen CLIP" if checkpoint is None else checkpoint.resolve().name
        facts = {
            **answered_by(checkpoint, asked.answerer),
            "store": last_name(store),
            "split": where,
            "queries": str(len(asked.truth)),
            "videos": str(len(durations)),
        }
        data = {
            "title": f"{name} on {where}",
            "facts": page_facts(facts),
            "caveat": asked.answerer.caveat,
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
        write_page(out, data, place.policy())
        note_bare_names((place.paths[each] for each in durations if each in place.paths), out)
        for reason in failed:
            note(f"no pictures of {reason}", style="yellow")
        if failed:
            raise typer.Exit(SOME_FAILED)


def _scores(
    asked: AskedStore, *, num_samples: int
) -> tuple[dict[str, Any] | None, list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Return the leading table, the other tables, and each query's scores, as the page has them.

    Queries without labels have none of them; highlight datasets have a table of domains alone.
    """
    evaluator = asked.evaluator
    answers = Answers(
        grounding.submission_rows(asked.groundings, asked.truth), asked.truth, evaluator
    )
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
    scores = metrics.score_queries(answers.rows, answers.truth, evaluator=evaluator)
    groups = metrics.score_breakdown(scores, answers.truth, num_samples=num_samples)
    every = metrics.official_intervals(scores, num_samples=num_samples)
    summary = breakdown_table(groups, metrics.COLUMNS) if groups else None
    return summary, [metrics_table("All metrics", every)], per_query_scores(scores)
