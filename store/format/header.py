"""The header, in the attributes of a store's root: read from either version, and written.

Version 1 has no embeddings, no list of parts and no digest of the header.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from r2t.store.errors import ConfigError, CorruptFeatureError, StoreError
from r2t.store.format.canonical_json import is_sealed, sealed
from r2t.store.schema import FORMAT_VERSION, EmbeddingSpec, FeatureSpec

HEADER_DIGEST = "header_digest"

_REQUIRED = ("format_version", "identity", "embedding", "provenance", "parts", HEADER_DIGEST)
_OPTIONAL = ("card",)
_PARTS = ("index", "queries")


def _no_parts() -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(_PARTS, ())


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """The header of a store: `parts` names those of each kind that were there when it was written.

    `parts` is a copy of what a listing says, for hosts that cannot list. `card` is what the owner
    says of the store.
    """

    spec: FeatureSpec
    provenance: dict[str, Any]
    embedding: EmbeddingSpec | None = None
    parts: Mapping[str, Sequence[str]] = field(default_factory=_no_parts)
    card: dict[str, Any] | None = None
    format_version: int = FORMAT_VERSION

    def require_current(self, location: str) -> None:
        """Raise `StoreError` if the store has an older format version: nothing is added to it."""
        if self.format_version < FORMAT_VERSION:
            raise StoreError(
                f"{location} has format version {self.format_version}, which is only read; "
                f"`r2t store upgrade {location}` makes it version {FORMAT_VERSION}, and then it "
                "can be added to"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the header as JSON values; raise `ConfigError` if something in it is not JSON."""
        values: dict[str, Any] = {
            "format_version": self.format_version,
            "identity": self.spec.to_dict(),
            "provenance": self.provenance,
        }
        if self.format_version == 1:
            return values
        values["embedding"] = self.embedding and dataclasses.asdict(self.embedding)
        values["parts"] = {kind: list(names) for kind, names in self.parts.items()}
        if self.card is not None:
            values["card"] = self.card
        try:
            return sealed(values, HEADER_DIGEST)
        except ValueError as error:
            raise ConfigError(f"the provenance or the card is no plain JSON: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], location: str) -> StoreHeader:
        """Read what `to_dict` wrote in this or an older version.

        Raises:
            StoreError: if a newer r2t wrote it.
            CorruptFeatureError: if it is damaged; a `StoreError`, too.
        """
        version = values.get("format_version")
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise StoreError(
                f"{location} has format version {version!r}, this r2t reads versions up to "
                f"{FORMAT_VERSION}; install a newer r2t"
            )
        damaged = f"{location}: the store's header is damaged"
        identity, provenance = values.get("identity"), values.get("provenance")
        if not (isinstance(identity, dict) and isinstance(provenance, dict)):
            raise CorruptFeatureError(f"{damaged}: identity or provenance is missing")
        if version > 1:
            _require_whole(values, location, damaged)
        spec = FeatureSpec.from_dict(cast("dict[str, Any]", identity))
        header = cls(
            spec=spec, provenance=cast("dict[str, Any]", provenance), format_version=version
        )
        if version == 1:
            return header
        try:
            parts, card = _parts(values["parts"]), _card(values.get("card"))
        except ValueError as error:
            raise CorruptFeatureError(f"{damaged}: {error}") from error
        return dataclasses.replace(
            header, embedding=_embedding(values["embedding"], location), parts=parts, card=card
        )


def _require_whole(values: Mapping[str, Any], location: str, damaged: str) -> None:
    if unknown := sorted(set(values) - {*_REQUIRED, *_OPTIONAL}):
        raise StoreError(
            f"{location}: this r2t does not know what the header says of {', '.join(unknown)}: the "
            "store was written by a newer r2t; install that"
        )
    if missing := sorted(set(_REQUIRED) - set(values)):
        raise CorruptFeatureError(f"{damaged}: it lacks {', '.join(missing)}")
    if not is_sealed(values, HEADER_DIGEST):
        raise CorruptFeatureError(
            f"{damaged}: it is not what its {HEADER_DIGEST} says; `r2t store verify` tells what "
            "of it is proved, and `r2t store repair` restores that"
        )


def _embedding(found: Any, location: str) -> EmbeddingSpec | None:
    try:
        return None if found is None else EmbeddingSpec(**found)
    except (ConfigError, TypeError) as error:
        raise StoreError(
            f"{location}: this r2t cannot read embeddings of {found!r}: {error}. The store was "
            "written by a newer r2t; install that"
        ) from error


def _card(found: Any) -> dict[str, Any] | None:
    if not isinstance(found, dict | None):
        raise ValueError(f"card = {found!r}")
    return cast("dict[str, Any] | None", found)


def _parts(found: Any) -> dict[str, tuple[str, ...]]:
    legal = isinstance(found, dict) and set(cast("dict[str, Any]", found)) == set(_PARTS)
    lists = cast("dict[str, Any]", found)
    if not legal or not all(_is_names(names) for names in lists.values()):
        raise ValueError(f"parts = {found!r}")
    return {kind: tuple(names) for kind, names in lists.items()}


def _is_names(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(name, str) and "/" not in name and name not in ("", ".", "..")
        for name in cast("list[Any]", found)
    )
