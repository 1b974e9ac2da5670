"""Which videos fit a sentence: those it is annotated for, and those a file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError, AnnotationWarning
from r2t.train.metrics.relevance import read_relevance, relevant_videos


def row(query_id: str, video_id: str, query: str) -> Annotation:
    return Annotation(query_id, video_id, query, np.array([[0.0, 1.0]]))


def test_the_same_sentence_fits_every_video_it_is_annotated_for(tmp_path: Path) -> None:
    rows = [row("a", "v0", "a dog"), row("b", "v1", "a dog"), row("c", "v1", "a cat")]
    assert relevant_videos(rows) == {"a": {"v0", "v1"}, "b": {"v0", "v1"}, "c": {"v1"}}
    path = tmp_path / "relevant.jsonl"
    path.write_text('{"query_id": "c", "relevant": ["v0"]}\n\n{"query_id": "c", "relevant": []}\n')
    assert relevant_videos(rows, read_relevance(path))["c"] == {"v0", "v1"}


def test_what_belongs_to_another_split_is_not_taken_silently() -> None:
    rows = [row("a", "v0", "a dog"), row("b", "v1", "a cat")]
    for elsewhere in ({}, {"c": ["v0"]}):
        with pytest.raises(AnnotationError, match="none is one of the 2 of this split, such as"):
            relevant_videos(rows, elsewhere)
    with pytest.raises(AnnotationError, match="give video ids as the store has them"):
        relevant_videos(rows, {"a": ["v1.mp4"], "c": ["v0"]})
    with pytest.warns(AnnotationWarning, match="1 of 2 videos that queries fit are not of"):
        assert relevant_videos(rows, {"a": ["v1", "v2"]}) == {"a": {"v0", "v1"}, "b": {"v1"}}
    assert relevant_videos(rows, {"a": [], "c": ["v9"]}) == {"a": {"v0"}, "b": {"v1"}}


@pytest.mark.parametrize(
    "line",
    ["nothing", "[]", '{"query_id": 1, "relevant": []}', '{"query_id": "a", "relevant": "v0"}'],
)
def test_what_says_anything_else_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "relevant.jsonl"
    path.write_text('{"query_id": "a", "relevant": ["v0"]}\n' + line)
    with pytest.raises(AnnotationError, match=r"relevant\.jsonl:2: expected an object"):
        read_relevance(path)
    with pytest.raises(AnnotationError, match="cannot read"):
        read_relevance(tmp_path / "nowhere.jsonl")
