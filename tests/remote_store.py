"""A small store to read from elsewhere, and what reading it must give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from features import columns, pack, random_tokens, small_query, small_spec, write_video

from r2t.store import FeatureStore

LONG = 301  # frames of three shards
TOKENS = {"a dog": random_tokens(5, seed=1), "long": random_tokens(LONG, seed=2)}
PART = {"layers": slice(1, 3), "frames": slice(90, 210)}


def write_both(folder: Path) -> Path:
    """Write the store into a folder, as `feats.zarr` and as `feats.zip`; return the folder."""
    store = FeatureStore.create(folder / "feats.zarr", small_spec())
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            write_video(writer, video_id, tokens)
        writer.add_queries(*columns(small_query("q1", "a dog"), small_query("q2", "long", seed=1)))
    pack(folder / "feats.zarr", folder / "feats.zip")
    return folder


def require_readable(store: FeatureStore) -> None:
    assert store.videos["video_id"].tolist() == list(TOKENS)
    for video_id, tokens in TOKENS.items():
        assert store.has_video(video_id)
        assert np.array_equal(store.read_video(video_id).tokens, tokens)
    part = store.read_video("long", **PART).tokens
    assert np.array_equal(part, TOKENS["long"][PART["layers"], PART["frames"]])
    assert not store.has_video("cat")
    assert np.array_equal(store.read_query("q2").tokens, small_query("q2", seed=1)[1].tokens)
    assert [annotation.query_id for annotation in store.annotations("val")] == ["q1", "q2"]
