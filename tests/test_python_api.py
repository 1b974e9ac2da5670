"""Results leave the package as JSON values and as data frames that say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from barcode_videos import Recipe, write_video
from demo_run import make_demo_run
from toy_store import make_store, toy_spec

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.matching import ClipOptions
from r2t.store import Annotation, FeatureStore, moments_frame
from r2t.store.datasets.own_rows import write_annotations
from r2t.store.datasets.registry import read_annotations
from r2t.store.errors import ConfigError, FeatureNotFoundError, SpecMismatchError, VideoError
from r2t.train.grounding.grounder import Grounder
from r2t.train.model.decode import Grounding

ON_CPU = ClipOptions(device="cpu")


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return FrozenClip.load("r2t-demo", layers=2, device="cpu")


@pytest.fixture(scope="module")
def grounder(clip: FrozenClip, tmp_path_factory: pytest.TempPathFactory) -> Grounder:
    return Grounder.load(make_demo_run(tmp_path_factory.mktemp("run"), clip.spec(4.0)))


def test_two_lines_lead_from_a_run_to_an_answer(
    clip: FrozenClip, grounder: Grounder, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "dog", Recipe())
    found = FrozenClip.matching(grounder, ON_CPU)
    heard: list[tuple[float, float]] = []
    grounding = grounder.ask(
        found, video, "a ball", on_frames=lambda done, total: heard.append((done, total))
    )
    expected = grounder(clip.encode_video(video, 4.0), clip.encode_query("a ball"))
    np.testing.assert_array_equal(grounding.moments, expected.moments)
    np.testing.assert_array_equal(grounding.saliency, expected.saliency)
    assert grounding.frame_rate_fps == 4  # as the run was trained
    assert heard[-1] == (20, 20)
    assert len(grounder.ask(found, video, "a ball", frame_rate_fps=2).saliency) == 10
    with pytest.raises(VideoError, match="no such file"):
        grounder.ask(found, tmp_path / "none.mp4", "a ball")


def test_a_file_of_any_length_is_encoded_once_and_asked_often(
    clip: FrozenClip, grounder: Grounder, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "dog", Recipe())
    with clip.open_video(path, grounder.frame_rate()) as source:
        video = grounder.prepare(source, grounder.plan(windows=8))
    path.unlink()
    assert (video.video_id, video.num_frames, len(video.parts)) == ("dog", 20, 4)
    write_video(tmp_path / "dog", Recipe())
    for sentence in ("a ball", "a cat"):
        found = grounder(video, clip.encode_query(sentence))
        expected = grounder.ask(clip, path, sentence, windows=8)
        np.testing.assert_array_equal(found.moments, expected.moments)
        np.testing.assert_array_equal(found.saliency, expected.saliency)


def test_the_clip_of_features_is_found_and_another_is_refused(
    clip: FrozenClip, grounder: Grounder, tmp_path: Path
) -> None:
    spec = grounder.spec
    store = FeatureStore.create(tmp_path / "feats.zarr", spec, {"pretrained": "none"})
    assert FrozenClip.matching(spec, ON_CPU).weights_sha256 == spec.weights_sha256
    with pytest.raises(SpecMismatchError, match="weights_sha256"):  # what the store recorded
        FrozenClip.matching(store, ON_CPU)
    found = FrozenClip.matching(store, replace(ON_CPU, pretrained="demo"))
    assert found.spec(4.0) == clip.spec(4.0)
    other = FrozenClip.load("r2t-demo", pretrained="none", layers=2, device="cpu")
    with pytest.raises(SpecMismatchError, match="weights_sha256"):
        grounder.ask(other, tmp_path / "none.mp4", "a ball")


def test_without_one_frame_rate_a_file_is_asked_at_a_given_one(
    clip: FrozenClip, tmp_path: Path
) -> None:
    run = make_demo_run(tmp_path, clip.spec("per-video"))
    grounder = Grounder.load(run)
    video = write_video(tmp_path / "dog", Recipe())
    with pytest.raises(ConfigError, match="frame_rate_fps"):
        grounder.ask(clip, video, "a ball")
    assert len(grounder.ask(clip, video, "a ball", frame_rate_fps=1).saliency) == 5


def test_a_store_is_a_container_of_videos(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=3)
    assert len(store) == 3
    assert list(store) == ["v0", "v1", "v2"]
    assert "v1" in store
    assert "v3" not in store
    np.testing.assert_array_equal(store["v1"].tokens, store.read_video("v1").tokens)
    with pytest.raises(KeyError, match="no video 'v3'"):
        store["v3"]
    with pytest.raises(FeatureNotFoundError):
        store["v3"]


def test_notebooks_show_tables_in_which_nothing_is_markup(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    odd = FeatureStore.create(tmp_path / hostile[:8], replace(toy_spec(), model=hostile))
    shown = odd._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<td style='text-align:left'>none</td>" in shown  # of queries
    store = make_store(tmp_path / "feats.zarr")
    assert "train 8, val 4" in store._repr_html_()
    grounding = Grounding(np.array([[1.5, 4.0, 0.9]]), np.zeros(4, np.float32), 0.5, 8.0, 0.5)
    assert "1.5 - 4.0 s" in grounding._repr_html_()


def test_a_grounding_is_json_and_frames_of_the_same_numbers() -> None:
    moments = np.array([[1.5, 4.0, 0.9], [6.0, 8.0, 0.25], [1.0, 4.0, 0.0]])  # one suppressed
    grounding = Grounding(moments, np.array([0.5, 0.25], np.float32), 0.5, 8.0, 0.5)
    values = json.loads(json.dumps(grounding.to_dict()))
    assert values["moments"][1] == {"start_seconds": 6.0, "end_seconds": 8.0, "score": 0.25}
    assert values["saliency"] == [0.5, 0.25]
    assert len(values["moments"]) == 2
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
