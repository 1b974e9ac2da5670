"""`r2t demo`: the whole way from videos to moments on an embedded example, offline."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import r2t.extract
import r2t.extract.demo
import r2t.store
from r2t.cli.commands.demo.first import ask_and_draw, first_answer
from r2t.cli.commands.demo.report import score_tables, scores_as_json
from r2t.cli.commands.demo.scores import Scores, compare_methods, score_answers
from r2t.cli.commands.demo.steps import (
    FULL,
    QUICK,
    USUAL,
    DemoSize,
    extract_features,
    make_videos,
    run_folder,
    train_demo_model,
)
from r2t.cli.shared import (
    Json,
    Seed,
    answers,
    examples,
    handle_errors,
    note,
    print_json,
    progress_bar,
    write_json,
)
from r2t.store.annotations import Split
from r2t.store.errors import ConfigError
from r2t.train import grounding


@examples(
    "r2t demo",
    "r2t demo --quick    # a small training, in a minute or two",
    "r2t demo --full     # three trainings, and the mean of their scores",
    "r2t demo --out /tmp/demo --videos 100 --epochs 20",
)
def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for everything the demo makes.",
            show_default="r2t-demo, or r2t-demo-quick",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"A small training: {QUICK.videos} videos, {QUICK.epochs} epochs, "
            f"{QUICK.test_videos} unseen videos.",
        ),
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help=f"{FULL.seeds} trainings with seeds from --seed up, and the mean of their scores.",
        ),
    ] = False,
    videos: Annotated[
        int | None,
        typer.Option(min=2, help="Videos to train on.", show_default=str(USUAL.videos)),
    ] = None,
    test_videos: Annotated[
        int | None,
        typer.Option(min=2, help="Unseen videos to test on.", show_default=str(USUAL.test_videos)),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Passes over the training queries.", show_default=str(USUAL.epochs)
        ),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Ask an unseen video, then start from scratch: videos, features, training, evaluation.

    Nothing is downloaded. The first answer comes from a run that was trained before and is part of
    this package; the tables at the end are of what is trained here. What an earlier demo has left
    in the folder is used again.
    """
    with handle_errors():
        size = _size(quick, full, videos=videos, test_videos=test_videos, epochs=epochs)
        out = out or Path("r2t-demo-quick" if quick else "r2t-demo")
        began = time.monotonic()
        first = _show_first(out, json)
        note(f"first answer after {time.monotonic() - began:.0f} s; now the same from scratch")
        result = _from_scratch(out, size, seed, json)
        seconds = round(time.monotonic() - began)
        result = {**result, "seconds": seconds, "first_answer": first}
        write_json(result, out / "scores.json")
        if json:
            print_json(result)
        else:
            note(f"took {seconds / 60:.1f} minutes; ask a video yourself:")
            asked = f'{first["video"]} "{first["query"]}"'
            note(f"  r2t predict --checkpoint {result['run']} {asked}")


def _size(
    quick: bool,
    full: bool,
    *,
    videos: int | None,
    test_videos: int | None,
    epochs: int | None,
) -> DemoSize:
    """Return the size of a choice; a number that is given counts instead of its own."""
    if quick and full:
        raise ConfigError("--quick and --full: give one of them, or neither")
    size = QUICK if quick else FULL if full else USUAL
    return replace(
        size,
        videos=videos or size.videos,
        test_videos=test_videos or size.test_videos,
        epochs=epochs or size.epochs,
    )


def _show_first(out: Path, json: bool) -> dict[str, Any]:
    with _stage("first answer"):
        first = first_answer(out)
    if not json:
        answers().print(first.table())
    note("this answer comes from a run that was trained before and ships with the package")
    note(f"picture: {first.picture}")
    return first.as_json()


def _from_scratch(out: Path, size: DemoSize, seed: int, json: bool) -> dict[str, Any]:
    """Make, train and evaluate; show the tables unless JSON is wanted, and return it all."""
    folder = out / "videos"
    with _stage("1/5 videos"):
        make_videos(folder, size.videos, size.test_videos, num_val=size.val_videos)
    with _stage("2/5 features"):
        clip, store = extract_features(folder, out / "feats.zarr")
        _require_size(store, size, out)
    grounders: list[grounding.Grounder] = []
    scores: list[Scores] = []
    runs = [run_folder(out, size, number) for number in range(seed, seed + size.seeds)]
    for place, run in enumerate(runs):
        which = f" (seed {seed + place})" if len(runs) > 1 else ""
        with _stage(f"3/5 training{which}"):
            grounders.append(train_demo_model(store, run, epochs=size.epochs, seed=seed + place))
        with _stage(f"4/5 evaluation{which}"):
            scores.append(_score(grounders[-1], clip, store, seed + place))
    with _stage("5/5 picture"):
        question = store.annotations("test")[0]
        drawn = ask_and_draw(grounders[0], clip, folder, question, out / "example.png")
    kinds = r2t.extract.demo.read_kinds(folder / "test.jsonl")
    trainings = [compare_methods([each], kinds) for each in scores]
    methods = trainings[0] if len(scores) == 1 else compare_methods(scores, kinds)
    if not json:
        for table in score_tables(methods, size.test_videos):
            answers().print(table)
        if len(runs) > 1:
            answers().print(f"mean of {len(runs)} trainings")
        note(f"picture: {drawn.picture}")
    return {
        "videos": len(store.videos),
        "run": str(runs[0]),
        "runs": [str(run) for run in runs],
        "picture": str(drawn.picture),
        **scores_as_json(methods),
        "trainings": [scores_as_json(each) for each in trainings],
    }


@contextmanager
def _stage(name: str) -> Generator[None]:
    began = time.monotonic()
    note(f"{name} …", style="bold")
    yield
    note(f"{name}: {time.monotonic() - began:.0f} s")


def _require_size(store: r2t.store.FeatureStore, size: DemoSize, out: Path) -> None:
    """Refuse what an earlier demo with more videos has left: all of them would be trained on."""
    wanted = (size.videos, size.val_videos, size.test_videos)
    splits: tuple[Split, ...] = ("train", "val", "test")
    found = tuple(len({row.video_id for row in store.annotations(name)}) for name in splits)
    if any(has > want for has, want in zip(found, wanted, strict=True)):
        raise ConfigError(
            f"{out} holds features of {found} videos for training, validation and test, but "
            f"{wanted} were asked for: give another --out, or the larger numbers"
        )


def _score(
    grounder: grounding.Grounder,
    clip: r2t.extract.FrozenClip,
    store: r2t.store.FeatureStore,
    seed: int,
) -> Scores:
    with progress_bar("questions") as bar:
        return score_answers(grounder, clip, store, seed=seed, on_queries=bar)
