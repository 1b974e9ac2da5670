"""What several commands read from their options: stores, annotations, ids."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast, get_args

import r2t.store
from r2t.cli.shared.ui import progress_bar
from r2t.store import datasets, sources
from r2t.store.annotations import Annotation, Split
from r2t.store.errors import AnnotationError, ConfigError
from r2t.store.json_lines import numbered_lines, parse_id_line, printable
from r2t.store.video_names import VIDEO_SUFFIXES, VideoNames
from r2t.store.wording import named

_MOST_PASSED_OVER = 10


@contextmanager
def fields_as_typed(options: Mapping[str, str]) -> Generator[None]:
    """Let errors about a field, `name = value: …`, name the option that sets it."""
    try:
        yield
    except ConfigError as error:
        name, equals, rest = str(error).partition(" = ")
        if not equals or name not in options:
            raise
        raise ConfigError(f"{options[name]} {rest}") from error


def read_ids(option: str, given: str) -> list[str]:
    """Return the id or video that was named, or the ids that a file lists, one a line."""
    path = Path(given)
    if path.suffix.lower() in VIDEO_SUFFIXES or not path.is_file():  # a video is no list
        return [given]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {given}: cannot be read as a list of ids: {error}") from error
    ids = [parse_id_line(line) for _, line in numbered_lines(text)]
    if not ids:
        raise ConfigError(f"{option} {given}: the file lists no ids")
    return ids


def read_video_ids(
    option: str, given: Sequence[str], known: Iterable[str], where: str
) -> list[str]:
    """Return the ids of the videos that are named, or that files list; all must be known."""
    names = VideoNames(known)
    found = {name: names.find(name) for text in given for name in read_ids(option, text)}
    unknown = [names.named(name) for name, video_id in found.items() if video_id is None]
    if unknown:
        raise ConfigError(
            f"{option}: there is no video {named(unknown)} among the {len(names)} {where}"
        )
    return list(dict.fromkeys(each for each in found.values() if each is not None))


def read_annotation_options(given: Sequence[str]) -> list[Annotation]:
    """Read the files of `--annotations`, each a path or split=path."""
    rows: list[Annotation] = []
    for text in given:
        split, path = split_option(text)
        rows += read_annotation_file(path, split)
    return rows


def read_annotation_file(
    path: Path, split: Split | None = None, domain: str | None = None
) -> list[Annotation]:
    """Read a file of annotations, behind a progress bar if it is long."""
    with progress_bar(f"rows of {path.name}") as show_rows:
        return datasets.read_annotations(path, split=split, domain=domain, on_rows=show_rows)


def passed_over(survey: datasets.FolderFiles) -> str:
    """Name the files beside videos that are not understood, with the reasons; empty if none."""
    reasons = {**survey.passed_over, **survey.others}
    files = [f"{printable(path.name)} ({reason})" for path, reason in reasons.items()]
    return f" (passed over: {named(files, _MOST_PASSED_OVER)})" if files else ""


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


def open_store(location: str, cache: Path | None, max_bytes: int) -> r2t.store.FeatureStore:
    """Open a store; keep tokens of one that is not on this machine in a folder."""
    kept = None if cache is None else sources.ByteCache(cache, max_bytes)
    return r2t.store.FeatureStore.open(location, kept)
