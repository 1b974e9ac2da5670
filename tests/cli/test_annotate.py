"""`r2t store annotate`: new and corrected queries of videos that are stored already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from features import random_tokens
from typer.testing import CliRunner

from r2t.cli.store import app
from r2t.extract.annotate import annotate
from r2t.extract.clip import FrozenClip
from r2t.store import Annotation, FeatureStore
from r2t.store.errors import SpecMismatchError, StoreError
from r2t.store.repair import repair
from r2t.store.verify import verify


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> FrozenClip:
    return FrozenClip.load(str(clip_folder), layers=2, batch_size=4)


@pytest.fixture
def store(clip: FrozenClip, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "feats.zarr", clip.spec(0.5), clip.provenance())
    with store.writer() as writer:
        for number in range(2):
            with writer.video(
                f"v{number}", num_frames=3, duration_seconds=6.0, frame_rate_fps=0.5
            ) as video:
                video.append(random_tokens(3, seed=number, spec=store.spec))
    annotate(clip, store, [query("q0"), query("q1", "v1")])
    return store


def query(query_id: str, video_id: str = "v0", text: str = "a dog", end: float = 4.0) -> Annotation:
    return Annotation(query_id, video_id, text, np.array([[1.0, end]]))


def texts(store: FeatureStore) -> dict[str, str]:
    return {each.query_id: each.query for each in FeatureStore.open(store.location).annotations()}


def test_queries_are_added_once(clip: FrozenClip, store: FeatureStore) -> None:
    report = annotate(clip, store, [query("q1", "v1"), query("q2", text="a cat"), query("x", "v9")])
    assert (report.num_new, report.num_replaced, report.num_unchanged) == (1, 0, 1)
    assert report.missing_videos == {"v9": 1}
    assert texts(store) == {"q0": "a dog", "q1": "a dog", "q2": "a cat"}
    (expected,) = clip.encode_queries(["a cat"], ["q2"])
    np.testing.assert_array_equal(store.read_query("q2").tokens, expected.tokens)
    assert verify(store.location).faults == ()


def test_other_content_is_refused_unless_asked_for(clip: FrozenClip, store: FeatureStore) -> None:
    before = FeatureStore.open(store.location)
    old = before.read_query("q0").tokens.copy()
    changed = [query("q0", text="a cat"), query("q1", "v1", end=5.0), query("q2", text="a cow")]
    with pytest.raises(StoreError, match=r"2 queries are in .*--replace"):
        annotate(clip, store, changed)
    assert texts(store) == {"q0": "a dog", "q1": "a dog"}
    report = annotate(clip, store, changed, replace=True)
    assert (report.num_new, report.num_replaced) == (1, 2)
    assert texts(store) == {"q0": "a cat", "q1": "a dog", "q2": "a cow"}
    (expected,) = clip.encode_queries(["a cat"], ["q0"])
    np.testing.assert_array_equal(store.read_query("q0").tokens, expected.tokens)
    # Who opened the store before keeps what was there, until a repair.
    np.testing.assert_array_equal(before.read_query("q0").tokens, old)
    found = verify(store.location)
    assert (found.faults, found.num_replaced_parts) == ((), 1)
    repair(store.location)
    assert verify(store.location).num_replaced_parts == 0
    assert texts(store) == {"q0": "a cat", "q1": "a dog", "q2": "a cow"}
    annotate(clip, store, [query("q0", text="a bird")], replace=True)
    annotate(clip, store, [query("q0", text="a fish")], replace=True)
    assert texts(store)["q0"] == "a fish"


def test_another_clip_is_refused(clip: FrozenClip, store: FeatureStore, tmp_path: Path) -> None:
    spec = replace(store.spec, weights_sha256="1" * 64)
    other = FeatureStore.create(tmp_path / "other.zarr", spec)
    with pytest.raises(SpecMismatchError, match="weights_sha256"):
        annotate(clip, other, [query("q0")])


def test_the_command_finds_the_clip_that_made_the_store(
    store: FeatureStore, tmp_path: Path
) -> None:
    rows = tmp_path / "more.csv"
    rows.write_text("video,query,start,end\nv0,a red ball,0,2\nv9,a red ball,0,2\n")
    answer = CliRunner().invoke(
        app, ["annotate", store.location, "--annotations", str(rows), "--offline"]
    )
    assert answer.exit_code == 1, answer.stderr
    assert "1 query added, 0 replaced" in answer.stderr
    assert "videos are not stored: v9" in answer.stderr
    assert "a red ball" in texts(store).values()
