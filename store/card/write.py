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
from r2t.store.card.words import README, with_kept_words
from r2t.store.change import licences
from r2t.store.check import CARD_NAMES
from r2t.store.errors import ConfigError, StoreError
from r2t.store.feature_store import FeatureStore
from r2t.store.format import StoreHeader, rewrite_header
from r2t.store.progress import OnProgress, no_progress
from r2t.store.publish import open_publisher
from r2t.store.sources import StoreRoot, open_root

CROISSANT = "croissant.json"


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

    `texts` replace what the header says, which is used otherwise. What people wrote into README.md
    is kept; a croissant.json that an earlier card left is replaced.

    Raises:
        StoreError: the store can only be read, is of format version 1, or somebody changed what
            would be replaced.
    """
    root = open_root(location)
    publisher = open_publisher(root, "write its card")
    root.header.require_current(root.location)
    said = _texts(root) if texts is None else texts
    facts = StoreFacts.of(
        FeatureStore(root), licences(location, on_video=on_video), _last_written(root.header)
    )
    readme = card_readme(facts, said)
    croissant = json.dumps(card_croissant(facts, said), indent=2, ensure_ascii=False) + "\n"
    with publisher.errors(), publisher:
        place = f"{publisher.location}/"
        if root.path is not None and (root.path / README).is_symlink():
            raise StoreError(f"{place}{README} is a symbolic link; run `r2t store verify`")
        require_own_document(publisher.read(CROISSANT), f"{place}{CROISSANT}")
        readme = with_kept_words(readme, publisher.read(README), f"{place}{README}")
        rewrite_header(
            publisher, lambda header: dataclasses.replace(header, card=said.to_header() or None)
        )
        publisher.write(README, readme.encode())
        publisher.write(CROISSANT, croissant.encode())
    return tuple(f"{place}{name}" for name in CARD_NAMES)


def _last_written(header: StoreHeader) -> date | None:
    """Return the day of the newest part, which its name begins with."""
    newest = max((name for names in header.parts.values() for name in names), default="")
    try:
        return datetime.strptime(newest[:8], "%Y%m%d").date()
    except ValueError:
        return None


def require_own_document(content: bytes | None, name: str) -> None:
    """Raise `StoreError` about a `croissant.json` that is not marked as a card."""
    if content is not None and CARD_MARK.encode() not in content:
        raise StoreError(
            f"{name} was not written by `r2t store card`, which would replace it: move it elsewhere"
        )
