"""`r2t store annotate`: new and corrected queries of videos that are stored already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from features import random_tokens
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.extract.annotate import annotate_store
from r2t.extract.clip.clip import FrozenClip
from r2t.store import Annotation, FeatureStore
from r2t.store.change.repair import repair_store
from r2t.store.check.verify import verify_store
from r2t.store.errors import SpecMismatchError, StoreError


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> FrozenClip:
    return FrozenClip.load(str(clip_folder), layers=2, batch_size=4)


@pytest.fixture
def store(clip: FrozenClip, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(
        tmp_path / "feats.zarr", clip.spec(0.5), clip.provenance(), embedding=clip.embedding
    )
    with store.writer() as writer:
        for number in range(2):
            with writer.video(
                f"v{number}", num_frames=3, duration_seconds=6.0, frame_rate_fps=0.5
            ) as video:
                embedding = np.eye(3, 16, dtype=np.float16)
                video.append(random_tokens(3, seed=number, spec=store.spec), embedding)
    annotate_store(clip, store, [query("q0"), query("q1", "v1")])
    return store


def query(query_id: str, video_id: str = "v0", text: str = "a dog", end: float = 4.0) -> Annotation:
    return Annotation(query_id, video_id, text, np.array([[1.0, end]]))


def texts(store: FeatureStore) -> dict[str, str]:
    return {each.query_id: each.query for each in FeatureStore.open(store.location).annotations()}


def test_queries_are_added_once(clip: FrozenClip, store: FeatureStore) -> None:
    report = annotate_store(
        clip, store, [query("q1", "v1"), query("q2", text="a cat"), query("x", "v9")]
    )
    assert (report.num_new, report.num_replaced, report.num_unchanged) == (1, 0, 1)
    assert report.missing_videos == {"v9": 1}
    assert texts(store) == {"q0": "a dog", "q1": "a dog", "q2": "a cat"}
    (expected,) = clip.encode_queries(["a cat"], ["q2"])
    stored = store.read_query("q2")
    np.testing.assert_array_equal(stored.tokens, expected.tokens)
    np.testing.assert_array_equal(stored.embedding, expected.embedding)
    assert verify_store(store.location).faults == ()


def test_other_content_is_refused_unless_asked_for(clip: FrozenClip, store: FeatureStore) -> None:
    before = FeatureStore.open(store.location)
    old = before.read_query("q0").tokens.copy()
    changed = [query("q0", text="a cat"), query("q1", "v1", end=5.0), query("q2", text="a cow")]
    with pytest.raises(StoreError, match=r"2 queries are in .* is query 'q0', .*--replace"):
        annotate_store(clip, store, changed)
    assert texts(store) == {"q0": "a dog", "q1": "a dog"}
    report = annotate_store(clip, store, changed, replace=True)
    assert (report.num_new, report.num_replaced) == (1, 2)
    assert texts(store) == {"q0": "a cat", "q1": "a dog", "q2": "a cow"}
    (expected,) = clip.encode_queries(["a cat"], ["q0"])
    np.testing.assert_array_equal(store.read_query("q0").tokens, expected.tokens)
    # Who opened the store before keeps what was there, until a repair.
    np.testing.assert_array_equal(before.read_query("q0").tokens, old)
    found = verify_store(store.location)
    assert (found.faults, found.num_replaced_parts) == ((), 1)
    repair_store(store.location)
    assert verify_store(store.location).num_replaced_parts == 0
    assert texts(store) == {"q0": "a cat", "q1": "a dog", "q2": "a cow"}
    annotate_store(clip, store, [query("q0", text="a bird")], replace=True)
    annotate_store(clip, store, [query("q0", text="a fish")], replace=True)
    assert texts(store)["q0"] == "a fish"


def test_another_clip_is_refused(clip: FrozenClip, store: FeatureStore, tmp_path: Path) -> None:
    spec = replace(store.spec, weights_sha256="1" * 64)
    other = FeatureStore.create(tmp_path / "other.zarr", spec)
    with pytest.raises(SpecMismatchError, match="weights_sha256"):
        annotate_store(clip, other, [query("q0")])


def test_the_command_finds_the_clip_that_made_the_store(
    store: FeatureStore, tmp_path: Path
) -> None:
    rows = tmp_path / "more.csv"
    rows.write_text("video,query,start,end\nv0,a red ball,0,2\nv9,a red ball,0,2\n")
    answer = CliRunner().invoke(
        app, ["annotate", store.location, "--annotations", str(rows), "--offline"]
    )
    assert answer.exit_code == 1, answer.stderr
    assert "1 query added, 0 replaced" in answer.stdout
    assert "of videos that are not stored: v9" in answer.stderr
    assert "a red ball" in texts(store).values()


def test_a_reworded_sentence_takes_the_place_of_the_old_one(
    clip: FrozenClip, store: FeatureStore, tmp_path: Path
) -> None:
    def given(text: str) -> str:
        rows = tmp_path / "rows.csv"
        rows.write_text(f"video,query,start,end\nv0.mp4,{text},0,2\nv1,a cow,1,2\n")
        return str(rows)

    command = ["annotate", store.location, "--offline", "--annotations"]
    assert CliRunner().invoke(app, [*command, given("a bal")]).exit_code == 0
    answer = CliRunner().invoke(app, [*command, given("a ball")])
    assert answer.exit_code == 0
    assert "'a bal' → 'a ball' of v0" in answer.stderr
    assert {"a bal", "a ball"} <= set(texts(store).values())
    answer = CliRunner().invoke(app, [*command, given("a ball"), "--replace"])
    assert "reworded, and the old sentence removed: 'a bal'" in answer.stderr
    assert sorted(texts(store).values()) == ["a ball", "a cow", "a dog", "a dog"]
    assert verify_store(store.location).faults == ()


def test_what_differs_is_said_and_impossible_times_are_left_out(
    clip: FrozenClip, store: FeatureStore
) -> None:
    with pytest.raises(StoreError, match=r"\(split 'train', now 'val'\); replace with --replace"):
        annotate_store(clip, store, [replace(query("q0"), split="val")])
    with pytest.raises(StoreError, match=r"\(moments \[\[1.0, 4.0\]\], now \[\[1.0, 5.0\]\]\)"):
        annotate_store(clip, store, [query("q0", end=5.0)])
    outside = Annotation("q7", "v0", "a cow", np.array([[100.0, 300.0]]))
    report = annotate_store(clip, store, [outside, query("q8", text="a cat")])
    assert not report.complete
    assert "the video's end at 6.00 s" in report.impossible_queries["q7"]
    assert "q7" not in texts(store)
    assert texts(store)["q8"] == "a cat"


def test_single_queries_are_removed_by_id(clip: FrozenClip, store: FeatureStore) -> None:
    annotate_store(clip, store, [query("q2", text="a cat"), query("v1", "v1", text="a cow")])
    answer = CliRunner().invoke(app, ["remove", store.location, "q0"])
    assert (answer.exit_code, "removed 0 videos, 1 query" in answer.stdout) == (0, True)
    assert texts(store).keys() == {"q1", "q2", "v1"}
    answer = CliRunner().invoke(app, ["remove", store.location, "q1", "V0"])
    assert answer.exit_code == 2
    assert "no videos or queries V0 (there is 'v0', spelled differently)" in answer.stderr
    # An id of both is the video's.
    answer = CliRunner().invoke(app, ["remove", store.location, "v1.mp4"])
    assert "removed 1 video, 2 queries" in answer.stdout
    assert texts(store).keys() == {"q2"}
    assert verify_store(store.location).faults == ()


def test_videos_of_a_store_are_named_as_files_and_none_is_left_out_silently(
    store: FeatureStore,
) -> None:
    command = ["licence", store.location, "--videos"]
    assert CliRunner().invoke(app, [*command, "v0.mp4", "--set", "MIT"]).exit_code == 0
    answer = CliRunner().invoke(app, [*command, "v0", "--videos", "V1"])
    assert answer.exit_code == 2
    assert "there is no video V1 (there is 'v1', spelled differently)" in answer.stderr
    assert "MIT" in CliRunner().invoke(app, [*command, "v0.mkv"]).stdout
