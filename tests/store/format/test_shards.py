"""Shard files: written as zarr writes them, and read back a piece at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2t.store.errors import CorruptFeatureError
from r2t.store.format import shards
from r2t.store.format.layout import TokenLayout
from r2t.store.format.nodes import create_array, open_group
from r2t.store.format.shards import locate_tokens, read_blocks, write_shard


def make_array(folder: Path, layout: TokenLayout, values: np.ndarray | None) -> Path:
    group = open_group(str(folder), "w-")
    array = create_array(
        group,
        "tokens",
        shape=layout.shape,
        dtype=layout.dtype,
        chunks=layout.chunk_shape,
        shards=layout.shard_shape,
    )
    if values is not None:
        array[...] = values
    return folder / "tokens"


@pytest.mark.parametrize("dtype", ["<f2", "i1"])
@pytest.mark.parametrize("num_frames", [1, 150, 301])
def test_a_shard_has_the_bytes_that_zarr_gives_it(
    tmp_path: Path, dtype: str, num_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = TokenLayout(3, num_frames, 2, 4, np.dtype(dtype))
    values = np.random.default_rng(0).integers(-99, 99, layout.shape).astype(dtype)
    by_zarr = make_array(tmp_path / "zarr", layout, values)
    ours = make_array(tmp_path / "ours", layout, None)
    for number, frames in enumerate(layout.shards()):
        write_shard(ours, layout, number, values[:, frames])
    files = sorted(path.relative_to(ours) for path in ours.rglob("*") if path.is_file())
    assert len(files) == layout.num_shards + 1
    for name in files:
        assert (ours / name).read_bytes() == (by_zarr / name).read_bytes()
    monkeypatch.setattr(shards, "_BLOCK_BYTES", 100)
    ranges = locate_tokens(ours, layout, range(1, 3), range(num_frames))
    assert b"".join(block.tobytes() for block in read_blocks(ranges)) == values[1:].tobytes()


def test_a_shard_that_is_cut_off_while_it_is_read_is_told(tmp_path: Path) -> None:
    layout = TokenLayout(2, 3, 2, 4, np.dtype("<f2"))
    folder = make_array(tmp_path / "ours", layout, np.ones(layout.shape, "<f2"))
    ranges = locate_tokens(folder, layout, range(2), range(3))
    with ranges[0].path.open("r+b") as file:
        file.truncate(layout.chunk_bytes)
    with pytest.raises(CorruptFeatureError, match="ends too early"):
        list(read_blocks(ranges))
