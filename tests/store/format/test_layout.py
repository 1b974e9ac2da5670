"""Names, shards and digests: what another reader would have to agree with."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from r2t.store.format.layout import (
    MAX_SHARD_FRAMES,
    FeatureDigest,
    columns_digest,
    node_name,
    split_into_shards,
)

WINDOWS_NAMES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{p}{n}" for p in ("com", "lpt") for n in range(10)),
}
# Ordinary text seldom hits what is reserved or escaped, so ids are also built of such pieces.
RESERVED = (".", "..", "__", "%", "%~", "%2E", "/", "\\", "con", "NUL.", "zarr.json", "c", "\0")
PIECES = st.sampled_from([*RESERVED, "_", "-", " ", "é", "\udc80", "a" * 199, "😀" * 20])
IDS = st.text(st.characters(), min_size=1) | st.lists(PIECES, min_size=1, max_size=4).map("".join)


@given(IDS)
def test_node_names_are_legal_on_any_disk(identifier: str) -> None:
    name = node_name(identifier)
    assert re.fullmatch(r"[A-Za-z0-9_%~-][A-Za-z0-9._%~-]*", name)
    assert len(name) <= 200
    assert not name.endswith(".")
    assert not name.startswith("__")
    assert name.lower() not in ("zarr.json", "c")
    assert name.lower().partition(".")[0] not in WINDOWS_NAMES


@given(IDS, IDS)
def test_node_names_are_injective(one: str, other: str) -> None:
    assert (node_name(one) == node_name(other)) == (one == other)


@given(IDS)
def test_short_names_spell_the_id_and_long_ones_its_digest(identifier: str) -> None:
    data = identifier.encode("utf-8", "surrogatepass")
    name = node_name(identifier)
    if "%~" in name:
        assert name[152:] == hashlib.sha256(data).hexdigest()[:16]
        assert len(name) == 168
    else:
        spelt = re.sub(rb"%(..)", lambda match: bytes([int(match[1], 16)]), name.encode())
        assert spelt == data


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("-0bXzGVhsYI_60.0_210.0", "-0bXzGVhsYI_60.0_210.0"),
        ("Dog", "Dog"),
        ("a b/c", "a%20b%2Fc"),
        ("100%", "100%25"),
        ("é", "%C3%A9"),
        (".hidden", "%2Ehidden"),
        ("..", "%2E%2E"),
        ("__zarr", "%5F_zarr"),
        ("_x", "_x"),
        ("end.", "end%2E"),
        ("zarr.json", "%7Aarr.json"),
        ("CON", "%43ON"),
        ("con.mp4", "%63on.mp4"),
        ("cone", "cone"),
        ("c", "%63"),
        ("a" * 200, "a" * 200),
        ("a" * 201, "a" * 150 + "%~" + hashlib.sha256(b"a" * 201).hexdigest()[:16]),
    ],
)
def test_node_names_by_example(identifier: str, name: str) -> None:
    assert node_name(identifier) == name


@given(st.integers(1, 10**7))
def test_shards_cover_all_frames_and_none_is_empty(num_frames: int) -> None:
    num_shards, shard_frames = split_into_shards(num_frames)
    assert shard_frames <= MAX_SHARD_FRAMES
    assert math.ceil(num_frames / shard_frames) == num_shards  # what zarr makes of the shard shape
    assert 0 <= num_shards * shard_frames - num_frames < num_shards


@pytest.mark.parametrize(
    ("num_frames", "shards"), [(1, (1, 1)), (150, (1, 150)), (151, (2, 76)), (1800, (12, 150))]
)
def test_shards_by_example(num_frames: int, shards: tuple[int, int]) -> None:
    assert split_into_shards(num_frames) == shards


@given(st.lists(st.integers(0, 12), max_size=5))
def test_a_digest_does_not_depend_on_how_values_arrive(cuts: list[int]) -> None:
    values = np.arange(12, dtype="<f2")
    expected = hashlib.sha256(b"float16 [3, 4]\n" + values.tobytes()).hexdigest()
    digest = FeatureDigest(np.dtype(np.float16), (3, 4))
    for part in np.split(values.astype(">f2"), sorted(cuts)):
        digest.update(part)
    assert digest.finish() == f"sha256:{expected}"


def test_a_digest_tells_dtype_and_shape_apart() -> None:
    digests = {
        FeatureDigest(np.dtype(dtype), shape).finish()
        for dtype in (np.float16, np.int8)
        for shape in ((3, 4), (4, 3), (12,))
    }
    assert len(digests) == 6


def test_column_digests_tell_where_one_string_ends() -> None:
    def digest(*texts: str) -> str:
        return columns_digest([("text", np.array(texts, dtype=np.dtypes.StringDType()))])

    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab", "c") == columns_digest([("text", np.array(["ab", "c"], dtype=object))])
    assert digest("ab") != columns_digest([("word", np.array(["ab"], dtype=object))])
