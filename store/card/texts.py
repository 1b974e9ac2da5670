"""What only the owner of a store can say of it: title, licence, citation, address."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, cast
from urllib.parse import urlsplit

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from r2t.store.errors import ConfigError

MOST_CHARACTERS = 20_000
"""Most characters of one text."""
_SCHEMES = ("https", "http", "hf", "s3", "gs", "az", "abfs")


@dataclass(frozen=True)
class CardTexts:
    """What only the owner can say of a store; empty where nothing was said.

    `licence` is an SPDX licence expression and covers the features and annotations; `citation` is
    text or BibTeX. The store's header keeps them under `card`.
    """

    title: str = ""
    licence: str = ""
    citation: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
                raise ConfigError(
                    f"the card's {name} must be a text of at most {MOST_CHARACTERS:,} characters"
                )
        if len(self.title.splitlines()) > 1:
            raise ConfigError(f"the card's title {self.title!r} must be one line")
        if self.licence and spdx_expression(self.licence) != self.licence:
            raise ConfigError(
                f"the card's licence {self.licence!r} must be spelt {spdx_expression(self.licence)}"
            )
        if self.url and urlsplit(self.url).scheme not in _SCHEMES:
            raise ConfigError(
                f"the card's url {self.url!r}: give an address that begins with "
                f"{', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
            )

    @classmethod
    def from_header(cls, found: Any) -> CardTexts:
        """Check what a header says under `card`, None being nothing; raise `ConfigError`."""
        names = [field.name for field in fields(cls)]
        values = cast("dict[str, Any]", {} if found is None else found)
        if not isinstance(found, dict | None) or set(values) - set(names):
            raise ConfigError(f"the store's card must hold {', '.join(names)} and nothing else")
        return cls(**values)

    def to_header(self) -> dict[str, str]:
        """Return what the header keeps: what was said, without what was not."""
        return {name: text for name, text in asdict(self).items() if text}


def spdx_expression(text: str) -> str:
    """Return an SPDX licence expression in its canonical spelling.

    Raises:
        ConfigError: It is none, such as "CC BY 4.0" for CC-BY-4.0.
    """
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression as error:
        raise ConfigError(
            f"{text!r} is no SPDX licence: give an identifier from https://spdx.org/licenses such "
            "as CC-BY-4.0, CC0-1.0 or MIT, several joined by AND or OR, or LicenseRef- and a name "
            "of your own"
        ) from error


def is_one_licence(expression: str) -> bool:
    """Whether an expression is a single licence of SPDX's list."""
    return " " not in expression and not expression.startswith("LicenseRef-")
