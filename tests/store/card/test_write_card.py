"""Cards written into real stores: beside the content, which stays what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import toy_store
from features import unpack_version_1

from r2t.store.card import CardTexts, read_card, write_card
from r2t.store.change import card_files
from r2t.store.check.verify import verify_store
from r2t.store.errors import StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.sources import open_root

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
    with pytest.raises(StoreError, match=r"README\.md is not UTF-8"):
        write_card(store.location, TEXTS)
    assert readme.read_bytes() == b"\xff mine"
    secret = Path(store.location).with_name("secret")
    secret.write_text("mine")
    readme.unlink()
    readme.symlink_to(secret)
    for act in (write_card, lambda place: card_files(open_root(place))):
        with pytest.raises(StoreError, match="is a symbolic link"):
            act(store.location)
    readme.unlink()
    (Path(store.location) / "croissant.json").write_text("{}")
    with pytest.raises(StoreError, match=r"croissant\.json was not written by `r2t store card`"):
        write_card(store.location, TEXTS)
    assert (Path(store.location) / "zarr.json").read_bytes() == header


def test_what_people_wrote_into_a_readme_stays(store: FeatureStore) -> None:
    readme = Path(store.location) / "README.md"
    readme.write_text("Filmed in Graz.")
    write_card(store.location, CardTexts(licence="MIT"))
    text = readme.read_text()
    assert "\n\nFilmed in Graz.\n\n<!-- made by r2t store card" in text
    readme.write_text(f"{text}\nAsk Ada first.\r\n".replace("tags:", "language: de\ntags:"))
    write_card(store.location, CardTexts(licence="MIT", title="Toys"))
    text = readme.read_text()
    assert text.index("Filmed in Graz.") < text.index("# Toys") < text.index("Ask Ada first.")
    assert text.startswith('---\npretty_name: "CLIP features of')  # the head is theirs now
    assert "language: de\n" in text
    assert text.count("made by r2t store card;") == 1
    write_card(store.location)
    assert readme.read_text() == text
    with pytest.raises(StoreError, match='states the licence "mit", and r2t was told'):
        write_card(store.location, CardTexts(licence="CC0-1.0"))
    readme.write_text(text.replace("# Toys", "# My toys"))
    with pytest.raises(StoreError, match="somebody changed what lies between the marks"):
        write_card(store.location)
    assert "# My toys" in readme.read_text()


def test_a_store_of_version_1_is_told_to_be_upgraded(tmp_path: Path) -> None:
    unpack_version_1(tmp_path)
    with pytest.raises(StoreError, match="r2t store upgrade"):
        write_card(tmp_path / "float16.zarr", TEXTS)
