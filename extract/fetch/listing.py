"""Which videos a URL or a list of URLs names.

A list that was fetched may only name what its own server could have sent in its place: names
beside it, and URLs of its own kind. One on this machine is the user's own, and may name any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from r2t.extract.fetch.remote_video import RemoteVideo, shown_url, without_secrets
from r2t.store.errors import StoreError, VideoError
from r2t.store.files import explain, read_plain
from r2t.store.json_lines import numbered_lines, printable
from r2t.store.sources import FileFacts, connect, escaped_url, is_bucket, is_url, move_file
from r2t.store.video_names import VIDEO_SUFFIXES

MOST_LIST_BYTES = 2**28
_LIST = ".txt"
_IN_NO_URL = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")  # keys in buckets have all others
_LEGAL = (
    "give a folder in a bucket (s3://, gs://, az://), the URL of a video (http://, https://, or in "
    "a bucket), or that of a list of URLs, one a line, which ends in .txt"
)


def is_listing(given: str) -> bool:
    """Whether `--videos` names videos elsewhere: it is a URL, or a file of URLs."""
    return is_url(given) or Path(given).suffix.lower() == _LIST


def list_videos(given: str) -> list[RemoteVideo]:
    """Return the videos that a URL or a file of URLs names, in order; their stems are the ids.

    For a folder in a bucket these are the files with a video's suffix, in subfolders too, except
    hidden ones. Only lists are read, no videos.

    Raises:
        VideoError: if it names no video, two of one id, or one that may not be fetched.
        StoreError: if a server fails.
    """
    videos = list(_found(given))
    if not videos:
        raise VideoError(f"{printable(_shown(given))}: it names no videos")
    by_stem: dict[str, RemoteVideo] = {}
    for video in videos:
        other = by_stem.setdefault(video.stem, video)
        if other.url != video.url:
            raise VideoError(
                f"{printable(str(other))} and {printable(str(video))} would both be video "
                f"{printable(video.stem)!r}: leave one out, or extract them into two stores"
            )
    return list(by_stem.values())


def _found(given: str) -> Iterator[RemoteVideo]:
    if not is_url(given):
        yield from _of_list(given, _read_file(given), _own_url)
        return
    given = _require_legal(given)
    suffix = Path(_path(given)).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        yield RemoteVideo(given, given)
    elif suffix == _LIST:
        yield from _of_list(given, _fetch_list(given), lambda line: _beside(given, line), given)
    elif is_bucket(given):
        yield from _of_bucket(given)
    else:
        raise VideoError(f"{printable(shown_url(given))}: {_LEGAL}")


def _of_bucket(folder: str) -> Iterator[RemoteVideo]:
    bucket = connect(folder)
    for key, found in sorted(bucket.objects_below("").items()):
        hidden = any(part.startswith(".") for part in key.split("/"))
        if not hidden and Path(key).suffix.lower() in VIDEO_SUFFIXES:
            yield RemoteVideo(f"{bucket.location}/{key}", folder, found.num_bytes)


def _of_list(
    place: str, content: bytes, url_of: Callable[[str], str], asked: str | None = None
) -> Iterator[RemoteVideo]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VideoError(
            f"{printable(_shown(place))}: is no list of URLs in UTF-8; save it as such"
        ) from error
    for number, line in numbered_lines(text.replace("\r\n", "\n").replace("\r", "\n")):
        line = line.lstrip("\ufeff").strip()  # each of several lists that were joined may have one
        if not line or line.startswith("#"):
            continue
        try:
            if _IN_NO_URL.search(line):
                raise VideoError(f"{printable(line)!r} has characters that are in no URL")
            url = url_of(line)
            yield RemoteVideo(url, asked or url)
        except VideoError as error:
            raise VideoError(f"{printable(_shown(place))}, line {number}: {error}") from error


def _own_url(line: str) -> str:
    if not is_url(line):
        raise VideoError(f"{printable(line)!r} is no URL; a folder of files is given as such")
    return _require_legal(line)


def _beside(place: str, line: str) -> str:
    """Return the URL that a line of a fetched list means; raise `VideoError` if it may not."""
    if is_bucket(place):
        return _beside_in_bucket(place, line)
    try:
        url = escaped_url(urljoin(place, line))
    except ValueError as error:
        raise VideoError(f"{printable(shown_url(line))!r} is no URL: {error}") from error
    legal = ("https",) if urlsplit(place).scheme == "https" else ("http", "https")
    if not _is_web(url, legal):
        raise VideoError(
            f"{printable(shown_url(url))}: a list that came over {legal[0]} may name "
            f"{' and '.join(legal)} URLs alone; save it here and give the file if you trust it"
        )
    return url


def _beside_in_bucket(place: str, line: str) -> str:
    bucket = "/".join(place.split("/")[:3]) + "/"
    url = line if is_url(line) else f"{place.rpartition('/')[0]}/{line}"
    if not url.startswith(bucket) or ".." in url.split("/"):
        raise VideoError(
            f"{printable(shown_url(url))}: a list in a bucket may name objects of that bucket "
            "alone; save it here and give the file if you trust it"
        )
    return url


def _require_legal(url: str) -> str:
    """Return a URL as it is asked for; raise `VideoError` unless videos are fetched from such."""
    url = url.strip()
    if is_bucket(url):
        return url.rstrip("/")
    if not _is_web(url):
        raise VideoError(f"{printable(shown_url(url))}: {_LEGAL}")
    return escaped_url(url)


def _is_web(url: str, legal: Sequence[str] = ("http", "https")) -> bool:
    """Whether a URL is one of http or https with a host, and a port if any."""
    try:
        parts = urlsplit(url)
        return parts.scheme in legal and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _path(url: str) -> str:
    return url if is_bucket(url) else urlsplit(url).path


def _shown(given: str) -> str:
    return shown_url(given) if is_url(given) else given


def _read_file(path: str) -> bytes:
    try:
        return read_plain(path, MOST_LIST_BYTES)
    except OSError as error:
        raise VideoError(f"--videos {printable(path)}: {explain(error)}") from error


class _ListReceiver:
    def __init__(self, url: str) -> None:
        self._url = url
        self.content = bytearray()

    def begin(self, facts: FileFacts, start: int) -> None:
        if facts.content_type == "text/html":
            raise VideoError(f"{shown_url(self._url)}: the server sends a page, not a list")
        del self.content[start:]

    def keep(self, piece: bytes) -> None:
        self.content += piece
        if len(self.content) > MOST_LIST_BYTES:
            raise VideoError(f"{shown_url(self._url)}: the list is over {MOST_LIST_BYTES:,} bytes")


def _fetch_list(url: str) -> bytes:
    receiver = _ListReceiver(url)
    try:
        if not move_file(url, receiver, asked=url):
            raise VideoError(f"{shown_url(url)}: there is no such list")
    except StoreError as error:
        raise type(error)(without_secrets(str(error), url)) from error
    return bytes(receiver.content)
