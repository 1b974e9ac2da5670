"""What several commands make of their options: stores, annotations, ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from r2t.store.annotations import Annotation, Split
from r2t.store.errors import AnnotationError, ConfigError
from r2t.store.schema import PER_VIDEO

if TYPE_CHECKING:
    from r2t.store.feature_store import FeatureStore


def parse_frame_rate(text: str) -> float | Literal["per-video"]:
    """Return what `parse_rate` let through: a number, or per-video."""
    return PER_VIDEO if text == PER_VIDEO else float(text)


def read_ids(option: str, given: str) -> list[str]:
    """Return the id that was given, or those that a file of that name lists, one a line."""
    path = Path(given)
    if not path.is_file():
        return [given]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {given}: cannot be read as a list of ids: {error}") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ConfigError(f"{option} {given}: the file lists no ids")
    return ids


def read_annotation_options(given: Sequence[str]) -> list[Annotation]:
    """Read the files of `--annotations`, each a path or split=path."""
    from r2t.store.datasets import read_annotations

    rows: list[Annotation] = []
    for text in given:
        split, path = split_option(text)
        rows += read_annotations(path, split=split)
    return rows


def split_option(text: str) -> tuple[Split | None, Path]:
    """Read one `--annotations`: a path, or split=path."""
    split, equals, name = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if split not in get_args(Split):
        raise AnnotationError(
            f"--annotations {text!r}: the split {split!r} is none of {', '.join(get_args(Split))}"
        )
    return cast("Split", split), Path(name)


def open_store(location: str, cache: Path | None, max_bytes: int) -> FeatureStore:
    """Open a store; keep tokens of one that is not on this machine in a folder."""
    from r2t.store.cache import ByteCache
    from r2t.store.feature_store import FeatureStore

    kept = None if cache is None else ByteCache(cache, max_bytes)
    return FeatureStore.open(location, kept)
