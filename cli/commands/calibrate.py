"""`r2t calibrate`: learn from known pairs when a sentence is probably not in a video."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

import r2t.store
import r2t.train
from r2t.cli.shared import (
    SOME_FAILED,
    Device,
    Json,
    OwnRun,
    QuerySplit,
    RelevantFile,
    Seed,
    Store,
    Windows,
    as_windows,
    examples,
    handle_errors,
    note,
    print_json,
    progress_bar,
    say,
)
from r2t.store.annotations import Annotation, Split
from r2t.store.compatibility import require_compatible
from r2t.store.errors import ConfigError
from r2t.train import grounding, metrics, run, training


@examples(
    "r2t calibrate --store feats.zarr --checkpoint runs/x",
    "r2t calibrate --store feats.zarr --checkpoint runs/x --absent 10 --json",
)
def calibrate(  # noqa: PLR0913 - a parameter for each option
    store: Store,
    checkpoint: OwnRun,
    split: QuerySplit = "val",
    absent: Annotated[
        int,
        typer.Option(
            min=1, help="How many sentences of other videos to ask for each of a video's own."
        ),
    ] = 4,
    relevant: RelevantFile = None,
    seed: Seed = 0,
    windows: Windows = "auto",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Choose the score below which a sentence is called probably not in the video.

    Each video is asked its own sentences and, of other videos, those that --relevant does not say
    fit it as well. The threshold that separates the two best is written into the run's folder, with
    how well it does so and the frame rate that it is for. The run must not have been trained on the
    --split.

    A threshold is of use if, on videos that it was not chosen on, it is right for 75 % of both
    kinds of sentences, each kind counting half (a coin is for 50 %), and denies no more than 25 %
    of a video's own: the 95 % intervals must stay on the right side. If not, nothing is written,
    the exit status is 1, and no command gives a verdict.
    """
    with handle_errors():
        run.require_writable_run(checkpoint)
        features = r2t.store.FeatureStore.open(store)
        grounder = grounding.Grounder.load(checkpoint, device=r2t.train.pick_device(device))
        require_compatible(
            grounder.spec,
            features.spec,
            action=f"calibrate {checkpoint} on {store}",
            names=(checkpoint, store),
        )
        rows = _queries(features, split, grounder)
        with progress_bar("questions") as show_done:
            rule = grounding.choose_presence_rule(
                grounder,
                features,
                rows,
                relevance=metrics.read_relevance(relevant) if relevant else None,
                absent_per_query=absent,
                seed=seed,
                plan=grounder.plan(as_windows(windows)),
                on_queries=show_done,
            )
        facts = {"store": store, "content": features.content_digest(), "split": split, "seed": seed}
        shortcoming = rule.shortcoming
        if shortcoming is None:
            grounding.save_rule(checkpoint, rule, facts)
        if json:
            print_json({**asdict(rule), "useful": shortcoming is None, **facts})
        else:
            say(rule_line(rule))
        path = checkpoint / grounding.PRESENCE
        if shortcoming is None:
            note(f"written: {path}")
            return
        note(
            f"not written: it {shortcoming}. More annotated videos of split {split!r} narrow them; "
            "--relevant names sentences that fit other videos too; longer training may help. Where "
            "frames show many things at once, no threshold may tell",
            style="yellow",
        )
        score, rate = grounder.video_score_name, features.spec.frame_rate
        if grounding.load_rule(checkpoint, score, rate) is not None:
            note(f"{path} of an earlier calibration stays in use; delete it if it should not be")
        raise typer.Exit(SOME_FAILED)


def _queries(
    store: r2t.store.FeatureStore, split: Split, grounder: grounding.Grounder
) -> list[Annotation]:
    """Return the queries of stored videos of a split; warn of those that were trained on."""
    rows = [
        row
        for row in training.evaluation_queries(store, split, None, grounder.trained_on)
        if store.is_indexed(row.video_id)
    ]
    if len({row.video_id for row in rows}) < 2:
        others = [f"--split {name}" for name in _large_splits(store) if name != split]
        mend = f"take {' or '.join(others)}" if others else "annotate more videos"
        raise ConfigError(
            f"{store.location} has queries of fewer than two videos in split {split!r}: asking a "
            f"video the sentences of another takes two; {mend}"
        )
    if split == "train":
        note(
            "note: a run is trained on split 'train', and a threshold chosen on what it was "
            "trained on looks better than it is: --split val or test",
            style="yellow",
        )
    return rows


def _large_splits(store: r2t.store.FeatureStore) -> list[str]:
    """Return the splits with queries of several videos, but for the one that runs train on."""
    columns = (store.queries[name].tolist() for name in ("split", "video_id"))
    videos: Counter[str] = Counter(split for split, _ in set(zip(*columns, strict=True)))
    return [split for split, count in sorted(videos.items()) if count > 1 and split != "train"]


def rule_line(rule: grounding.PresenceRule) -> str:
    """Say what a rule does, and how sure that is."""
    held_out = f"[{rule.held_out_right_low:.0%}, {rule.held_out_right_high:.0%}]"
    misses = f"[{rule.held_out_misses_low:.0%}, {rule.held_out_misses_high:.0%}]"
    alarms = f"[{rule.held_out_false_alarms_low:.0%}, {rule.held_out_false_alarms_high:.0%}]"
    return (
        f"a sentence counts as present from {rule.threshold:.3f} on ({rule.score}): right for "
        f"{rule.recall:.0%} of {rule.num_present} sentences of the video and {rule.rejected:.0%} "
        f"of {rule.num_absent} sentences of other videos; on videos that the threshold was not "
        f"chosen on, for {rule.held_out_right:.0%} {held_out} of both, with "
        f"{rule.held_out_misses:.0%} {misses} of the video's own missed and "
        f"{rule.held_out_false_alarms:.0%} {alarms} of the others believed; a sentence of the "
        f"video scores above one of another video in {rule.auc:.0%} "
        f"[{rule.auc_low:.0%}, {rule.auc_high:.0%}] of pairs (chance is 50%)"
    )
