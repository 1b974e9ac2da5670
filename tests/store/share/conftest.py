"""A store to send to a hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from features import columns, random_tokens, small_query, small_spec, write_video

from r2t.store import FeatureStore
from r2t.store.card import CardTexts, write_card

TOKENS = {name: random_tokens(5, seed=seed) for seed, name in enumerate(("a dog", "cat", "é"))}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "feats.zarr"
    with FeatureStore.create(
        path, small_spec(), {"merged": ["/home/me/secret/a.zarr"]}
    ).writer() as writer:
        for number, (video_id, tokens) in enumerate(TOKENS.items()):
            write_video(writer, video_id, tokens)
            writer.add_queries(*columns(small_query(f"q{number}", video_id, seed=number)))
    write_card(path, CardTexts(licence="MIT"))
    return path


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "feats.zarr"))
