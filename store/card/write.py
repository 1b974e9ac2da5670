"""Writing a store's card: what the owner says into its header, and the two documents beside it."""

from __future__ import annotations

import dataclasses
import json
from datetime import date, datetime
from pathlib import Path

from r2t.store.card.croissant import card_croissant
from r2t.store.card.facts import CARD_MARK, StoreFacts
from r2t.store.card.readme import card_readme
from r2t.store.card.texts import CardTexts
from r2t.store.change import licences
from r2t.store.check import CARD_NAMES
from r2t.store.errors import ConfigError, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import Publisher, StoreHeader, rewrite_header
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import open_publisher
from r2t.store.sources import StoreRoot, open_root


def read_card(location: str | Path) -> CardTexts:
    """Return what the owner said of a store; raise `StoreError` if that is not legal."""
    return _texts(open_root(location))


def _texts(root: StoreRoot) -> CardTexts:
    try:
        return CardTexts.from_header(root.header.card)
    except ConfigError as error:
        raise StoreError(f"{root.location}: {error}") from error


def write_card(
    location: str | Path, texts: CardTexts | None = None, *, on_video: OnProgress = no_progress
) -> tuple[str, ...]:
    """Write `README.md` and `croissant.json` into a store; return where they are.

    `texts` replace what the header says, which is used otherwise. Documents that are there are
    replaced if an earlier card left them, and refused if somebody else wrote them.

    Raises:
        StoreError: the store can only be read, is of format version 1, or has a document of
            another's.
    """
    root = open_root(location)
    publisher = open_publisher(root, "write its card")
    if root.header.format_version == 1:
        raise StoreError(
            f"{location} is of format version 1, which has no card: `r2t store upgrade {location}` "
            "first"
        )
    said = _texts(root) if texts is None else texts
    facts = StoreFacts.of(
        FeatureStore(root), licences(location, on_video=on_video), _last_written(root.header)
    )
    documents = (
        card_readme(facts, said),
        json.dumps(card_croissant(facts, said), indent=2, ensure_ascii=False) + "\n",
    )
    with publisher.errors(), publisher:
        for name in CARD_NAMES:
            _require_own(publisher, name)
        rewrite_header(
            publisher, lambda header: dataclasses.replace(header, card=said.to_header() or None)
        )
        for name, text in zip(CARD_NAMES, documents, strict=True):
            publisher.write(name, text.encode())
    return tuple(f"{publisher.location}/{name}" for name in CARD_NAMES)


def _last_written(header: StoreHeader) -> date | None:
    """Return the day of the newest part, which its name begins with."""
    newest = max((name for names in header.parts.values() for name in names), default="")
    try:
        return datetime.strptime(newest[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _require_own(publisher: Publisher, name: str) -> None:
    """Refuse to overwrite a document that is not marked as a card."""
    content = publisher.read(name)
    if content is not None and CARD_MARK.encode() not in content:
        raise StoreError(
            f"{publisher.location}/{name} was not written by `r2t store card`, which would "
            "replace it: move it elsewhere"
        )
