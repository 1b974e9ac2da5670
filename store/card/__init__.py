"""A store's card: what a person, a hub and a dataset search should know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.card.facts import CARD_MARK as CARD_MARK
    from r2t.store.card.markdown import (
        markdown_table as markdown_table,
        markdown_text as markdown_text,
    )
    from r2t.store.card.texts import (
        MOST_CHARACTERS as MOST_CHARACTERS,
        CardTexts as CardTexts,
        is_one_licence as is_one_licence,
        spdx_expression as spdx_expression,
    )
    from r2t.store.card.words import (
        README as README,
        marked_readme as marked_readme,
        readme_to_send as readme_to_send,
        with_kept_words as with_kept_words,
    )
    from r2t.store.card.write import (
        CROISSANT as CROISSANT,
        read_card as read_card,
        require_own_document as require_own_document,
        write_card as write_card,
    )
else:
    __getattr__ = lazy_exports(__name__)
