"""`r2t search`: ask every video of a store."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

import r2t.store
from r2t.cli.answers import (
    ABSENT,
    load_for_store,
    load_presence_rule,
    note_long_videos,
    presence_json,
)
from r2t.cli.shared import (
    SOME_FAILED,
    Device,
    Json,
    Offline,
    OptionalCheckpoint,
    RunModel,
    RunPretrained,
    Store,
    Windows,
    answers,
    as_windows,
    cell,
    clip_options,
    examples,
    handle_errors,
    minutes,
    note,
    print_json,
    progress_bar,
    span,
)
from r2t.extract import clip
from r2t.store.errors import ConfigError
from r2t.store.features import QueryFeatures
from r2t.store.wording import counted
from r2t.train import grounding


@examples(
    'r2t search --store feats.zarr "a dog catches a frisbee"',
    'r2t search --store feats.zarr --checkpoint runs/x "a dog catches a frisbee"',
    'r2t search --store feats.zarr --checkpoint runs/x "a dog catches a frisbee" --top 3 '
    "--json | jq .videos[0]",
)
def search(  # noqa: PLR0913 - a parameter for each option
    query: Annotated[str, typer.Argument(help="What to look for, as a sentence.")],
    store: Store,
    checkpoint: OptionalCheckpoint = None,
    top: Annotated[int, typer.Option(min=1, help="Videos to show, in --json too.")] = 10,
    moments: Annotated[int, typer.Option(min=1, help="Moments to show of each video.")] = 1,
    model: RunModel = None,
    pretrained: RunPretrained = None,
    offline: Offline = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Videos in a batch.")] = 16,
    windows: Windows = "auto",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Find the moments in a whole store that a sentence describes; no video is decoded.

    Videos are ranked by a score of their own, which can be compared between videos; the moments of
    one video are ranked by theirs, which cannot. Without --checkpoint the frozen CLIP answers,
    which was not trained for moments, from the store's embeddings alone.
    """
    with handle_errors():
        features = r2t.store.FeatureStore.open(store)
        answerer = load_for_store(
            checkpoint, features, windows=windows, device=device, action=f"search {store}"
        )
        rule = load_presence_rule(checkpoint, answerer, features.spec.frame_rate)
        if not len(features):
            raise ConfigError(f"{store} holds no videos; r2t extract adds them")
        plan = answerer.plan(as_windows(windows))
        note_long_videos(features, plan, set(features))
        encoder = clip.QueryEncoder.matching(
            answerer,
            clip_options(model, pretrained, device, offline=offline),
        )
        asked = encoder.encode_query(query)
        began = time.perf_counter()
        best, failed = _best_answers(answerer, features, asked, top, batch_size, plan)
        seconds = time.perf_counter() - began
        count = len(features)
        if json:
            print_json(
                {
                    "query": query,
                    "store": store,
                    "num_videos": count,
                    "num_failed": len(failed),
                    "seconds": round(seconds, 3),
                    "caveat": answerer.caveat,
                    "videos": [_json(answer, moments, rule) for answer in best],
                }
            )
        else:
            answers().print(_table(best, query, moments, rule))
            if answerer.caveat is not None:
                answers().print(answerer.caveat, style="yellow")
            # Best first: if the best is probably absent, so are all the others.
            if best and rule is not None and rule.denies(best[0].score):
                answers().print(
                    f"probably in none of these videos ({rule.score} {best[0].score:.3f} < "
                    f"{rule.threshold:.3f})",
                    style="yellow",
                    soft_wrap=True,
                )
        note(f"asked {counted(count, 'video')} in {seconds:.1f} s, {count / seconds:.0f} a second")
        for answer in failed:
            note(f"failed: {answer.video_id}: {answer.error}", style="red")
        if failed:
            raise typer.Exit(SOME_FAILED)


def _best_answers(
    answerer: grounding.Answerer,
    store: r2t.store.FeatureStore,
    query: QueryFeatures,
    top: int,
    batch_size: int,
    plan: grounding.WindowPlan,
) -> tuple[list[grounding.VideoAnswer], list[grounding.VideoAnswer]]:
    """Return the best answers, best first, and the failures; the rest are dropped on the way."""
    best: list[tuple[float, str, grounding.VideoAnswer]] = []
    failed: list[grounding.VideoAnswer] = []
    with progress_bar("videos", len(store)) as show_done:
        found = grounding.search_store(answerer, store, query, batch_size=batch_size, plan=plan)
        for done, answer in enumerate(found, start=1):
            if answer.grounding is None:
                failed.append(answer)
            else:
                heapq.heappush(best, (answer.score, answer.video_id, answer))
                if len(best) > top:
                    heapq.heappop(best)
            show_done(done, len(store))
    return [answer for _, _, answer in sorted(best, reverse=True)], failed


def _json(
    answer: grounding.VideoAnswer,
    num_moments: int,
    rule: grounding.PresenceRule | None,
) -> dict[str, Any]:
    assert answer.grounding is not None
    return {
        "video": answer.video_id,
        "score": answer.score,
        "duration_seconds": answer.grounding.duration_seconds,
        "peak_seconds": peak_seconds(answer),
        "presence": presence_json(rule, answer.grounding),
        "moments": [
            {"start_seconds": start, "end_seconds": end, "score": score}
            for start, end, score in answer.grounding.found(num_moments).tolist()
        ],
    }


def peak_seconds(answer: grounding.VideoAnswer) -> float:
    """Return where the saliency is highest: the middle of that frame's slot."""
    assert answer.grounding is not None
    return (int(answer.grounding.saliency.argmax()) + 0.5) / answer.grounding.frame_rate_fps


def _table(
    best: Sequence[grounding.VideoAnswer],
    query: str,
    num_moments: int,
    rule: grounding.PresenceRule | None,
) -> Table:
    table = Table(title=Text(query, style="bold"), title_justify="left")
    for name in ("", "score"):
        table.add_column(name, justify="right")
    table.add_column("video", overflow="fold")
    for name in ("moment", "highest at"):
        table.add_column(name, justify="right")
    denied = [rule is not None and rule.denies(answer.score) for answer in best]
    if any(denied):
        table.add_column("verdict")
    for rank, answer in enumerate(best, start=1):
        assert answer.grounding is not None
        found = answer.grounding.found(num_moments).tolist()
        spans = "\n".join(span(start, end) for start, end, _ in found) or "-"
        table.add_row(
            str(rank),
            f"{answer.score:.3f}",
            cell(answer.video_id),
            cell(spans),
            minutes(peak_seconds(answer)),
            *([ABSENT if denied[rank - 1] else ""] if any(denied) else []),
        )
    return table
