"""A video behind a URL: its name, and its URL without what others must not see."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from r2t.store.errors import VideoError
from r2t.store.json_lines import is_utf8, printable
from r2t.store.sources import is_bucket

_SECRETS = re.compile(
    r"(?<=://)[^/\s@?#]*@"  # user and password
    r"|(?<=\S)[?#][^\s'\"]*?(?=[:,;)'\"]*(?:\s|$))"  # query, which may be a signature
)
_SERVER = re.compile(r"([^:/]+://)(?:[^/?#]*@)?([^/?#]*)")
_URL = re.compile(r"https?://\S+", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteVideo:
    """A video behind a URL; like a path it has a `name` and a `stem`.

    `asked` is the URL that a person gave: the same one, or where it was listed. Both may hold
    credentials, so that only `str` of a video, which leaves them out, is for people and records.

    Raises:
        VideoError: if the URL's last part can be no file's name.
    """

    url: str = field(repr=False)
    asked: str = field(repr=False)
    num_bytes: int | None = None
    name: str = field(init=False)

    def __post_init__(self) -> None:
        name = file_name(self.url)
        if not name or name in (".", "..") or not is_utf8(name) or re.search(r"[/\\\0]", name):
            raise VideoError(
                f"{printable(shown_url(self.url))}: its last part is no file name, of which "
                "the video's id is made"
            )
        object.__setattr__(self, "name", name)

    def __str__(self) -> str:
        return shown_url(self.url)

    @property
    def stem(self) -> str:
        """The name without its suffix: the video's id."""
        return PurePosixPath(self.name).stem


VideoLocation = Path | RemoteVideo
"""Where a video is: on this machine, or behind a URL."""


def file_name(url: str) -> str:
    """Return the last part of a URL's path; keys in buckets are taken as they are."""
    if is_bucket(url):
        return url.rpartition("/")[2]
    return unquote(urlsplit(url).path.rpartition("/")[2], errors="surrogateescape")


def server_name(url: str) -> str:
    """Return whom a URL asks, as people may see it: a host, with its port if any, or a bucket."""
    found = _SERVER.match(url)
    return f"{found[1]}{found[2]}".lower() if found else shown_url(url)


def shown_url(url: str) -> str:
    """Return a URL as people may see it: without user, password, query and fragment."""
    if is_bucket(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # its host is none; who reads it needs to see what was given
        return _SECRETS.sub("", url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_secrets(text: str, url: str) -> str:
    """Return what was said of a URL, and of others that it led to, as people may see it."""
    text = text.replace(url, shown_url(url))
    return _URL.sub(lambda found: _SECRETS.sub("", found[0]), text)
