"""What the metadata of an array may claim, before anything of it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2t.store.errors import CorruptFeatureError
from r2t.store.format import columns
from r2t.store.format.columns import parse_column, read_column_rows, read_columns
from r2t.store.format.nodes import FolderStore, create_array, open_group


def metadata(shape: list[int], chunks: list[int], dtype: str = "float64") -> dict[str, Any]:
    text = dtype == "string"
    return {
        "node_type": "array",
        "data_type": dtype,
        "shape": shape,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "vlen-utf8"}]
        if text
        else [{"name": "bytes", "configuration": {"endian": "little"}}],
    }


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ([2**28 + 1, 4], [1000, 4]),
        ([2**17, 4], [1, 4]),  # more files than a part has
        ([1000, 4], [2**28, 4]),
        ([1000, 2**40], [1000, 2**40]),
        ([1000, 4], [1000, 2]),
        ([1000, 4], [0, 1]),
        ([1000, 4, 2], [1000, 1, 2]),
    ],
)
def test_what_is_too_large_or_cut_otherwise_is_refused(shape: list[int], chunks: list[int]) -> None:
    for dtype in ("float64", "string"):
        with pytest.raises(CorruptFeatureError, match="describes no array"):
            parse_column("parts/x", metadata(shape, chunks, dtype), may_be_apart=True)


def test_columns_may_lie_apart_only_where_columns_are() -> None:
    found = metadata([1000, 4], [300, 1])
    column = parse_column("p", found, may_be_apart=True)
    assert column.apart
    assert [column.at(2).chunk_key(number) for number in range(column.num_chunks)] == [
        f"p/c/{number}/2" for number in range(4)
    ]
    with pytest.raises(CorruptFeatureError, match="describes no array"):
        parse_column("p", found)


def test_large_chunks_are_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = open_group(str(tmp_path), "w-")
    numbers = np.arange(40.0).reshape(20, 2)
    texts = np.array([f"é{'x' * number}" for number in range(20)], np.dtypes.StringDType())
    for name, values in (("numbers", numbers), ("texts", texts)):
        chunks = (7, *values.shape[1:])
        dtype = "string" if name == "texts" else values.dtype
        array = create_array(group, name, shape=values.shape, dtype=dtype, chunks=chunks)
        array[...] = values
    store = FolderStore(tmp_path.resolve(), read_only=True)
    found = columns.read_metadata(store, ["numbers", "texts"])
    for piece_bytes in (1, 16, 7 * 16, 50, 10_000):
        monkeypatch.setattr(columns, "_PIECE_BYTES", piece_bytes)
        read = list(read_columns(store, found))
        np.testing.assert_array_equal(read[0], numbers)
        assert read[1].tolist() == texts.tolist()
    np.testing.assert_array_equal(read_column_rows(store, found[0], 5, 16), numbers[5:16])
    file = tmp_path / "numbers" / "c" / "1" / "0"
    for content in (file.read_bytes() + b"\0", file.read_bytes()[:-1]):
        file.write_bytes(content)
        with pytest.raises(CorruptFeatureError, match="bytes, expected"):
            list(read_columns(store, found))
