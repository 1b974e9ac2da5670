"""Results leave the package as JSON values and as data frames that say the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_store import make_store

import r2t.store
from r2t.store import Annotation, moments_frame
from r2t.store.datasets import read_annotations
from r2t.store.jsonl_format import write_annotations
from r2t.train.decode import Grounding


def test_a_grounding_is_json_and_frames_of_the_same_numbers() -> None:
    moments = np.array([[1.5, 4.0, 0.9], [6.0, 8.0, 0.25]])
    grounding = Grounding(moments, np.array([0.5, 0.25], np.float32), 0.5, 8.0)
    values = json.loads(json.dumps(grounding.to_dict()))
    assert values["moments"][1] == {"start_seconds": 6.0, "end_seconds": 8.0, "score": 0.25}
    assert values["saliency"] == [0.5, 0.25]
    pd.testing.assert_frame_equal(grounding.to_frame(), pd.DataFrame(values["moments"]))
    assert grounding.saliency_frame()["time_seconds"].tolist() == [1.0, 3.0]


def test_annotations_are_a_frame_with_a_row_for_each_moment(tmp_path: Path) -> None:
    two = Annotation("a", "dog", "a ball", np.array([[1.0, 2.0], [3.0, 4.0]]), split="val")
    none = Annotation("b", "dog", "a cat", np.zeros((0, 2)))
    frame = moments_frame([two, none])
    assert frame["query_id"].tolist() == ["a", "a", "b"]
    assert frame["start_seconds"].tolist()[:2] == [1.0, 3.0]
    assert frame["end_seconds"].isna().tolist() == [False, False, True]
    write_annotations(tmp_path / "rows.jsonl", [two, none])
    read = read_annotations(tmp_path / "rows.jsonl")
    assert [each.to_dict() for each in read] == [two.to_dict(), none.to_dict()]


def test_features_describe_themselves_without_their_tokens(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr")
    video = store.read_video("v0")
    values = json.loads(json.dumps(video.to_dict()))
    assert values["shape"] == list(video.tokens.shape)
    assert values["num_frames"] == video.num_frames
    query = store.read_query(store.annotations()[0].query_id)
    assert json.loads(json.dumps(query.to_dict()))["shape"] == list(query.tokens.shape)


def test_every_name_that_the_store_exports_is_there() -> None:
    for name in r2t.store.__all__:
        assert getattr(r2t.store, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Store'"):
        _ = r2t.store.Store  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
