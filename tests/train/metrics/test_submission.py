from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from r2t.store.annotations import Annotation, SaliencyLabels
from r2t.store.errors import AnnotationError
from r2t.train.metrics.submission import (
    SubmissionRow,
    read_submission,
    write_server_archive,
    write_submission,
)
from r2t.train.metrics.submission_check import SubmissionCheck, check_submission, sorted_by_score

MOMENTS = np.array([[1.5, 4.0, 0.1 + 0.2], [0.0, 2.0, -1.0]])


def _equal(one: SubmissionRow, other: SubmissionRow) -> bool:
    return (one.query_id, one.video_id, one.query) == (
        other.query_id,
        other.video_id,
        other.query,
    ) and all(
        (a is None) == (b is None) and (a is None or b is None or np.array_equal(a, b))
        for a, b in ((one.moments, other.moments), (one.saliency, other.saliency))
    )


def test_round_trip_is_exact(tmp_path: Path) -> None:
    rows = [
        SubmissionRow("12", "v", "ein Hündchen", MOMENTS, np.array([0.1, -2.0])),
        SubmissionRow("012", "v", "kept as text", MOMENTS),
        SubmissionRow("q-3", "w", "", np.zeros((0, 3))),
        SubmissionRow("w", "w", saliency=np.array([1e-9])),
    ]
    write_submission(tmp_path / "s.jsonl", rows)
    again = read_submission(tmp_path / "s.jsonl")
    assert all(_equal(row, other) for row, other in zip(rows, again, strict=True))
    written = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row.get("qid") for row in written] == [12, "012", "q-3", None]
    assert list(written[3]) == ["vid", "pred_saliency_scores"]
    assert [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no predictions"),
        ("[]", "holds no predictions"),
        ("[[]]", "item 1: a list where an object"),
        ('{"qid": 1, "vid": "v"}', "not predictions"),
        ('{"pred_saliency_scores": [1]}', "'qid'"),
        ('{"qid": true, "pred_saliency_scores": [1]}', "'qid' is True"),
        ('{"qid": 1, "pred_relevant_windows": [[0, 1]]}', "2 numbers; expected 3"),
        ('{"qid": 1, "pred_relevant_windows": [[0, 1, NaN]]}', "NaN is not a legal number"),
        ('{"qid": 1, "pred_relevant_windows": [[0, 1, 1e999]]}', "inf"),
        ('{"qid": 1, "pred_relevant_windows": [0, 1]}', "expected a list"),
        ('{"qid": 1, "pred_relevant_windows": {}}', "expected a list"),
        ('{"qid": 1, "pred_saliency_scores": ["a"]}', "expected a number"),
        ('{"qid": 1, "pred_saliency_scores": [true]}', "expected a number"),
        ("[" * 100_000, "nested too deeply"),
        ("\x00", "not valid JSON"),
    ],
)
def test_refuses_malformed_rows(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(line)
    with pytest.raises(AnnotationError, match=message):
        read_submission(path)


def test_refuses_what_is_no_text_file(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_bytes(b'{"qid": "\xff"}')
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_submission(tmp_path / "s.jsonl")
    with pytest.raises(AnnotationError, match="cannot read"):
        read_submission(tmp_path / "missing.jsonl")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_predictions_or_an_annotation_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    with pytest.raises(AnnotationError):
        read_submission(path)


def test_rows_must_be_finite_and_named() -> None:
    with pytest.raises(AnnotationError, match="finite"):
        SubmissionRow("1", "v", saliency=np.array([np.nan]))
    with pytest.raises(AnnotationError, match="ids"):
        SubmissionRow("", "v")


def test_server_archive_is_flat_and_reproducible(tmp_path: Path) -> None:
    rows = [SubmissionRow("1", "v", "q", MOMENTS, np.ones(2))]
    for name in ("one.zip", "two.zip"):
        write_server_archive(tmp_path / name, {"val": rows, "test": rows})
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["hl_val_submission.jsonl", "hl_test_submission.jsonl"]
        assert json.loads(archive.read("hl_test_submission.jsonl"))["qid"] == 1


def test_check_names_every_problem() -> None:
    human = SaliencyLabels(np.ones((5, 3), dtype=np.float32), 2.0, 0.0, 4.0)
    truth = np.array([[0.0, 2.0]])
    annotations = [
        Annotation(str(i), "v", "q", truth, human, "val", duration_seconds=10.0) for i in range(8)
    ]
    fine = [SubmissionRow(str(i), "v", "q", MOMENTS, np.ones(5)) for i in range(8)]
    assert check_submission(fine, annotations) == SubmissionCheck((), (), unsorted=False)
    bad = [
        *fine[:2],
        fine[1],
        SubmissionRow("9", "v", "q", MOMENTS),
        SubmissionRow("2", "w", "q", MOMENTS),
        SubmissionRow("3", "v", "q", np.zeros((0, 3))),
        SubmissionRow("4", "v", "q", np.array([[4.0, 2.0, 1.0]])),
        SubmissionRow("5", "v", "q", np.array([[4.0, 12.0, 1.0]])),
        SubmissionRow("6", "v", "q", MOMENTS[::-1].copy(), np.ones(4)),
    ]
    found = check_submission(bad, annotations)
    assert [error.split(":")[0] for error in found.errors] == [
        "1 queries are predicted more than once",
        "1 queries have no prediction",
        "1 predictions are for unknown queries",
        "1 predictions have no moments",
    ]
    assert [warning.rpartition(":")[0] for warning in found.warnings] == [
        "1 of 9 predictions name another video than the annotations",
        "1 of 9 predictions hold a moment that ends before it starts",
        "1 of 9 predictions hold a moment outside their video",
        "1 of 9 predictions are not sorted by score (R1 judges the first listed, mAP the first "
        "ten)",
        "1 of 9 predictions have fewer saliency scores than their video has clips; those missing "
        "count as 0 (at worst 4 for 5)",
    ]
    assert found.unsorted
    assert check_submission([], annotations).errors == (
        "8 queries have no prediction: 0, 1, 2, 3, 4, …",
    )
    ordered = sorted_by_score(bad)
    np.testing.assert_array_equal(ordered[-1].moments, MOMENTS)
    assert not check_submission(ordered, annotations).unsorted


def test_clips_of_withheld_labels_are_counted_if_their_length_is_known() -> None:
    row = Annotation("1", "v", "q", np.zeros((0, 2)), split="test", duration_seconds=150.0)
    short = [SubmissionRow("1", "v.mp4", "q", MOMENTS, np.ones(10))]
    assert check_submission(short, [row]).warnings == ()
    (warning,) = check_submission(short, [row], clip_seconds=2.0).warnings
    assert "at worst 10 for 75" in warning
