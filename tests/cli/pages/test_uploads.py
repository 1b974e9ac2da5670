"""Uploads of `r2t serve`: when a file goes, how much may lie there, and who may send anything."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2t.cli.pages.guard import OriginMiddleware, UploadLimitMiddleware
from r2t.cli.pages.uploads import UNUSED_SECONDS, Uploads


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., Path]:
    """Write a file as Gradio would: equal files have one path."""

    def write(name: str = "dog.mp4", num_bytes: int = 10) -> Path:
        path = tmp_path / "hash" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * num_bytes)
        return path

    return write


def test_a_file_of_two_pages_goes_with_the_last(
    upload: Callable[..., Path], tmp_path: Path
) -> None:
    uploads, path = Uploads(tmp_path, max_bytes=100), upload()
    uploads.show("one", path)
    uploads.show("two", path)
    assert uploads.release("one") is None
    assert path.exists()
    assert uploads.release("two") == path
    assert not path.exists()
    assert uploads.release("two") is None


def test_a_file_that_another_page_has_just_uploaded_stays(
    upload: Callable[..., Path], tmp_path: Path
) -> None:
    uploads, path = Uploads(tmp_path, max_bytes=100), upload()
    uploads.show("one", path)
    os.utime(upload(), ns=(1, 1))  # by the page that is about to show it
    assert uploads.release("one") is None
    assert path.exists()


def test_what_nobody_shows_is_removed_in_minutes(
    upload: Callable[..., Path], tmp_path: Path
) -> None:
    uploads = Uploads(tmp_path, max_bytes=100)
    shown, left, new = (upload(name) for name in ("shown", "left", "new"))
    uploads.show("one", shown)
    uploads.show("two", left)
    uploads.leave("two")
    written = shown.stat().st_mtime
    os.utime(new, (written + UNUSED_SECONDS, written + UNUSED_SECONDS))
    uploads.sweep(written + UNUSED_SECONDS - 1)
    assert left.exists()
    uploads.sweep(written + UNUSED_SECONDS + 1)
    assert [path.exists() for path in (shown, left, new)] == [True, False, True]


def answer(app: Any, method: str, path: str, **headers: str) -> tuple[int, str]:
    """Send one request through ASGI and return its status and text."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    names = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    scope = {"type": "http", "method": method, "path": path, "headers": list(names.items())}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[-1]["body"].decode()


async def welcome(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"welcome"})


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 200),  # no browser
        ("POST", {"origin": "http://localhost:7860"}, 200),
        ("POST", {"origin": "http://localhost:7860", "sec_fetch_site": "same-origin"}, 200),
        ("POST", {"origin": "https://example.org"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"origin": "http://localhost:9000"}, 403),
        ("POST", {"sec_fetch_site": "cross-site"}, 403),
        ("GET", {"origin": "https://example.org"}, 403),
        ("GET", {"sec_fetch_site": "cross-site"}, 200),  # somebody followed a link
    ],
)
def test_other_pages_are_refused(method: str, headers: dict[str, str], status: int) -> None:
    app = OriginMiddleware(welcome)
    assert answer(app, method, "/upload", host="localhost:7860", **headers)[0] == status


def test_all_uploads_together_are_limited(upload: Callable[..., Path], tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_bytes=100)
    app = UploadLimitMiddleware(welcome, uploads, 100)
    upload("first", 60)
    assert answer(app, "POST", "/gradio_api/upload", content_length="40")[0] == 200
    status, text = answer(app, "POST", "/gradio_api/upload", content_length="41")
    assert (status, "100 B" in text) == (413, True)
    assert answer(app, "POST", "/gradio_api/upload")[0] == 411
    assert answer(app, "POST", "/gradio_api/queue/join", content_length="41")[0] == 200
    assert uploads.begin(30)  # one that still arrives counts too
    assert answer(app, "POST", "/gradio_api/upload", content_length="20")[0] == 413
    uploads.end(30)
    assert answer(app, "POST", "/gradio_api/upload", content_length="20")[0] == 200
