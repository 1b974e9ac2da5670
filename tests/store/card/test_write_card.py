"""Cards written into real stores: beside the content, which stays what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import toy_store
from features import unpack_version_1

from r2t.store.card import CardTexts, read_card, write_card
from r2t.store.check.verify import verify_store
from r2t.store.errors import StoreError
from r2t.store.feature_store import FeatureStore

TEXTS = CardTexts("Toys", "CC0-1.0", url="https://example.org/toys")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return toy_store.make_store(tmp_path / "feats.zarr", num_videos=3)


def test_a_store_with_a_card_is_sound_and_reads_as_before(store: FeatureStore) -> None:
    rows = store.queries
    readme, croissant = map(Path, write_card(store.location, TEXTS))
    assert verify_store(store.location).faults == ()
    again = FeatureStore.open(store.location)
    assert again.queries.equals(rows)
    assert read_card(store.location) == TEXTS
    assert readme.read_text().startswith('---\npretty_name: "Toys"\n')
    document = json.loads(croissant.read_text())
    assert document["license"] == "https://spdx.org/licenses/CC0-1.0"
    assert document["datePublished"]
    assert not list(Path(store.location).parent.glob("*.partial"))


def test_a_card_is_made_again_with_what_was_said(store: FeatureStore) -> None:
    first = [Path(file).read_bytes() for file in write_card(store.location, TEXTS)]
    assert [Path(file).read_bytes() for file in write_card(store.location)] == first
    write_card(store.location, CardTexts())
    assert read_card(store.location) == CardTexts()


def test_a_document_of_somebody_else_is_left_alone(store: FeatureStore) -> None:
    readme = Path(store.location) / "README.md"
    readme.write_bytes(b"\xff mine")
    header = (Path(store.location) / "zarr.json").read_bytes()
    with pytest.raises(StoreError, match=r"README\.md was not written by `r2t store card`"):
        write_card(store.location, TEXTS)
    assert readme.read_bytes() == b"\xff mine"
    assert (Path(store.location) / "zarr.json").read_bytes() == header


def test_a_store_of_version_1_is_told_to_be_upgraded(tmp_path: Path) -> None:
    unpack_version_1(tmp_path)
    with pytest.raises(StoreError, match="r2t store upgrade"):
        write_card(tmp_path / "float16.zarr", TEXTS)
