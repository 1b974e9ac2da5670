"""The two documents of a card: what they say, and that their readers take them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import mlcroissant
import pytest

from r2t.store.card.croissant import card_croissant
from r2t.store.card.facts import StoreFacts
from r2t.store.card.readme import card_readme
from r2t.store.card.texts import CardTexts, spdx_expression
from r2t.store.check.split_counts import SplitCounts
from r2t.store.errors import ConfigError

FACTS = StoreFacts(
    num_videos=3,
    num_frames=450,
    duration_hours=0.25,
    num_bytes=138_240_000,
    splits={"train": SplitCounts(12, 2, 20), "val": SplitCounts(1, 1, 1)},
    identity={"model": "ViT-B-32", "vision_layers": [9, 10, 11, 12], "frame_rate": 0.5},
    provenance={"r2t": "1.0"},
    has_embeddings=True,
    video_licences={"CC0-1.0": 2, None: 1},
    last_written=date(2026, 11, 28),
)
TEXTS = CardTexts("Cats", "CC-BY-4.0", "@misc{cats,\n  title={Cats}}", "https://example.org/cats")


# of rdflib, when mlcroissant uses it
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")


def test_the_readme_says_what_the_store_holds() -> None:
    lines = card_readme(FACTS, TEXTS).splitlines()
    assert lines[:2] == ["---", 'pretty_name: "Cats"']
    assert 'license: "cc-by-4.0"' in lines
    assert "| train | 12 | 2 | 20 |" in lines
    assert "| val | 1 | 1 | 1 |" in lines
    assert "| vision\\_layers | \\[9, 10, 11, 12\\] |" in lines
    assert "- 2 videos: CC0-1.0" in lines
    assert "- 1 video: not recorded" in lines
    assert "    @misc{cats," in lines


def test_foreign_texts_cannot_act_in_the_readme() -> None:
    hostile = CardTexts(title='"\\n---\\n<script>x</script> [a](http://b) | `c` # d')
    facts = replace(FACTS, provenance={"a|b\n# c": "<img src=x>"}, video_licences={"\n# big": 1})
    text = card_readme(facts, hostile)
    assert text.count("\n---\n") == 1
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    titles = [line for line in front.splitlines() if line.startswith("pretty_name: ")]
    assert [json.loads(line.removeprefix("pretty_name: ")) for line in titles] == [hostile.title]
    assert "<script" not in body
    assert "<img" not in body
    assert "[a](" not in body
    assert [line for line in body.splitlines() if line.startswith("# ")] == [
        line for line in body.splitlines() if "script" in line
    ]


def test_a_licence_that_nobody_gave_is_said_to_be_missing() -> None:
    text = card_readme(replace(FACTS, splits={}), CardTexts())
    assert "license:" not in text
    assert "Features and annotations: not stated." in text
    assert "There are no sentences." in text
    assert "license" not in card_croissant(FACTS, CardTexts())


def open_croissant(document: Any, folder: Path) -> mlcroissant.Dataset:
    path = folder / "croissant.json"
    path.write_text(json.dumps(document))
    return mlcroissant.Dataset(jsonld=path)


@pytest.mark.parametrize("texts", [TEXTS, replace(TEXTS, licence="LicenseRef-own OR MIT")])
def test_croissants_own_library_takes_the_document(texts: CardTexts, tmp_path: Path) -> None:
    dataset = open_croissant(card_croissant(FACTS, texts), tmp_path)
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    assert dataset.metadata.name == "Cats"
    assert dataset.metadata.license
    records = list(dataset.records("splits"))
    assert [(each["splits/split"], each["splits/moments"]) for each in records] == [
        ("train", 20),
        ("val", 1),
    ]


def test_croissants_library_looks_at_what_it_is_given(tmp_path: Path) -> None:
    document = card_croissant(FACTS, TEXTS)
    del document["distribution"][0]["encodingFormat"]
    with pytest.raises(mlcroissant.ValidationError, match="encodingFormat"):
        open_croissant(document, tmp_path)


def test_a_store_without_embeddings_does_not_promise_any() -> None:
    names = [
        [each["name"] for each in card_croissant(facts, TEXTS)["distribution"]]
        for facts in (FACTS, replace(FACTS, has_embeddings=False))
    ]
    assert names == [
        ["metadata", "tokens", "embeddings", "tables"],
        ["metadata", "tokens", "tables"],
    ]


@pytest.mark.parametrize(
    ("given", "canonical"),
    [("cc-by-4.0", "CC-BY-4.0"), ("mit or Apache-2.0", "MIT OR Apache-2.0")],
)
def test_licences_are_spelt_as_spdx_spells_them(given: str, canonical: str) -> None:
    assert spdx_expression(given) == canonical


@pytest.mark.parametrize("given", ["CC BY 4.0", "free", "", "MIT AND", "\n"])
def test_what_is_no_spdx_licence_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"CC-BY-4\.0, CC0-1\.0 or MIT"):
        spdx_expression(given)


@pytest.mark.parametrize(
    "found",
    [
        {"title": "a\nb"},
        {"licence": "cc-by-4.0"},
        {"url": "javascript:alert(1)"},
        {"citation": "x" * 20_001},
        {"title": 1},
        {"colour": "red"},
        ["title"],
    ],
)
def test_a_header_with_an_illegal_card_is_refused(found: Any) -> None:
    with pytest.raises(ConfigError, match="card"):
        CardTexts.from_header(found)


def test_a_card_survives_the_header() -> None:
    assert CardTexts.from_header(TEXTS.to_header()) == TEXTS
    assert CardTexts.from_header(None) == CardTexts()
    assert CardTexts().to_header() == {}
