"""Splitting a run among processes that know nothing of each other, by a hash of videos' names.

Which shard a video is in depends on its name and the number of shards alone, not on the other
videos, so machines that list a folder differently, or at different times, still agree. All names
that can mean one video hash alike, so that a query is always in the shard of its video.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from r2t.extract.fetch import VideoLocation
from r2t.extract.queries import without_repetitions
from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError
from r2t.store.video_names import video_key

_AUTO = "auto"
_LEGAL = (
    "give i/n, such as 1/8 to 8/8, or auto (in a Slurm array), or auto/8 (in a Kubernetes job of "
    "8 completions)"
)
_SLURM = "SLURM_ARRAY_TASK_"
_KUBERNETES = "JOB_COMPLETION_INDEX"


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of a run; they are numbered from 1.

    Raises:
        ConfigError: if there is no such shard.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            zero = (
                "; shards are counted from 1: auto/8 reads a counter that starts at 0"
                if self.number == 0
                else ""
            )
            raise ConfigError(f"shard {self}: {_LEGAL}{zero}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, name: str) -> bool:
        """Whether the video that a name means is one of this shard's."""
        return shard_number(name, self.count) == self.number


def shard_number(name: str, count: int) -> int:
    """Return which of `count` shards, from 1, has the video that a name means.

    It is the first 8 bytes of the SHA-256 of `video_key(name)` in UTF-8, read as a big-endian
    number, modulo the number of shards, plus 1.
    """
    digest = hashlib.sha256(video_key(name).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count + 1


def shard_sizes(names: Iterable[str], count: int) -> list[int]:
    """Return how many of some videos each shard has."""
    sizes = [0] * count
    for name in names:
        sizes[shard_number(name, count) - 1] += 1
    return sizes


def take_shard(
    shard: Shard, videos: Sequence[VideoLocation], annotations: Sequence[Annotation]
) -> tuple[list[VideoLocation], list[Annotation]]:
    """Return a shard's videos and the annotations of them; every one is in exactly one shard.

    An annotation of a missing video is in one shard, too, which reports it.

    Raises:
        AnnotationError: if two annotations of one id differ, in whatever shards they are.
    """
    annotations = without_repetitions(annotations)
    return (
        [path for path in videos if shard.holds(path.stem)],
        [each for each in annotations if shard.holds(each.video_id)],
    )


def read_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """Read i/n, or what a scheduler says in its environment: auto, auto/n.

    Raises:
        ConfigError: if it is neither, or the scheduler's numbers make no shard.
    """
    first, slash, count = text.strip().partition("/")
    if first == _AUTO and not slash:
        return _slurm_shard(environment, None)
    if not _is_number(count) or not (first == _AUTO or _is_number(first)):
        raise ConfigError(f"shard {text!r}: {_LEGAL}")
    if first != _AUTO:
        return Shard(int(first), int(count))
    if f"{_SLURM}ID" in environment:
        return _slurm_shard(environment, int(count))
    index = environment.get(_KUBERNETES, "")
    if not _is_number(index):
        raise ConfigError(
            f"shard {text!r}: neither {_SLURM}ID nor {_KUBERNETES} is set here, so this is no "
            f"Slurm array and no indexed Kubernetes job: {_LEGAL}"
        )
    if int(index) >= int(count):
        raise ConfigError(
            f"shard {text!r}: {_KUBERNETES} is {index}, so the job has more than {count} "
            "completions: give their number"
        )
    return Shard(int(index) + 1, int(count))


def _slurm_shard(environment: Mapping[str, str], count: int | None) -> Shard:
    """Return the shard of a task of a Slurm array, wherever its numbers start and step."""
    texts = [environment.get(f"{_SLURM}{name}", "") for name in ("ID", "COUNT", "MIN", "MAX")]
    texts.append(environment.get(f"{_SLURM}STEP", "1"))
    if not all(map(_is_number, texts)):
        raise ConfigError(
            f"shard {_AUTO!r}: {_SLURM}ID, _COUNT, _MIN and _MAX are not all set here, so this is "
            f"no Slurm array: {_LEGAL}"
        )
    number, found, lowest, highest, step = map(int, texts)
    step = max(1, step)
    if count not in (None, found) or (highest - lowest) // step + 1 != found:
        raise ConfigError(
            f"shard {_AUTO!r}: the array has {found} tasks numbered from {lowest} to {highest}, "
            f"which is no whole array{f' of {count}' if count else ''}: submit all of it "
            f"(--array=1-{count or found}), or give --shard ${_SLURM}ID/N with its N"
        )
    return Shard((number - lowest) // step + 1, found)


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None
