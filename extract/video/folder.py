"""Find the videos in a folder, by their names alone: no file is opened."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from r2t.store.errors import VideoError, VideoWarning
from r2t.store.json_lines import printable
from r2t.store.video_names import VIDEO_SUFFIXES

_MOST_NAMED = 10


def find_videos(folder: str | Path, *, follow_links: bool = False) -> list[Path]:
    """Return the videos in a folder and its subfolders, sorted; their stems are the video ids.

    Hidden files and folders are passed over. Links that lead out of the folder are named in one
    `VideoWarning`, and followed only with `follow_links`; a file that links reach again is taken
    once. Two files of one stem, or no videos at all, are a `VideoError`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VideoError(f"{printable(folder)}: there is no such folder of videos")
    leading_out: list[Path] = []
    found: dict[str, Path] = {}
    for path in sorted(_video_files(folder, leading_out, follow_links=follow_links)):
        other = found.setdefault(path.stem, path)
        if other is not path and not (follow_links and other.resolve() == path.resolve()):
            raise VideoError(
                f"{printable(other)} and {printable(path)} would both be video "
                f"{printable(path.stem)!r}: rename one"
            )
    if leading_out:
        some = ", ".join(map(printable, sorted(leading_out)[:_MOST_NAMED]))
        more = len(leading_out) - _MOST_NAMED
        warnings.warn(
            f"not followed, because they are links that lead out of {printable(folder)} "
            f"(--follow-links takes them): {some}{f' and {more} more' if more > 0 else ''}",
            VideoWarning,
            stacklevel=2,
        )
    if not found:
        raise VideoError(
            f"{printable(folder)}: it holds no videos (files ending in "
            f"{' '.join(sorted(VIDEO_SUFFIXES))})"
        )
    return list(found.values())


def _video_files(folder: Path, leading_out: list[Path], *, follow_links: bool) -> Iterator[Path]:
    """Yield the files with a video's suffix; add links that are not followed to `leading_out`."""
    root = folder.resolve()
    visited = {root}  # real folders, so that links that lead in a circle end
    waiting = [folder]
    while waiting:
        for parent, folders, files in os.walk(waiting.pop()):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(parent, name) for name in folders):
                if not path.is_symlink() or path.resolve().is_relative_to(root):
                    continue  # what a link inside the folder leads to is found at its own place
                if not follow_links:
                    leading_out.append(path)
                elif path.resolve() not in visited:
                    visited.add(path.resolve())
                    waiting.append(path)
            for path in (Path(parent, name) for name in files if not name.startswith(".")):
                if path.suffix.lower() not in VIDEO_SUFFIXES:
                    continue
                if follow_links or path.resolve().is_relative_to(root):
                    yield path
                else:
                    leading_out.append(path)
