"""`r2t compare`: whether models differ, on the same queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from r2t.cli.answers import HIGHLIGHTS_ONLY, Answers, Asking, ask_model, read_answers
from r2t.cli.shared import (
    Device,
    Domain,
    Json,
    OptionalSplit,
    QueryBatch,
    RunOrPredictions,
    Strict,
    Windows,
    answers,
    cell,
    examples,
    handle_errors,
    note,
    print_json,
    read_predictions,
    say,
)
from r2t.store.errors import AnnotationError, ConfigError
from r2t.store.wording import counted
from r2t.train import metrics

COMPARED_METRICS = {
    "MR-full-R1@0.5": "R1@0.5",
    "MR-full-R1@0.7": "R1@0.7",
    "MR-full-mAP": "mAP",
    "HL-min-VeryGood-mAP": "HL mAP",
    "HL-min-VeryGood-Hit1": "HL Hit1",
}
SIGNIFICANT = 0.05
_METRIC_COLUMNS = 15  # of a terminal, that a metric and its interval take
_NAME_BORDERS = 4
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


@dataclass(frozen=True)
class Contender:
    """A model's scores with 95 % intervals, and how it differs from the first one's."""

    name: str
    scores: Mapping[str, metrics.Interval]
    difference: Mapping[str, metrics.Difference] | None


@examples(
    "r2t compare runs/a runs/b --store feats.zarr",
    "r2t compare runs/a runs/b runs/c --store feats.zarr --split test --latex",
    "r2t compare mine.jsonl theirs.jsonl --annotations highlight_val_release.jsonl --json",
)
def compare(  # noqa: PLR0913 - a parameter for each option
    models: RunOrPredictions,
    store: Annotated[
        str | None, typer.Option(help="Feature store with the queries, to compare runs.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotation file of any format, to compare files alone.")
    ] = None,
    split: OptionalSplit = None,
    domain: Domain = None,
    samples: Annotated[
        int, typer.Option(min=100, help="How often to resample and swap the videos.")
    ] = 10_000,
    batch_size: QueryBatch = 16,
    windows: Windows = "auto",
    device: Device = "auto",
    latex: Annotated[
        bool, typer.Option("--latex", help="Print rows of a LaTeX table instead.")
    ] = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Score models on the same queries, and say by how much each differs from the first.

    A difference comes with a 95 % interval, from resampling the videos, and a p-value: how often
    one as large appears when the two models' answers are swapped at random, video by video. By
    default runs are asked the val split of the store, and files are compared on every split.
    """
    with handle_errors():
        if len(models) < 2:
            raise ConfigError(f"{len(models)} model given: a comparison needs two or more")
        if len(set(models)) < len(models):
            raise ConfigError("a model is given twice: it would not differ from itself")
        if latex and json:
            raise ConfigError("give either --latex or --json")
        answered = _answers(
            models,
            store,
            annotations,
            split,
            domain,
            strict=strict,
            asking=Asking(batch_size, windows, device),
        )
        contenders = _contenders([str(model) for model in models], answered, samples)
        size = {
            "queries": len(answered[0].truth),
            "videos": len({row.video_id for row in answered[0].truth}),
        }
        if json:
            print_json({**size, "models": [asdict(each) for each in contenders]})
        elif latex:
            for line in latex_rows(contenders):
                say(line)
        else:
            queries = counted(size["queries"], "query")
            say(f"{queries} of {counted(size['videos'], 'video')}, percent")
            print_comparison(contenders)


def _answers(
    models: Sequence[Path],
    store: str | None,
    annotations: Path | None,
    split: str | None,
    domain: str | None,
    *,
    strict: bool,
    asking: Asking,
) -> list[Answers]:
    """Return what each model predicts; runs are asked, files are read."""
    if (store is None) == (annotations is None):
        raise ConfigError("give either --store, or --annotations for files of predictions alone")
    if store is None:
        assert annotations is not None
        folders = [str(model) for model in models if model.is_dir()]
        if folders:
            raise ConfigError(f"{folders[0]} is a run: give --store with the features to ask it on")
        return [
            read_answers(model, annotations, None, split, domain, strict=strict) for model in models
        ]
    asked: dict[Path, Answers] = {}
    for model in models:
        if model.is_dir():
            note(f"asking {model}")
            asked[model] = ask_model(store, model, None, split or "val", domain, asking)
    if not asked:
        raise ConfigError("only files of predictions are given: compare them with --annotations")
    first = next(iter(asked.values()))
    if first.evaluator in HIGHLIGHTS_ONLY:
        raise ConfigError(f"{first.evaluator} scores videos, so there are no queries to compare on")
    if not first.labelled:
        raise AnnotationError("the queries have no labels to score with")
    return [
        asked[model]
        if model in asked
        else Answers(
            read_predictions(model, first.truth, first.evaluator, strict=strict),
            first.truth,
            first.evaluator,
        )
        for model in models
    ]


def _contenders(
    names: Sequence[str], answered: Sequence[Answers], num_samples: int
) -> list[Contender]:
    scores: list[metrics.QueryScores] = [
        metrics.score_queries(each.rows, each.truth, evaluator=cast("Any", answered[0].evaluator))
        for each in answered
    ]
    shared = [name for name in COMPARED_METRICS if all(name in each.metrics() for each in scores)]
    if not shared:
        raise AnnotationError("the models predict different things: no metric scores them all")
    return [
        Contender(
            name,
            metrics.bootstrap_intervals(
                {metric: own.metrics()[metric] for metric in shared},
                own.video_ids,
                num_samples=num_samples,
            ),
            None
            if own is scores[0]
            else metrics.compare_scores(own, scores[0], metrics=shared, num_samples=num_samples),
        )
        for name, own in zip(names, scores, strict=True)
    ]


def latex_rows(contenders: Sequence[Contender]) -> list[str]:
    """Write a row for each model; a star marks what differs significantly from the first."""
    first = contenders[0]
    heads = " & ".join(COMPARED_METRICS[name] for name in first.scores)
    rows = [
        f"% {heads}; * differs from {first.name.splitlines()[0]}, p < {SIGNIFICANT} "
        "(swapping answers video by video)"
    ]
    for each in contenders:
        cells = ["".join(_LATEX.get(character, character) for character in Path(each.name).stem)]
        for metric, interval in each.scores.items():
            star = each.difference and each.difference[metric].p_value < SIGNIFICANT
            cells.append(f"{interval.value:.1f}" + ("$^{*}$" if star else ""))
        rows.append(" & ".join(cells) + r" \\")
    return rows


def print_comparison(contenders: Sequence[Contender]) -> None:
    """Print tables; where the models' names leave the scores no room, numbers stand for them."""
    names = short_names([each.name for each in contenders])
    room = answers().width - _METRIC_COLUMNS * len(contenders[0].scores) - _NAME_BORDERS
    if max(map(len, names)) > room:
        names = [str(number) for number in range(1, len(names) + 1)]
        for name, each in zip(names, contenders, strict=True):
            say(f"{name}  {each.name}")
    for table in _tables(contenders, names):
        answers().print(table)


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the ends of paths by which they differ: a/run and b/run, or run and other."""
    parts = [Path(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _tables(contenders: Sequence[Contender], names: Sequence[str]) -> list[Table]:
    compared = list(contenders[0].scores)
    scores = Table(title="scores, with 95 % intervals", title_justify="left")
    lead = Table(title=cell(f"differences from {names[0]}"), title_justify="left")
    for table in (scores, lead):
        table.add_column("", overflow="fold")
        for name in compared:
            table.add_column(COMPARED_METRICS[name], justify="right")
    for name, each in zip(names, contenders, strict=True):
        cells = [
            f"{found.value:.1f}\n{found.low:.1f} to {found.high:.1f}"
            for found in each.scores.values()
        ]
        scores.add_row(*map(cell, [name, *cells]))
        if each.difference is not None:
            cells = [
                f"{found.interval.value:+.1f}\n{found.interval.low:+.1f} to "
                f"{found.interval.high:+.1f}\np = {found.p_value:.2g}"
                for found in each.difference.values()
            ]
            lead.add_row(*map(cell, [name, *cells]))
    return [scores, lead]
