"""The annotation files beside videos: those that can be read, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r2t.store.datasets.registry import PREDICTIONS, known_suffixes, why_unread
from r2t.store.errors import AnnotationError
from r2t.store.video_names import VIDEO_SUFFIXES

_MEANT_FOR_ROWS = frozenset({".csv", ".tsv", ".tab", ".jsonl", ".ndjson"})
_ADVICE = {
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".numbers"), "a spreadsheet: save it as CSV"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), "an archive: unpack it"),
    **dict.fromkeys((".bz2", ".xz", ".zst"), "compressed: unpack it, or compress it with gzip"),
    ".parquet": "Parquet is not read: save it as CSV",
}


@dataclass(frozen=True)
class FolderFiles:
    """What lies in a folder of videos beside them.

    `annotations` can be read. `passed_over` were meant to hold rows, by their suffix, but are not
    understood, with the reason; `others` are of kinds that seldom hold any, with the reason.
    """

    annotations: tuple[Path, ...]
    passed_over: Mapping[Path, str]
    others: Mapping[Path, str]


def survey_folder(folder: str | Path) -> FolderFiles:
    """Tell apart the files directly inside a folder of videos, sorted by name.

    Hidden files and videos are none of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AnnotationError(f"{folder} is not a folder")
    found: list[Path] = []
    passed_over: dict[Path, str] = {}
    others: dict[Path, str] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix in VIDEO_SUFFIXES or not path.is_file():
            continue
        inner = Path(path.stem).suffix.lower() if suffix == ".gz" else suffix
        reason = _why_unread(path, inner)
        if reason is None:
            found.append(path)
        elif reason != PREDICTIONS and (inner in _MEANT_FOR_ROWS or suffix in _ADVICE):
            passed_over[path] = reason
        else:
            others[path] = reason
    return FolderFiles(tuple(found), passed_over, others)


def _why_unread(path: Path, suffix: str) -> str | None:
    if suffix not in known_suffixes():
        which = f"ending in {suffix}" if suffix else "without a suffix"
        return _ADVICE.get(suffix, f"files {which} hold no annotations")
    try:
        return why_unread(path)
    except AnnotationError as error:
        return str(error)
