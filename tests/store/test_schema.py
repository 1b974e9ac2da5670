"""The spec of features: what is legal, what survives JSON, how a mismatch is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from features import small_spec

from r2t.store import FeatureSpec
from r2t.store.errors import ConfigError, SpecMismatchError, StoreError


@pytest.mark.parametrize("frame_rate", [0.5, 1, 29.97, "per-video"])
def test_a_spec_survives_json(frame_rate: Any) -> None:
    spec = small_spec(frame_rate=frame_rate, dtype="int8")
    assert FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_layers": ()}, "vision_layers"),
        ({"vision_layers": (11, 10, 12)}, "ascending"),
        ({"text_layers": (-1, 0, 1)}, "text_layers"),
        ({"text_layers": (11, 12)}, "as many of each"),
        ({"num_tokens": 0}, "num_tokens = 0"),
        ({"dtype": "float32"}, "'float16' or 'int8'"),
        ({"frame_rate": 0.0}, "frame_rate"),
        ({"frame_rate": float("nan")}, "frame_rate"),
        ({"frame_rate": "fast"}, "per-video"),
        ({"mean": (0.5, 0.5)}, "mean"),
        ({"std": (0.5, 0.0, 0.5)}, "std"),
        ({"std": (0.5, float("nan"), 0.5)}, "std"),
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_spec(**changes)


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"num_tokens": "50"},
        {"vision_layers": 4},
        {"vision_layers": [[1], [2], [3]]},
        {"frame_rate": None},
        {"frame_rate": True},
        {"mean": ["a", "b", "c"]},
        {"num_tokens": 2.5},
        {"model": 3},
    ],
)
def test_a_damaged_identity_is_a_store_error(change: dict[str, Any]) -> None:
    with pytest.raises(StoreError):
        FeatureSpec.from_dict({**small_spec().to_dict(), **change})


def test_an_identity_from_before_version_2_means_what_was_the_rule_then() -> None:
    earlier = small_spec().to_dict()
    for name in ("prefix", "grid", "text_rule"):
        del earlier[name]
    assert FeatureSpec.from_dict(earlier) == small_spec()
    with pytest.raises(StoreError, match="lacks model: it is damaged"):
        FeatureSpec.from_dict({name: earlier[name] for name in earlier if name != "model"})
    with pytest.raises(StoreError, match=r"\(colour, shape\): it was written by a newer r2t"):
        FeatureSpec.from_dict({**earlier, "shape": 1, "colour": 2})


@pytest.mark.parametrize("name", ["prefix", "grid", "text_rule"])
def test_each_field_of_version_2_tells_features_apart(name: str) -> None:
    other = small_spec(**{name: "another"})
    with pytest.raises(SpecMismatchError, match=f"{name}: .* 'another'"):
        small_spec().require_equal(other, action="merge", names=("a.zarr", "b.zarr"))
    with pytest.raises(ConfigError, match=f"{name} = 3: must be a text"):
        small_spec(**{name: 3})


def test_a_mismatch_names_every_differing_field_and_no_other() -> None:
    other = small_spec(model="large", frame_rate=1.0)
    with pytest.raises(SpecMismatchError) as error:
        small_spec().require_equal(other, action="resume this store", names=("a.zarr", "b.zarr"))
    assert str(error.value) == (
        "cannot resume this store: --model: 'small' in a.zarr, 'large' in b.zarr; "
        "--fps: 0.5 in a.zarr, 1.0 in b.zarr"
    )
    small_spec().require_equal(small_spec(), action="resume this store", names=("a.zarr", "b.zarr"))


@pytest.mark.parametrize(("dtype", "expected"), [("float16", 144), ("int8", 72)])
def test_frame_bytes(dtype: str, expected: int) -> None:
    assert small_spec(dtype=dtype).frame_bytes() == expected
