from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from r2t.store.annotations import make_query_id
from r2t.store.datasets import text as file_text
from r2t.store.datasets.checks import check_annotations, read_leniently
from r2t.store.datasets.folder import survey_folder
from r2t.store.datasets.own_rows import write_annotations
from r2t.store.datasets.registry import read_annotations
from r2t.store.datasets.splits import TVSUM_SPLITS, YOUTUBE_HIGHLIGHTS_SPLITS
from r2t.store.errors import AnnotationError, AnnotationWarning

TVSUM_TRAIN, TVSUM_VAL = TVSUM_SPLITS["BK"]["train"][0], TVSUM_SPLITS["BK"]["val"][0]
DOG_TRAIN, DOG_VAL = (YOUTUBE_HIGHLIGHTS_SPLITS["dog"][split][0] for split in ("train", "val"))


Save = Callable[[str, object], Path]


def test_reads_charades_text(save: Save) -> None:
    text = "AB1 0.0 6.9##a person runs.\r\nCD2 9 3.5##a ## b\nAB1 1 2##again\n"
    with pytest.warns(AnnotationWarning, match=r"1 moment with its end before its start \(swapped"):
        one, two, three = read_annotations(save("charades_sta_test.txt", text))
    assert (one.query_id, one.video_id, one.query, one.split) == (
        "AB1_0",
        "AB1",
        "a person runs.",
        "test",
    )
    assert (two.query, two.moments.tolist()) == ("a ## b", [[3.5, 9]])
    assert three.query_id == "AB1_1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AB1 0.0##x", "expected 'video start end##sentence'"),
        ("AB1 0.0 6.9 x", "expected 'video"),
        ("AB1 0.0 nan##x", "end is 'nan'"),
        ("AB1 -1 2##x", "must be"),
        ("AB1 0 1e9##x", "must be"),
        ("AB1 0 2##  ", "sentence is empty"),
    ],
)
def test_refuses_malformed_charades_lines(save: Save, line: str, message: str) -> None:
    path = save("a.txt", f"AB1 0 1##fine\n{line}\n")
    with pytest.raises(AnnotationError, match=message) as error:
        read_annotations(path)
    assert "line 2" in str(error.value)


def test_reads_tacos(save: Save) -> None:
    video = {
        "timestamps": [[10, 25], [20, 60]],
        "sentences": ["She cuts", "He eats"],
        "fps": 10.0,
        "num_frames": 50,
    }
    path = save("train.json", {"s1-d2.avi": video})
    with pytest.warns(AnnotationWarning, match="1 moment past the end"):
        one, two = read_annotations(path)
    assert (one.query_id, one.video_id, one.query) == ("s1-d2_0", "s1-d2", "She cuts")
    assert (one.moments.tolist(), one.duration_seconds) == ([[1.0, 2.5]], 5.0)
    assert (two.query_id, two.moments.tolist()) == ("s1-d2_1", [[2.0, 6.0]])
    with pytest.raises(AnnotationError, match=r"2 timestamps but 1 sentence$"):
        read_annotations(save("b.json", {"s1.avi": {**video, "sentences": ["x"]}}))
    once = json.dumps({"s1.avi": video})
    with pytest.raises(AnnotationError, match="occurs twice"):
        read_annotations(save("c.json", f"{once[:-1]}, {once[1:]}"))


def test_reads_sentences_timed_in_seconds(save: Save) -> None:
    video = {"duration": 30.96, "timestamps": [[24.3, 30.4], [0, 31]], "sentences": ["a", "b"]}
    path = save("charades_test_ood.json", {"3MSZA": video})
    with pytest.warns(AnnotationWarning, match="1 moment past the end"):
        one, two = read_annotations(path)
    assert (one.query_id, one.video_id, one.split) == ("3MSZA_0", "3MSZA", "test")
    assert (one.moments.tolist(), one.duration_seconds) == ([[24.3, 30.4]], 30.96)
    assert (two.query_id, two.moments.tolist()) == ("3MSZA_1", [[0, 31]])
    for wrong, message in (
        ({**video, "timestamps": [[3, 1], [0, 1]]}, "ends before it starts"),
        ({**video, "duration": "long"}, "duration"),
        ({"timestamps": [], "sentences": []}, "no field 'fps'"),
    ):
        with pytest.raises(AnnotationError, match=message):
            read_annotations(save("train.json", {"3MSZA": wrong}))


def _ego4d(queries: list[dict[str, object]], **root: object) -> dict[str, object]:
    annotation = {"annotation_uid": "u", "language_queries": queries}
    clip = {"clip_uid": "c", "video_start_sec": 5, "video_end_sec": 25, "annotations": [annotation]}
    return {"version": "1", **root, "videos": [{"video_uid": "v", "clips": [clip]}]}


def test_reads_nested_ego4d(save: Save) -> None:
    queries: list[dict[str, object]] = [
        {"query": "Where was it?", "clip_start_sec": 1.5, "clip_end_sec": 3},
        {"query": None, "clip_start_sec": 1, "clip_end_sec": 2},
        {"query": "What did I do?"},
    ]
    with pytest.warns(AnnotationWarning, match="1 language query without text"):
        one, two = read_annotations(save("nlq.json", _ego4d(queries, split="val")))
    assert (one.query_id, one.video_id, one.split) == ("u_0", "c", "val")
    assert (one.duration_seconds, one.moments.tolist()) == (20, [[1.5, 3]])
    assert (two.query_id, len(two.moments)) == ("u_2", 0)
    reversed_ends: list[dict[str, object]] = [
        {"query": "q", "clip_start_sec": 3, "clip_end_sec": 1}
    ]
    with pytest.raises(AnnotationError, match=r"language_queries\[0\].*ends before it starts"):
        read_annotations(save("nlq.json", _ego4d(reversed_ends)))


def _youtube(**change: object) -> dict[str, object]:
    info = ["", None, [], 1, "", "A title", "", None]
    clips = [[0, 100], [50, 150]]
    record = {"fps": 10.0, "frames": "150", "domain": "dog", "info": info}
    return record | {"clip": clips, "match": [-1, 1]} | change


def test_reads_youtube_highlights(save: Save) -> None:
    videos = {DOG_TRAIN: _youtube(), DOG_VAL: _youtube(match=[0, 1, 1]), "unlisted": _youtube()}
    path = save("youtube_anno.json", videos)
    with pytest.warns(AnnotationWarning, match="1 video in no split"):
        train, val = read_annotations(path)
    assert (train.query_id, train.video_id, train.query) == (DOG_TRAIN, DOG_TRAIN, "A title")
    assert (train.split, val.split, train.domain) == ("train", "val", "dog")
    assert train.duration_seconds == 15
    assert train.saliency is not None
    assert train.saliency.scores.tolist() == [[-1], [1]]
    assert train.saliency.clip_seconds == 7.5
    with pytest.warns(AnnotationWarning):
        assert [a.query_id for a in read_annotations(path, split="val", domain="dog")] == [DOG_VAL]
    with (
        pytest.warns(AnnotationWarning),
        pytest.raises(AnnotationError, match="dog/train, dog/val"),
    ):
        read_annotations(path, domain="cat")


@pytest.mark.parametrize("title", ["", " "])
def test_a_title_is_taken_as_it_stands_and_may_be_empty(
    save: Save, tmp_path: Path, title: str
) -> None:
    untidy = "   GOPR1.MP4  twice "
    infos = ["", None, [], 1, "", title, "", None], ["", None, [], 1, "", untidy, "", None]
    videos = {
        name: _youtube(info=info) for name, info in zip((DOG_TRAIN, DOG_VAL), infos, strict=True)
    }
    with pytest.warns(
        AnnotationWarning, match=r"1 title without words \(kept: CLIP is given only its sta"
    ):
        empty, other = read_annotations(save("youtube_anno.json", videos))
    assert (empty.query, other.query) == (title, untidy)
    assert empty.is_title
    record = {"fps": 25, "frames": "160", "domain": "BK", "title": title, "anno": [[1]]}
    with pytest.warns(AnnotationWarning, match="1 title without words"):
        (row,) = read_annotations(save("tvsum_anno.json", {TVSUM_VAL: record}))
    assert row.query == title
    _write_mat(tmp_path / "ydata-tvsum50.mat", np.full((2, 160), 4.0), title=title or " ")
    with pytest.warns(AnnotationWarning, match="1 title without words"):
        (row,) = read_annotations(tmp_path / "ydata-tvsum50.mat")
    assert row.query == (title or " ")
    # Written down and read again, and found nothing wrong with: it is what the dataset says.
    write_annotations(tmp_path / "own.jsonl", [empty, other])
    assert [each.query for each in read_annotations(tmp_path / "own.jsonl")] == [title, untidy]
    rows = read_leniently(tmp_path / "own.jsonl").located
    assert [found.kind for found in check_annotations(rows, 0.5)] == []


def test_a_sentence_that_somebody_typed_must_not_be_empty(save: Save) -> None:
    path = save("own.jsonl", {"query_id": "q", "video_id": "v", "query": " ", "moments": [[1, 9]]})
    assert not read_annotations(path)[0].is_title
    (found,) = check_annotations(read_leniently(path).located, 0.5)
    assert (found.kind, found.message) == (
        "empty_query",
        "the sentence of query 'q', '' of 'v' is empty",
    )


def test_sentences_of_datasets_keep_their_blanks(save: Save) -> None:
    sentence = " She finds a  pomegranate. "
    row = {"qid": "s35-d41_120", "query": sentence, "vid": "s35-d41", "duration": 928.2}
    tacos = {"timestamps": [[1, 2]], "sentences": [sentence], "fps": 1, "num_frames": 9}
    queries: list[dict[str, object]] = [{"query": sentence}, {"query": " "}]
    files = [save("val.jsonl", row), save("train.json", {"s35-d41.avi": tacos})]
    for path in files:
        assert [each.query for each in read_annotations(path)] == [sentence]
    with pytest.warns(AnnotationWarning, match="1 language query without text"):
        assert [each.query for each in read_annotations(save("nlq.json", _ego4d(queries)))] == [
            sentence
        ]
    assert (
        read_annotations(save("a.csv", f"video,query,start,end\nv,{sentence},1,2\n"))[0].query
        == sentence.strip()
    )


@pytest.mark.parametrize(
    "change",
    [{"match": [2, 0]}, {"match": []}, {"frames": "x"}, {"frames": True}, {"fps": 0}, {"info": []}],
)
def test_refuses_malformed_highlights(save: Save, change: dict[str, object]) -> None:
    with pytest.raises(AnnotationError, match=re.escape(DOG_VAL)):
        read_annotations(save("youtube_anno.json", {DOG_VAL: _youtube(**change)}))


def test_reads_tvsum(save: Save) -> None:
    scores = [[1, 2], [5, 3], [1, 1]]
    record = {"fps": 25, "frames": "160", "domain": "BK", "title": "Bees", "anno": scores}
    path = save("tvsum_anno.json", {TVSUM_VAL: record, TVSUM_TRAIN: record})
    val, train = read_annotations(path)
    assert (val.split, train.split, val.query, val.domain) == ("val", "train", "Bees", "BK")
    assert val.duration_seconds == 6.4
    assert val.saliency is not None
    assert val.saliency.scores.tolist() == scores
    assert val.saliency.clip_seconds == 2
    assert (val.saliency.lowest, val.saliency.highest) == (1, 5)
    with pytest.raises(AnnotationError, match="must be 1 to 5"):
        read_annotations(save("tvsum_anno.json", {TVSUM_VAL: {**record, "anno": [[0, 1]]}}))


def _write_mat(
    path: Path, scores: np.ndarray, *, title: str = "Bees", seconds: float = 6.4
) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        fields = {
            "video": TVSUM_VAL,
            "category": "BK",
            "title": title,
            "length": seconds,
            "nframes": scores.shape[1],
            "user_anno": scores,
        }
        for name, value in fields.items():
            if isinstance(value, str):
                value = np.frombuffer(value.encode(), np.uint8).astype(np.uint16)[:, None]
            data = file.create_dataset(f"data/{name}", data=np.array(value, ndmin=2))
            table = file.create_dataset(f"tvsum50/{name}", (1, 1), dtype=h5py.ref_dtype)
            table[0, 0] = data.ref
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def test_reads_tvsum_mat(tmp_path: Path) -> None:
    path = tmp_path / "ydata-tvsum50.mat"
    scores = np.full((2, 160), 4.0)
    scores[:, [25, 75, 125]] = [[1, 5, 1], [2, 3, 1]]  # the middle frames of 2 s at 25 fps
    _write_mat(path, scores, title='"Bö, ees"')
    (annotation,) = read_annotations(path)
    assert (annotation.query_id, annotation.query) == (TVSUM_VAL, "Bö, ees")
    assert (annotation.split, annotation.domain) == ("val", "BK")
    assert annotation.duration_seconds == 6.4
    assert annotation.saliency is not None
    assert annotation.saliency.scores.tolist() == [[1, 2], [5, 3], [1, 1]]
    _write_mat(path, scores, seconds=0)
    with pytest.raises(AnnotationError, match="for a video of 0 s"):
        read_annotations(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    with pytest.raises(AnnotationError, match="not a readable TVSum"):
        read_annotations(path)


def test_reads_csv(save: Save) -> None:
    text = (
        "\ufeffvideo,query,start,end,split,query_id,duration,domain\r\n"
        'dog.mp4,"digs, then runs",1,2.5,val,,60,pets\r\n'
        "a.b_0.0,sleeps,,,,q1,,\r\n\r\n"
        ' dog.mp4 ,"digs, then runs ",5,6,val,,60,pets\r\n'
    )
    dog, other = read_annotations(save("my_test_set.csv", text))
    assert (dog.video_id, dog.query) == ("dog", "digs, then runs")
    assert dog.moments.tolist() == [[1, 2.5], [5, 6]]
    assert (dog.split, dog.duration_seconds, dog.domain) == ("val", 60, "pets")
    assert dog.query_id == make_query_id("dog", "digs, then runs")
    assert (other.video_id, other.query_id, other.split) == ("a.b_0.0", "q1", "test")
    assert (len(other.moments), other.duration_seconds) == (0, None)


def test_query_ids_are_part_of_the_format() -> None:
    assert make_query_id("dog", "a dog digs") == "143fd4a0ed59"
    assert re.fullmatch("[0-9a-f]{12}", make_query_id("dög", "ü"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,query,start\n", "required are video, query, start, end"),
        ("video,query,start,end,stop\n", "optional split, query_id, duration, domain"),
        ("video,query,start,end,end\n", "each at most once"),
        ("video,query,start,end\nv,a, b,1,2\n", "line 2: 5 cells under 4 columns"),
        ("video,query,start,end\nv,a,2,1\n", "line 2: the moment .2, 1. ends before"),
        ("video,query,start,end\nv,a,1,\n", "line 2, end is ''"),
        ("video,query,start,end\nv,a,0:10,1\n", "line 2, start is '0:10'; expected seconds"),
        ("video,query,start,end\nv,a,1,inf\n", "line 2, end is 'inf'"),
        ("video,query,start,end\nv,,1,2\n", "line 2, query is empty"),
        ("video,query,start,end\n/x/v.mp4,a,1,2\n", "is a path"),
        ('video,query,start,end\nv,"a,1,2\n', "unexpected end of data"),
        ("video,query,start,end,split\nv,a,1,2,dev\n", "split is 'dev'"),
        (
            "video,query,start,end,split\nv,a,1,2,val\nv,a,3,4,train\n",
            "line 3 and .*line 2 ask the same sentence",
        ),
        ("video,query,start,end,query_id\nv,a,1,2,x\nw,b,3,4,x\n", "query 'x', .* already given"),
        ("video,query,start,end\n", "no rows at all"),
    ],
)
def test_refuses_malformed_csv(save: Save, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_annotations(save("a.csv", text))


TABLE = "video,query,start,end\ndog.mts,one,1,2.5\ncow.3gp,zwei,3,4\n"


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        TABLE.replace(",", "\t"),
        TABLE.replace(",", ";"),
        "sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"),
        TABLE.replace("video,query,start,end", ' Video ,"QUERY",Start,End'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_tables_of_all_spreadsheets_are_one_table(
    tmp_path: Path, text: str, encoding: str, packed: bool
) -> None:
    content = text.encode(encoding)
    path = tmp_path / ("val.csv.gz" if packed else "val.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    dog, cow = read_annotations(path)
    assert (dog.video_id, dog.query, dog.split) == ("dog", "one", "val")
    assert dog.moments.tolist() == [[1, 2.5]]
    assert (cow.video_id, cow.query_id) == ("cow", make_query_id("cow", "zwei"))
    assert survey_folder(tmp_path).annotations == (path,)
    assert len(read_leniently(path).located) == 2


def test_decimal_commas_are_read_where_commas_do_not_divide(save: Save) -> None:
    with pytest.warns(AnnotationWarning, match=r"2 numbers with a decimal comma"):
        (row,) = read_annotations(save("a.csv", "video;query;start;end\nv;a;1,5;2,25\n"))
    assert row.moments.tolist() == [[1.5, 2.25]]
    with pytest.raises(AnnotationError, match="start is '1,5'"):
        read_annotations(save("a.csv", 'video,query,start,end\nv,a,"1,5",2\n'))


_ROWS = [
    {"qid": number, "query": f"q{number}", "vid": "dog.M2TS", "duration": 9} for number in range(3)
]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, _ROWS)),
        json.dumps(_ROWS),
        json.dumps(_ROWS, indent=2),
        "\n".join(json.dumps(row, indent=4) for row in _ROWS),
    ],
)
def test_json_rows_are_read_however_they_are_laid_out(save: Save, text: str) -> None:
    path = save("val.json", text)
    assert [row.query for row in read_annotations(path)] == ["q0", "q1", "q2"]
    assert {row.video_id for row in read_annotations(path)} == {"dog"}
    assert len(read_leniently(path).located) == 3


def test_a_bad_object_is_named_by_its_place(save: Save) -> None:
    bad = [*_ROWS, {"qid": 4, "query": "", "vid": "dog", "duration": 9}]
    with pytest.raises(AnnotationError, match=r"a.json, item 4, field 'query' is empty"):
        read_annotations(save("a.json", json.dumps(bad)))
    pretty = "\n".join(json.dumps(row, indent=1) for row in bad)
    with pytest.raises(AnnotationError, match=r"a.json, line 19, field 'query' is empty"):
        read_annotations(save("a.json", pretty))


def test_what_is_unpacked_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_text, "MAX_FILE_BYTES", 1000)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode() + b" " * 100_000))
    with pytest.raises(AnnotationError, match="holds more than 1000 bytes"):
        read_annotations(path)
    path.write_bytes(gzip.compress(TABLE.encode())[:-9])
    with pytest.raises(AnnotationError, match="cannot unpack"):
        read_annotations(path)
