"""The card as `README.md`: Markdown with the front matter that hubs read."""

from __future__ import annotations

from typing import Any

from r2t.store.card.facts import CARD_MARK, TAGS, StoreFacts
from r2t.store.card.markdown import markdown_table, markdown_text
from r2t.store.card.texts import CardTexts, is_one_licence
from r2t.store.card.words import marked_readme
from r2t.store.wording import counted

_USE = """\
```sh
r2t store verify STORE
r2t train STORE
```

`verify` computes every digest again: it tells whether your copy is complete and undamaged."""


def card_readme(facts: StoreFacts, texts: CardTexts) -> str:
    """Return the whole document. Foreign texts are shown as they are and cannot act as Markdown."""
    title = texts.title or facts.title
    about = [markdown_text(facts.summary), "It is a feature store of r2t, a Zarr v3 group."]
    if texts.url:
        about.append(f"Its address: {markdown_text(texts.url)}")
    sections = [
        f"# {markdown_text(title)}",
        " ".join(about),
        "## Content",
        _content(facts),
        "## How the features were made",
        markdown_table(("what", "value"), {**facts.identity, **facts.provenance}.items()),
        "## Licence",
        _licences(facts, texts),
    ]
    if texts.citation:
        lines = texts.citation.strip().splitlines()
        sections += ["## Citation", "\n".join(f"    {line}" for line in lines)]
    body = "\n\n".join([*sections, "## Use", _USE])
    return marked_readme(_head(title, texts), body, CARD_MARK)


def _head(title: str, texts: CardTexts) -> dict[str, Any]:
    values: dict[str, Any] = {"pretty_name": title, "tags": TAGS}
    if texts.licence:  # hubs name SPDX licences in lower case
        values["license"] = texts.licence.lower() if is_one_licence(texts.licence) else "other"
    return values


def _content(facts: StoreFacts) -> str:
    size = f"The videos' features take {facts.num_bytes:,} bytes."
    if not facts.splits:
        return f"There are no sentences. {size}"
    rows = [
        (split, f"{counts.num_queries:,}", f"{counts.num_videos:,}", f"{counts.num_moments:,}")
        for split, counts in facts.splits.items()
    ]
    return markdown_table(("split", "sentences", "videos", "moments"), rows) + f"\n\n{size}"


def _licences(facts: StoreFacts, texts: CardTexts) -> str:
    said = texts.licence or "not stated. Ask the owner before you use them"
    lines = [f"Features and annotations: {markdown_text(said)}."]
    if facts.video_licences:
        lines += ["", "The videos, as recorded when their features were made:", ""]
        order = sorted(facts.video_licences.items(), key=lambda each: (-each[1], each[0] or ""))
        lines += [
            f"- {counted(number, 'video')}: {markdown_text(name or 'not recorded')}"
            for name, number in order
        ]
    return "\n".join(lines)
