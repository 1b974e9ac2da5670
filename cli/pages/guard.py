"""What the page of `r2t serve` refuses: requests from other pages, and too many uploads."""

from __future__ import annotations

from typing import Any

from r2t.cli.pages.uploads import Uploads
from r2t.cli.shared import human_bytes

READING = ("GET", "HEAD", "OPTIONS")
FOREIGN_SITES = (b"cross-site", b"same-site")  # the latter is another port of this machine


class OriginMiddleware:
    """Refuses what a browser sends on behalf of another page, which might upload or ask."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request as ASGI wants it."""
        if scope["type"] == "http" and _is_foreign(scope):
            await _refuse(send, 403, "this page takes no requests from other pages")
        else:
            await self._app(scope, receive, send)


class UploadLimitMiddleware:
    """Refuses an upload that would take all of them together over their limit."""

    def __init__(self, app: Any, uploads: Uploads, max_bytes: int) -> None:
        self._app = app
        self._uploads = uploads
        self._max_bytes = max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request as ASGI wants it."""
        if scope["type"] != "http" or scope["method"] in READING or not _is_upload(scope):
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            await _refuse(send, 411, "an upload must say how long it is")
        elif not self._uploads.begin(int(length)):
            await _refuse(
                send,
                413,
                f"all videos together may take {human_bytes(self._max_bytes)}: close one in "
                "another page, or wait a few minutes",
            )
        else:
            try:
                await self._app(scope, receive, send)
            finally:
                self._uploads.end(int(length))


def _is_foreign(scope: Any) -> bool:
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is not None and origin != b"http://" + headers.get(b"host", b""):
        return True
    return scope["method"] not in READING and headers.get(b"sec-fetch-site") in FOREIGN_SITES


def _is_upload(scope: Any) -> bool:
    return scope["path"].rstrip("/").endswith("/upload")


async def _refuse(send: Any, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
