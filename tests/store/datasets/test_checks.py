"""Every kind of finding is found where it is, and nothing is found in good annotations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r2t.store.annotations import Annotation
from r2t.store.datasets.checks import (
    check_against_videos,
    check_annotations,
    read_leniently,
)
from r2t.store.datasets.findings import ADVICE
from r2t.store.datasets.registry import read_annotations

BAD_CSV = """video,query,start,end,duration
dog.mp4,a ball,1,5,36
dog.mp4,a ball,4,7,36
dog.mp4,caf\xe9,4,4,36
dog,,4,5,
dog,reversed,9,5,
dog,frames for seconds,900,5000,
dog,another cut,9,12,60
dog,in a blink,9,10,
Dogs,no such file,9,12,
bad,broken file,9,12,
dog,no number,x,12,
dog,one, two,1,12,
dog,no moment,,,
dog,seen twice,1,9,
dog,seen twice,1,9,
,a video without a name,1,9,
"""


def findings_of(path: Path, **durations: float | str) -> tuple[list[tuple[str, int]], list[str]]:
    """Return (kind, line) of each finding, and the messages of all."""
    rows = read_leniently(path)
    found = [
        *rows.findings,
        *check_annotations(rows.located, frame_rate_fps=0.5),
        *check_against_videos(rows.located, durations),
    ]
    lines = [
        int(each.where.rpartition("line ")[2]) if "line" in each.where else 0 for each in found
    ]
    kinds = [each.kind for each in found]
    assert set(kinds) <= set(ADVICE)
    return sorted(zip(kinds, lines, strict=True)), [each.message for each in found]


def test_all_that_is_wrong_with_a_table_is_found_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(BAD_CSV, encoding="cp1252")
    found, messages = findings_of(path, dog=36.0, dogs=20.0, bad="bad.mp4: no pictures")
    assert found == [
        ("damaged_video", 0),
        ("empty_query", 5),
        ("encoding", 0),
        ("missing_video", 10),
        ("no_length", 4),
        ("out_of_range", 7),
        ("overlap", 2),
        ("repeated_moment", 15),
        ("reversed", 6),
        ("too_short", 9),
        ("unannotated_video", 0),
        ("unlabelled", 14),
        ("unreadable", 12),
        ("unreadable", 13),
        ("unreadable", 17),
        ("wrong_duration", 8),
    ]
    assert any("perhaps cp1252" in message for message in messages)
    assert any("there is 'dogs'" in message for message in messages)
    assert any(f"{path}, line 12, start is 'x'" in message for message in messages)


def test_all_that_is_wrong_with_json_lines_is_found_at_its_line(tmp_path: Path) -> None:
    rows = [
        {"query_id": "a", "video_id": "dog", "query": "a ball", "moments": [[1, 5]]},
        {"query_id": "a", "video_id": "dog", "query": "a cat", "moments": [[1, 5]]},
        {"query_id": "b", "video_id": "dog", "query": "a ball", "moments": [[1, 5]]},
        {"query_id": "c", "video_id": "dog", "query": "c", "moments": [[5, 1]]},
        {"query_id": "d", "video_id": "dog", "query": "d", "moments": [[1, 5]], "split": "val"},
    ]
    path = tmp_path / "mine.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in rows) + "{]\n"
    path.write_text(text, encoding="utf-8-sig")
    found, _ = findings_of(path, dog=36.0)
    assert found == [
        ("byte_order_mark", 0),
        ("duplicate_id", 2),
        ("duplicate_query", 3),
        ("reversed", 4),
        ("two_splits", 0),
        ("unreadable", 6),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val.csv", 'video,query,start,end\ndog,"one, two",1,9\ndog,"one, two",11,19\n'),
        ("val.jsonl", '{"qid": 1, "vid": "dog", "query": "x", "duration": 36}\n'),
        ("val.txt", "dog 1.0 9.0##one\ndog 3.0 19.0##two\n"),
        ("val.json", '{"dog.avi": {"fps": 30, "num_frames": 1080, "timestamps": [[0, 300]], '
         '"sentences": ["one"]}}'),
    ],
)  # fmt: skip
def test_what_extraction_reads_is_read_the_same(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    rows = read_leniently(path, "test")

    def facts(row: Annotation) -> tuple[str, str, str, str, str]:
        return row.query_id, row.video_id, row.query, row.split, str(row.moments)

    expected = [facts(row) for row in read_annotations(path, split="test")]
    assert [facts(row) for _, row in rows.located] == expected
    assert findings_of(path, dog=36.0)[0] == [("unlabelled", 1)] * (name == "val.jsonl")


def test_videos_of_tacos_are_found_by_their_names_with_the_camera(tmp_path: Path) -> None:
    path = tmp_path / "tacos_train.json"
    path.write_text(
        '{"s30-d52.avi": {"fps": 30, "num_frames": 1080, "timestamps": [[0, 300], [300, 1500]], '
        '"sentences": ["one", "two"]}}'
    )
    found, messages = findings_of(path, **{"s30-d52-cam-002": 36.0})
    assert [kind for kind, _ in found] == ["camera_in_name", "out_of_range"]
    assert "taken for the video 's30-d52-cam-002'" in "".join(messages)


def test_a_name_that_says_two_splits_is_a_finding_and_the_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "train_val.csv"
    path.write_text("video,query,start,end\ndog,one,1,9\n")
    rows = read_leniently(path)
    assert len(rows.located) == 1
    assert "the name says train and val" in rows.findings[0].message
    assert len(read_leniently(path, "val").findings) == 0


def test_long_files_tell_how_far_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("video,query,start,end\n" + "dog,one,1,9\n" * 12_000)
    told: list[tuple[float, float]] = []
    read_leniently(path, on_rows=lambda done, total: told.append((done, total)))
    assert told == [(5000, 12_001), (10_000, 12_001)]
    [annotation] = read_annotations(path)  # whether anybody asks or not
    assert len(annotation.moments) == 12_000
