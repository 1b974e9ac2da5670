"""The videos of a report: where the page plays them from, and a strip of pictures of each."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from PIL import Image

import r2t.cli.answers
import r2t.extract.video
from r2t.cli.answers import FrameStrip
from r2t.cli.shared import note, progress_bar
from r2t.store.errors import ConfigError, VideoError
from r2t.store.wording import counted_of

URL_FIELD = "{video_id}"
FILE_POLICY = ("'self'", "file:", "blob:")  # from beside the page, or chosen by its reader
MAX_STRIP_BYTES = 24_000_000  # of all strips in a page: what a browser opens without a pause
_PICTURE_PIXELS = 96
_JPEG_QUALITY = 72


@dataclass(frozen=True)
class VideoPlace:
    """Where the videos of a report are: a folder of files, or a URL with `{video_id}` in it."""

    paths: Mapping[str, Path]
    template: str | None = None

    @classmethod
    def parse(cls, given: str | None) -> VideoPlace:
        """Read `--videos`; None means that there are none."""
        if given is None:
            return cls({})
        if "://" not in given:
            return cls({path.stem: path for path in r2t.extract.video.find_videos(given)})
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.netloc or URL_FIELD not in parts.path:
            raise ConfigError(
                f"--videos {given!r}: give a folder, or an http(s) URL with {URL_FIELD} in its "
                f"path, such as https://example.org/videos/{URL_FIELD}.mp4"
            )
        if "@" in parts.netloc:
            raise ConfigError(
                "--videos: the URL holds a user name, which everyone who gets the page could "
                "read; leave it out"
            )
        return cls({}, given)

    def source(self, video_id: str, page: Path) -> str | None:
        """Return the URL under which the page finds a video, relative if it is a file."""
        if self.template is not None:
            return self.template.replace(URL_FIELD, quote(video_id, safe=""))
        path = self.paths.get(video_id)
        return None if path is None else file_source(path, page)

    def policy(self) -> list[str]:
        """Return the sources that the page may play from."""
        if self.template is not None:
            parts = urlsplit(self.template)
            return [f"{parts.scheme}://{parts.netloc}"]
        return list(FILE_POLICY) if self.paths else []


def file_source(path: Path, page: Path) -> str:
    """Return a file's URL, relative to the page, or its bare name where that would reveal too much.

    A relative path that climbs to the root, or to the folder of home directories, spells out an
    absolute one. A page with a bare name finds the file beside itself, or asks its reader for it.
    """
    path, folder = path.resolve(), page.resolve().parent
    try:
        shared = Path(os.path.commonpath([path, folder]))
    except ValueError:  # on another drive
        return quote(os.fsencode(path.name))
    home = Path(os.path.expanduser("~")).resolve()
    if shared in (Path(shared.anchor), *home.parents):
        return quote(os.fsencode(path.name))
    return quote(os.fsencode(Path(os.path.relpath(path, folder)).as_posix()))


def note_bare_names(videos: Iterable[Path], page: Path) -> None:
    """Say so if a page names videos that do not lie beside it."""
    folder = page.resolve().parent
    if any(
        file_source(each, page) == quote(os.fsencode(each.name))
        for each in videos
        if each.resolve().parent != folder
    ):
        note(
            f"note: {page.name} holds no path of this machine, so it cannot know where the videos "
            "are: it asks for a file when one is played, or finds those that lie beside it"
        )


def strip_image(strip: FrameStrip) -> bytes:
    """Lay pictures side by side in one small JPEG."""
    pictures = [
        Image.fromarray(picture).resize((_PICTURE_PIXELS, _PICTURE_PIXELS))
        for picture in strip.pictures
    ]
    joined = Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures], axis=1))
    content = io.BytesIO()
    joined.save(content, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return content.getvalue()


def data_url(jpeg: bytes) -> str:
    """Write a picture as a URL that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def video_entries(
    durations: Mapping[str, float], place: VideoPlace, page: Path
) -> tuple[dict[str, Any], list[str]]:
    """Describe videos for the page, and name those that a folder lacks or whose pictures failed.

    Pictures stop once all together reach `MAX_STRIP_BYTES`, which is noted.
    """
    entries: dict[str, Any] = {}
    failed: list[str] = []
    num_bytes = num_strips = 0
    with (
        r2t.extract.video.DecodePool() as pool,
        progress_bar("pictures", len(durations)) as show_done,
    ):
        for done, (video_id, seconds) in enumerate(durations.items(), start=1):
            entry: dict[str, Any] = {"seconds": round(seconds, 3)}
            if (source := place.source(video_id, page)) is not None:
                entry["source"] = source
            path = place.paths.get(video_id)
            if path is None and place.paths:
                failed.append(f"{video_id}: not in the folder")
            if path is not None and num_bytes < MAX_STRIP_BYTES:
                try:
                    jpeg = strip_image(r2t.cli.answers.draw_frame_strip(pool, path, seconds))
                except VideoError as error:
                    failed.append(str(error))
                else:
                    entry["strip"] = data_url(jpeg)
                    num_bytes += len(jpeg)
                    num_strips += 1
            entries[video_id] = entry
            show_done(done, len(durations))
    left_out = len(place.paths.keys() & durations.keys()) - num_strips - len(failed)
    if num_bytes >= MAX_STRIP_BYTES and left_out > 0:
        note(
            f"note: pictures of {counted_of(num_strips, len(durations), 'video')}: together they "
            f"may take {MAX_STRIP_BYTES / 1e6:.0f} MB of a page"
        )
    return entries, failed
