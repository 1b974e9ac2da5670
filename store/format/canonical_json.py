"""Digests of JSON values, the same in every language: those of their canonical form, RFC 8785."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785


def json_digest(values: Mapping[str, Any]) -> str:
    """Return 'sha256:' and the hex digest of JSON values in canonical form.

    Raises `ValueError` on what has none: NaN, integers beyond 2⁵³, text that is no Unicode, or
    anything that is not JSON.
    """
    try:
        canonical = rfc8785.dumps(dict(values))
    except RecursionError as error:
        raise ValueError("the values are nested too deeply") from error
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def sealed(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return values with the digest of all the others under `key`, in the place of an older one."""
    rest = {name: value for name, value in values.items() if name != key}
    return {**rest, key: json_digest(rest)}


def is_sealed(values: Mapping[str, Any], key: str) -> bool:
    """Whether the digest under `key` is that of all the other values."""
    try:
        return sealed(values, key)[key] == values.get(key)
    except ValueError:
        return False
