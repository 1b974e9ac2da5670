"""Which video a name means: the one rule by which annotations, options and files find each other.

A video's id is its file's name without the suffix, as the disk spells it, and stays so. A name
means the video with that very id; else the one that differs only by a video's suffix or by its
Unicode normal form (macOS may write é as two characters), if there is one only. One dataset has a
rule of its own: TACoS' annotations say s30-d52 of the video, and of the features, that are named
s30-d52-cam-002. Anything further off, such as other letter case, is a near miss: named, but never
taken for the video.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from r2t.store.annotations import Annotation
from r2t.store.errors import AnnotationError, AnnotationWarning, VideoError
from r2t.store.json_lines import is_utf8, printable
from r2t.store.wording import counted

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
_TACOS = re.compile(r"s\d{2}-d\d{2}")
_TACOS_CAMERA = "-cam-002"
_CLOSE_ENOUGH = 0.7
_MOST_WRONG = 2  # letters of a long name
_MOST_COMPARED = 50  # names that are compared with all others letter by letter


def without_suffix(name: str) -> str:
    """Return a video file's name without its suffix; other names are ids already."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in VIDEO_SUFFIXES else name


def video_id_of(name: str, where: str) -> str:
    """Return the id that a table's file name means; raise `AnnotationError` if it is a path."""
    if re.search(r"[/\\]", name):
        raise AnnotationError(
            f"{where}: {name!r} is a path; name the video by its file name, such as dog.mp4"
        )
    return without_suffix(name)


def video_key(name: str) -> str:
    """Return what all names have in common that can mean one video."""
    stem = without_suffix(name)
    scene = stem.removesuffix(_TACOS_CAMERA)
    return scene if _TACOS.fullmatch(scene) else _composed(stem)


def same_video(name: str, other: str) -> bool:
    """Whether two names can mean one video."""
    return name == other or video_key(name) == video_key(other)


def name_of_features(video_id: str) -> str:
    """Return the name that a video's released features have: an id of TACoS gets its camera."""
    return f"{video_id}{_TACOS_CAMERA}" if _TACOS.fullmatch(video_id) else video_id


def differ_by_camera(name: str, other: str) -> bool:
    """Whether two names of one video are TACoS' with and without the camera."""
    cameras = (_TACOS_CAMERA in name, _TACOS_CAMERA in other)
    return cameras[0] != cameras[1] and same_video(name, other)


def require_utf8_name(path: Path) -> None:
    """Raise `VideoError` if a file's name is not UTF-8, and so can be no id of a store."""
    if not is_utf8(path.name):
        raise VideoError(
            f"{printable(path)}: the name is not UTF-8, so it cannot be an id; rename the file"
        )


class VideoNames:
    """The ids that there are, to be found by the names that people write."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = dict.fromkeys(ids)
        self._by_key = _grouped(self._ids, video_key)
        self._by_spelling: Mapping[str, Sequence[str]] | None = None  # made when a name is missing
        self._num_compared = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, name: str) -> str | None:
        """Return the id that a name means; None if there is none, or more than one."""
        if name in self._ids:
            return name
        found = self._by_key.get(video_key(name), ())
        return found[0] if len(found) == 1 else None

    def find_spelled(self, name: str) -> str | None:
        """Return the id that is a name in another Unicode normal form, if there is one."""
        found = self.find(name)
        return found if found and _composed(found) == _composed(name) else None

    def hint(self, name: str) -> str:
        """Return what a name that means nothing may be meant for; empty if nothing is near."""
        if self._by_spelling is None:
            self._by_spelling = _grouped(self._ids, _spelling)
        if twins := self._by_key.get(video_key(name)):
            return f"it can mean {' or '.join(map(repr, twins))}"
        if near := self._by_spelling.get(_spelling(name)):
            path = re.search(r"[/\\]", name)
            return f"there is {near[0]!r}, {'without a path' if path else 'spelled differently'}"
        self._num_compared += 1
        if self._num_compared > _MOST_COMPARED:
            return ""
        # One of a series is no misspelling of another: numbers must be the same.
        numbers = _numbers(name)
        numbered_so = [each for each in self._ids if _numbers(each) == numbers]
        cutoff = max(_CLOSE_ENOUGH, 1 - _MOST_WRONG / max(len(name), 1))
        close = difflib.get_close_matches(name, numbered_so, n=1, cutoff=cutoff)
        return f"there is {close[0]!r}" if close else ""

    def named(self, name: str) -> str:
        """Return a name that means nothing, with what it may be meant for."""
        hint = self.hint(name)
        return f"{name} ({hint})" if hint else name


def match_videos(annotations: Sequence[Annotation], names: VideoNames) -> list[Annotation]:
    """Return annotations under the ids of the videos that they mean, where these are known.

    An `AnnotationWarning` tells of the ones that are matched by the rule of TACoS.
    """
    meant = {name: names.find(name) for name in {each.video_id for each in annotations}}
    changed = {name: found for name, found in meant.items() if found not in (None, name)}
    cameras = sorted(
        (n, found) for n, found in changed.items() if found and differ_by_camera(n, found)
    )
    if cameras:
        name, found = cameras[0]
        warnings.warn(
            f"TACoS' annotations leave out the camera in its videos' names: {name!r} is taken for "
            f"{found!r} ({counted(len(cameras), 'video')} in all)",
            AnnotationWarning,
            stacklevel=2,
        )
    if not changed:
        return list(annotations)
    return [
        replace(each, video_id=changed[each.video_id]) if each.video_id in changed else each
        for each in annotations
    ]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _spelling(name: str) -> str:
    """Return what is left of a name if case, suffix, folder and compatibility forms are ignored."""
    base = re.split(r"[/\\]", name)[-1]
    return unicodedata.normalize("NFKC", without_suffix(base.strip())).casefold()


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", _spelling(name))]


def _grouped(ids: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for each in ids:
        groups.setdefault(key(each), []).append(each)
    return groups
