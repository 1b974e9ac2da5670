"""The study of the prior: what it says of rankings and of leads, on scores made up for it."""

from __future__ import annotations

import numpy as np
from prior_study import ranked
from prior_tables import FROZEN, MAP, PLAIN, PRIOR, Ways

from r2t.store.annotations import Annotation


def test_a_ranking_counts_the_videos_above_a_sentences_own() -> None:
    asked = [_sentence("a"), _sentence("b")]
    table = np.array([[0.9, 0.1, 0.2], [0.3, 0.2, 0.1]])
    found = ranked(table, asked, ["a", "b", "c"])
    assert found["recall@1"] == 50
    assert found["recall@10"] == 100
    # Of the pairs of an own video (.9, .2) and another (.1, .2, .3, .1), 6 in order and one tied.
    assert found["AUC"] == 6.5 / 8


def test_leads_are_paired_by_query_and_told_by_kind() -> None:
    runs = {
        FROZEN: [_run([10.0, 40.0])],
        PLAIN: [_run([20.0, 60.0]), _run([30.0, 70.0])],
        PRIOR: [_run([50.0, 60.0]), _run([60.0, 70.0])],
    }
    ways = Ways(runs, {"0": "action", "1": "place"})
    assert ways.lead(PLAIN, MAP, ways.kind == "action") == "+30.0 [+30.0, +30.0]"
    assert ways.lead(PLAIN, MAP, ways.kind == "place") == "+0.0 [+0.0, +0.0]"
    assert [row[:5] for row in ways.by_kind()[1:]] == [
        ["action", "1", "10.0", "25.0", "55.0"],
        ["place", "1", "40.0", "65.0", "65.0"],
    ]


def _sentence(video_id: str) -> Annotation:
    return Annotation(
        query_id=f"query-{video_id}",
        video_id=video_id,
        query="a red circle",
        split="test",
        moments=np.array([[0.0, 1.0]]),
    )


def _run(values: list[float]) -> dict:
    return {"query_ids": ["0", "1"], "video_ids": ["a", "b"], "metrics": {MAP: values}}
