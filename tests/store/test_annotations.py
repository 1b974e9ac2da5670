from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from r2t.store.annotations import Annotation, SaliencyLabels
from r2t.store.datasets.folder import survey_folder
from r2t.store.datasets.own_rows import write_annotations
from r2t.store.datasets.registry import read_annotations
from r2t.store.datasets.splits import TVSUM_SPLITS, YOUTUBE_HIGHLIGHTS_SPLITS, split_of
from r2t.store.errors import AnnotationError, AnnotationWarning

RELEASED: dict[str, Any] = {
    "qid": 7,
    "query": "A dog digs",
    "duration": 11,
    "vid": "-x_0.0_11.0",
    "relevant_windows": [[2, 6]],
    "relevant_clip_ids": [1, 2],
    "saliency_scores": [[4, 0, 1], [2, 2, 2]],
}

Save = Callable[[str, object], Path]


def _equal(one: Annotation, other: Annotation) -> bool:
    def plain(a: Annotation) -> tuple[object, ...]:
        human = a.saliency
        labels = human and (human.scores.tolist(), human.clip_seconds, human.lowest, human.highest)
        texts = a.query_id, a.video_id, a.query, a.split, a.domain
        return (*texts, a.duration_seconds, a.moments.tolist(), labels)

    return plain(one) == plain(other)


def test_reads_released_json_lines(save: Save) -> None:
    unlabelled = {"qid": "s1_0", "query": "ü", "duration": 3.5, "vid": "s1", "more": [1]}
    text = f"\ufeff{json.dumps(RELEASED)}\r\n\n  {json.dumps(unlabelled)}\n"
    first, second = read_annotations(save("highlight_val_release.jsonl", text))
    assert (first.query_id, first.video_id, first.query) == ("7", "-x_0.0_11.0", "A dog digs")
    assert (first.split, first.duration_seconds) == ("val", 11)
    assert first.moments.tolist() == [[2, 6]]
    assert first.saliency is not None
    # int(11 / 2) clips; those that nobody listed score 0
    assert first.saliency.scores.tolist() == [[0, 0, 0], [4, 0, 1], [2, 2, 2], [0, 0, 0], [0, 0, 0]]
    assert (first.saliency.lowest, first.saliency.highest) == (0, 4)
    assert first.saliency.clip_seconds == 2
    assert (second.query_id, second.query, len(second.moments)) == ("s1_0", "ü", 0)
    assert second.saliency is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qid": True}, "'qid' is True"),
        ({"qid": 1.5}, "'qid' is 1.5"),
        ({"qid": 10**40}, "64 bits"),
        ({"qid": " "}, "'qid' is empty"),
        ({"query": ""}, "'query' is empty"),
        ({"query": 3}, "'query' is 3"),
        ({"query": "\ud800"}, "surrogate"),
        ({"duration": "11"}, "'duration' is '11'; expected a number"),
        ({"duration": False}, "'duration' is False"),
        ({"duration": -1}, "'duration' = -1; must be 0 to 1e"),
        ({"duration": 10**400}, "64 bits"),
        ({"duration": 1e9}, "must be"),
        ({"duration": 1}, "rows with saliency must last 2"),
        ({"duration": float("nan")}, "NaN is not a legal number"),
        ({"relevant_windows": [[2, float("inf")]]}, "Infinity is not a legal number"),
        ({"relevant_windows": [[-1, 2]]}, "must be 0"),
        ({"relevant_windows": [[6, 2]]}, r"\[6, 2\] ends before it starts"),
        ({"relevant_windows": [[1, 2, 3]]}, "3 numbers; expected 2"),
        ({"relevant_windows": [1, 2]}, "expected a list"),
        ({"relevant_clip_ids": [1]}, "1 relevant_clip_ids but 2"),
        ({"relevant_clip_ids": [1, 5]}, "5 is not a clip of a 11 s video; must be 0 to 4"),
        ({"relevant_clip_ids": [1, True]}, "True is not a clip"),
        ({"relevant_clip_ids": [1, 1]}, "occurs twice"),
        ({"saliency_scores": [[5, 0, 0], [0, 0, 0]]}, "must be 0 to 4"),
        ({"saliency_scores": [[1, 0], [0, 0]]}, "expected 3"),
        ({"split": "dev"}, "'dev'; must be train, val or test"),
        ({"label": [[1]]}, "youtube_anno.json"),
    ],
)
def test_names_row_and_field_of_what_is_illegal(
    save: Save, change: dict[str, object], message: str
) -> None:
    path = save(
        "a.jsonl", json.dumps({**RELEASED, "qid": 1}) + "\n\n" + json.dumps(RELEASED | change)
    )
    with pytest.raises(AnnotationError, match=message) as error:
        read_annotations(path)
    assert f"{path}, line 3" in str(error.value)


@pytest.mark.parametrize("missing", ["duration"])
def test_names_a_missing_field(save: Save, missing: str) -> None:
    row = {key: value for key, value in RELEASED.items() if key != missing}
    with pytest.raises(AnnotationError, match=f"line 1: no field '{missing}'; it has 'qid, query"):
        read_annotations(save("a.jsonl", row))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("hello\n", "unknown format, it starts with 'hello"),
        ("vid,sentence,t0,t1\nx,y,1,2\n", "columns video, query, .* with 'vid, sentence, t0, t1'"),
        ("dog.mp4;a dog;1;2\n", "columns video, query, .* this with 'dog.mp4, a dog, 1, 2'"),
        ('{"a": 1}', "unknown format"),
        ("[1, 2]", "unknown format"),
        ('{"qid": 1, "query": "a", "vid": "v", "pred_relevant_windows": []}', "predictions, not"),
        ('{"qid": 1, "query": "a", "vid": "v", "duration": 1', "line 1: not valid JSON"),
        ('{"qid": 1, "qid": 2, "query": "a", "vid": "v"}', "'qid' occurs twice"),
        ('{"videos": ' + "[" * 50_000 + ' "clips":', "nested too deeply"),
        ('{"qid": 1, "query": "a", "vid": "v", "duration": ' + "1" * 5000 + "}", "not valid JSON"),
    ],
)
def test_refuses_other_files(save: Save, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_annotations(save("a.json", text))


def test_refuses_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"qid": 1, "vid": "v", "query": "\xff"}')
    with pytest.raises(AnnotationError, match="not UTF-8 text"):
        read_annotations(tmp_path / "a.jsonl")
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(AnnotationError, match="cannot read"):
            read_annotations(path)


def test_refuses_duplicate_ids(save: Save) -> None:
    row = json.dumps(RELEASED)
    with pytest.raises(AnnotationError, match=r"line 3: query '7', .* was already given .*line 1"):
        read_annotations(save("a.jsonl", f"{row}\n\n{row}"))


def test_one_warning_counts_odd_moments(save: Save) -> None:
    rows = [
        RELEASED | {"qid": i, "relevant_windows": w}
        for i, w in enumerate([[[2, 2], [9, 12]], [[12, 12]]])
    ]
    path = save("a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.warns(AnnotationWarning) as caught:
        first, second = read_annotations(path)
    assert [str(warning.message) for warning in caught] == [
        f"{path}: 2 moments without length (kept as given); "
        "2 moments past the end of the video (kept as given)"
    ]
    assert first.moments.tolist() == [[2, 2], [9, 12]]
    assert second.moments.tolist() == [[12, 12]]


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("qvhighlights_val", "val"),
        ("Test.release", "test"),
        ("train", "train"),
        ("latest", "train"),
    ],
)
def test_split_is_a_word_of_the_stem(save: Save, stem: str, split: str) -> None:
    assert read_annotations(save(f"{stem}.jsonl", RELEASED))[0].split == split
    stated = read_annotations(save(f"{stem}.jsonl", RELEASED | {"split": "val"}))
    assert stated[0].split == "val"
    forced = read_annotations(save(f"{stem}.jsonl", RELEASED | {"split": "val"}), split="train")
    assert forced[0].split == "train"


def test_an_ambiguous_stem_needs_a_split(save: Save) -> None:
    path = save("train_val.jsonl", RELEASED)
    with pytest.raises(AnnotationError, match="the name says train and val"):
        read_annotations(path)
    assert read_annotations(path, split="val")[0].split == "val"


def test_published_splits_are_disjoint() -> None:
    for table, listed in ((YOUTUBE_HIGHLIGHTS_SPLITS, 419), (TVSUM_SPLITS, 50)):
        assert len(split_of(table)) == listed
        assert sum(len(ids) for splits in table.values() for ids in splits.values()) == listed


def test_finds_annotations_beside_videos(save: Save, tmp_path: Path) -> None:
    save("b_val.jsonl", RELEASED)
    save("a.csv", "video,query,start,end\n")
    save("notes.txt", "shopping list")
    save("dog.info.json", {"title": "Dog", "duration": 3})
    save("results.jsonl", {"qid": 1, "query": "", "vid": "v", "pred_relevant_windows": []})
    (tmp_path / "dog.mp4").write_bytes(b"\x00\xff")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.csv").write_text("video,query,start,end\n")
    save("val.csv", "film;sentence\n")
    (tmp_path / "more.xlsx").write_bytes(b"PK")
    (tmp_path / "cover.jpg").write_bytes(b"\xff")
    found = survey_folder(tmp_path)
    assert [path.name for path in found.annotations] == ["a.csv", "b_val.jsonl"]
    assert {path.name: reason for path, reason in found.passed_over.items()} == {
        "more.xlsx": "a spreadsheet: save it as CSV",
        "val.csv": "unknown format, it starts with 'film;sentence\\n'",
    }
    assert {path.name: reason for path, reason in found.others.items()} == {
        "cover.jpg": "files ending in .jpg hold no annotations",
        "dog.info.json": 'unknown format, it starts with \'{"title": "Dog", "duration": 3}\'',
        "notes.txt": "unknown format, it starts with 'shopping list'",
        "results.jsonl": "these are predictions, not annotations",
    }
    with pytest.raises(AnnotationError, match="not a folder"):
        survey_folder(tmp_path / "dog.mp4")


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(str.strip)
_seconds = st.floats(0, 1e6)
_labels = st.builds(
    lambda rows, clip: SaliencyLabels(np.array(rows, dtype=np.float32), clip, -1.0, 2.5),
    st.lists(
        st.tuples(st.floats(-1, 2.5, width=32), st.floats(-1, 2.5, width=32)),
        min_size=1,
        max_size=4,
    ),
    st.floats(0.01, 1e6),
)
_annotation = st.builds(
    Annotation,
    query_id=_text.filter(bool),
    video_id=_text.filter(bool),
    query=_text,
    moments=st.lists(st.tuples(_seconds, _seconds).map(sorted), max_size=3).map(
        lambda rows: np.array(rows, dtype=np.float64).reshape(-1, 2)
    ),
    saliency=st.none() | _labels,
    split=st.sampled_from(["train", "val", "test"]),
    domain=_text,
    duration_seconds=st.none() | _seconds,
)
_quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_quick
@pytest.mark.filterwarnings("ignore::r2t.store.errors.AnnotationWarning")
@given(st.lists(_annotation, min_size=1, max_size=4, unique_by=lambda a: a.query_id))
def test_own_json_lines_round_trip_exactly(
    tmp_path_factory: pytest.TempPathFactory, annotations: list[Annotation]
) -> None:
    path = tmp_path_factory.getbasetemp() / "own.jsonl"
    write_annotations(path, annotations)
    again = read_annotations(path)
    assert len(again) == len(annotations)
    assert all(_equal(one, other) for one, other in zip(annotations, again, strict=True))


def test_own_json_lines_refuse_unknown_fields(save: Save) -> None:
    row = {"query_id": "q", "video_id": "v", "query": "x"}
    (annotation,) = read_annotations(save("val.jsonl", row))
    assert (annotation.split, annotation.saliency, annotation.duration_seconds) == (
        "val",
        None,
        None,
    )
    with pytest.raises(AnnotationError, match="unknown field 'moment'"):
        read_annotations(save("val.jsonl", row | {"moment": [1, 2]}))
    with pytest.raises(AnnotationError, match=r"val.jsonl, line 1: .* ends before it starts"):
        read_annotations(save("val.jsonl", row | {"moments": [[2, 1]]}))
    scale = {"scores": [[1]], "clip_seconds": 2, "lowest": 1, "highest": 1}
    with pytest.raises(AnnotationError, match=r"val.jsonl, line 1, .* is empty"):
        read_annotations(save("val.jsonl", row | {"saliency": scale}))
