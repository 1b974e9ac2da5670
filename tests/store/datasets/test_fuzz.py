"""Whatever a file holds, it is read or refused with its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from r2t.store.annotations import Annotation
from r2t.store.datasets.registry import read_annotations
from r2t.store.datasets.splits import TVSUM_SPLITS, YOUTUBE_HIGHLIGHTS_SPLITS
from r2t.store.errors import AnnotationError

_quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3)
    ),
    max_leaves=6,
)
_NLQ = {"query": "q", "clip_start_sec": 1, "clip_end_sec": 2}
_NLQ_CLIP = {
    "clip_uid": "c",
    "annotations": [{"annotation_uid": "u", "language_queries": [_NLQ]}],
}
_TVSUM = {"fps": 25, "frames": "160", "domain": "BK", "title": "B", "anno": [[1]]}
_SEEDS: list[dict[str, Any]] = [
    {
        "qid": 7,
        "query": "A dog digs",
        "duration": 11,
        "vid": "-x",
        "relevant_windows": [[2, 6]],
        "relevant_clip_ids": [1],
        "saliency_scores": [[4, 0, 1]],
    },
    {
        "query_id": "q",
        "video_id": "v",
        "query": "x",
        "moments": [[1, 2]],
        "saliency": {"scores": [[1]]},
    },
    {"s1.avi": {"timestamps": [[1, 2]], "sentences": ["x"], "fps": 10, "num_frames": 50}},
    {
        YOUTUBE_HIGHLIGHTS_SPLITS["dog"]["val"][0]: {
            "fps": 10.0,
            "frames": "150",
            "domain": "dog",
            "info": ["", None, [], 1, "", "A title"],
            "match": [-1, 1],
        }
    },
    {
        TVSUM_SPLITS["BK"]["val"][0]: {
            "fps": 25,
            "frames": "160",
            "domain": "BK",
            "title": "B",
            "anno": [[1]],
        }
    },
    {
        "videos": [
            {
                "clips": [
                    {
                        "clip_uid": "c",
                        "annotations": [
                            {
                                "annotation_uid": "u",
                                "language_queries": [
                                    {"query": "q", "clip_start_sec": 1, "clip_end_sec": 2}
                                ],
                            }
                        ],
                    }
                ]
            }
        ]
    },
]


def _fields(value: object, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the way to every value inside a JSON value."""
    items: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [trail] * bool(trail) + [
        way for key, item in items for way in _fields(item, (*trail, key))
    ]


def _rows_or_message(path: Path) -> list[Annotation] | str:
    """Read a file; of a refusal, return what follows the file's name, which must be there."""
    try:
        return read_annotations(path)
    except AnnotationError as error:
        return str(error).partition(str(path))[2]


@_quick
@pytest.mark.filterwarnings("ignore::r2t.store.errors.AnnotationWarning")
@given(st.data(), st.sampled_from(_SEEDS), _json)
def test_a_changed_field_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    seed: dict[str, Any],
    value: object,
) -> None:
    document = json.loads(json.dumps(seed))
    *way, last = data.draw(st.sampled_from(_fields(document)))
    inner = document
    for key in way:
        inner = inner[key]
    inner[last] = value
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_text(json.dumps(document))
    assert _rows_or_message(path)


@_quick
@pytest.mark.filterwarnings("ignore::r2t.store.errors.AnnotationWarning")
@given(
    st.binary(max_size=80)
    | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
    | st.text('v,"\n\r 0.##{}:', max_size=60).map(
        lambda text: b"video,query,start,end\n" + text.encode()
    )
    | st.text("A 0.9#\n-e", max_size=60).map(lambda text: b"A 0 1##x\n" + text.encode())
)
@example(b"MATLAB 7.3")
@example(b"video,query\x00")
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    assert _rows_or_message(path)
