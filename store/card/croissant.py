"""The card as `croissant.json`: Croissant 1.0, the JSON-LD that dataset searches read.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

from typing import Any

from r2t.store.card.facts import CARD_MARK, TAGS, StoreFacts
from r2t.store.card.texts import CardTexts, is_one_licence

_TERMS = (
    "citeAs column conformsTo equivalentProperty extract field fileProperty fileObject fileSet "
    "format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex "
    "repeated replace samplingRate separator source subField transform"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    **{term: f"cr:{term}" for term in _TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
_BINARY = "application/octet-stream"
_FILE_SETS = {
    "metadata": ("application/json", "**/zarr.json", "what the arrays are; digests of videos"),
    "tokens": (_BINARY, "videos/*/tokens/c/**", "tokens: layers, frames, tokens, channels"),
    "embeddings": (_BINARY, "videos/*/embedding/c/**", "CLIP's image embedding of each frame"),
    "tables": (_BINARY, "parts/**", "a row a video; a row a sentence, with its moments and tokens"),
}
_COUNTS = ("queries", "videos", "moments")


def card_croissant(facts: StoreFacts, texts: CardTexts) -> dict[str, Any]:
    """Return the document's JSON value."""
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": texts.title or facts.title,
        "description": facts.summary,
        "version": "1.0.0",
        "creditText": CARD_MARK,
        "keywords": list(TAGS),
        # Without it every file needs a digest here; the store has its own, of values.
        "isLiveDataset": True,
        "distribution": [
            _file_set(name) for name in _FILE_SETS if name != "embeddings" or facts.has_embeddings
        ],
        "recordSet": [_splits(facts)] if facts.splits else [],
    }
    if facts.last_written:
        document["datePublished"] = facts.last_written.isoformat()
    if texts.licence:
        listed = is_one_licence(texts.licence)
        document["license"] = "https://spdx.org/licenses/" * listed + texts.licence
    if texts.citation:
        document["citeAs"] = texts.citation.strip()
    if texts.url:
        document["url"] = texts.url
    return document


def _file_set(name: str) -> dict[str, Any]:
    encoding, pattern, description = _FILE_SETS[name]
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "encodingFormat": encoding,
        "includes": pattern,
    }


def _splits(facts: StoreFacts) -> dict[str, Any]:
    types = {"split": "sc:Text", **dict.fromkeys(_COUNTS, "sc:Integer")}
    rows = [
        (split, counts.num_queries, counts.num_videos, counts.num_moments)
        for split, counts in facts.splits.items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "numbers of sentences, of the videos they are about, and of their moments",
        "key": {"@id": "splits/split"},
        "field": [
            {"@type": "cr:Field", "@id": f"splits/{name}", "name": name, "dataType": kind}
            for name, kind in types.items()
        ],
        "data": [
            {f"splits/{name}": value for name, value in zip(types, row, strict=True)}
            for row in rows
        ],
    }
