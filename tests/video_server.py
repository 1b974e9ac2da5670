"""A server of videos that fails in every way it is asked to, by the first folder of the path."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PAGE = b"<!DOCTYPE html><html>please log in</html>"


@dataclass
class Served:
    """What is served under any folder, by name, and what was asked for so far: (path, Range).

    With `taken`, half a file is cut off only when that says that some of it has arrived.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    requests: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    taken: threading.Event | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, served: Served) -> None:
        self._served = served
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self._served.requests.append((self.path, self.headers.get("Range", "")))
        _, way, *_, name = path.split("/")
        content = self._served.files.get(name)
        if content is None:
            self.send_error(404)
            return
        with contextlib.suppress(OSError):  # who asked may be gone
            getattr(self, f"send_{way}")(content)

    def send_whole(self, content: bytes) -> None:
        self._head(200, Content_Length=len(content))
        self.wfile.write(content)

    def send_unsized(self, content: bytes) -> None:
        self._head(200)
        self.wfile.write(content)

    def send_cut(self, content: bytes) -> None:
        """Send half, then what is asked for from there on."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        given = self.headers.get("Range", "")
        if given and self.headers.get("If-Range") == etag:
            start = int(given.removeprefix("bytes=").removesuffix("-"))
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._head(206, Content_Length=len(content) - start, Content_Range=span, ETag=etag)
            self.wfile.write(content[start:])
            return
        self._head(200, Content_Length=len(content), ETag=etag)
        whole = len([path for path, _ in self._served.requests if path == self.path]) > 1
        self._write_until_taken(content if whole else content[: len(content) // 2])

    def send_replaced(self, content: bytes) -> None:
        """Send half of one file, then another one."""
        first = not any(path == self.path for path, _ in self._served.requests[:-1])
        self._head(200, Content_Length=len(content), ETag='"1"' if first else '"2"')
        self._write_until_taken(b"0" * (len(content) // 2) if first else content)

    def send_mixed(self, content: bytes) -> None:
        """Send half of one file, then the rest of another one, whatever `If-Range` says."""
        self._send_part(content, shift=0, tag="2")

    def send_gap(self, content: bytes) -> None:
        """Send half, then another part than was asked for."""
        self._send_part(content, shift=1000, tag="1")

    def _send_part(self, content: bytes, *, shift: int, tag: str) -> None:
        given = self.headers.get("Range", "")
        num_before = sum(path == self.path for path, _ in self._served.requests) - 1
        if given:
            start = int(given.removeprefix("bytes=").removesuffix("-")) + shift
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            rest = len(content) - start
            self._head(206, Content_Length=rest, Content_Range=span, ETag=f'"{tag}"')
            self.wfile.write(content[start:])
            return
        self._head(200, Content_Length=len(content), ETag='"1"' if num_before == 0 else f'"{tag}"')
        self._write_until_taken(content if num_before else b"0" * (len(content) // 2))

    def send_tail(self, content: bytes) -> None:
        span = f"bytes 1000-{len(content) - 1}/{len(content)}"
        self._head(206, Content_Length=len(content) - 1000, Content_Range=span)
        self.wfile.write(content[1000:])

    def send_never(self, _: bytes) -> None:
        self._head(416, Content_Length=0)

    def send_always(self, content: bytes) -> None:
        """Send half, as of a file that is another one each time."""
        self._head(200, Content_Length=len(content), ETag=f'"{len(self._served.requests)}"')
        self._write_until_taken(content[: len(content) // 2])

    def send_short(self, content: bytes) -> None:
        self._head(200, Content_Length=2 * len(content))
        self.wfile.write(content)

    def send_stalled(self, content: bytes) -> None:
        self._head(200, Content_Length=len(content))
        self.wfile.write(content[:10])
        self.wfile.flush()
        self._served.ended.wait(20)

    def send_dripping(self, content: bytes) -> None:
        self._head(200, Content_Length=len(content))
        for number in range(len(content)):
            self.wfile.write(content[number : number + 1])
            self.wfile.flush()
            if self._served.ended.wait(0.02):
                return

    def send_endless(self, content: bytes) -> None:
        self._head(200)
        while not self._served.ended.is_set():
            self.wfile.write(content)

    def send_page(self, _: bytes) -> None:
        self._head(200, Content_Type="text/html; charset=utf-8", Content_Length=len(PAGE))
        self.wfile.write(PAGE)

    def send_disguised(self, _: bytes) -> None:
        self._head(200, Content_Type="video/mp4", Content_Length=len(PAGE))
        self.wfile.write(PAGE)

    def send_busy(self, _: bytes) -> None:
        self.send_error(503)

    def send_refused(self, _: bytes) -> None:
        self.send_error(403)

    def send_elsewhere(self, _: bytes) -> None:
        self._head(302, Location=f"{self._served.url}{self.path.replace('elsewhere', 'whole')}")

    def send_round(self, _: bytes) -> None:
        self._head(302, Location=self.path)

    def send_downhill(self, _: bytes) -> None:
        self._head(302, Location="file:///etc/passwd")

    def _write_until_taken(self, content: bytes) -> None:
        self.wfile.write(content)
        self.wfile.flush()
        if self._served.taken is not None:
            self._served.taken.wait(20)

    def _head(self, status: int, **headers: object) -> None:
        if self._served.taken is not None:
            self._served.taken.clear()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def video_server(*paths: Path) -> Generator[Served]:
    """Serve files under every folder that names a way to serve them, such as /whole/dog.mp4."""
    served = Served(files={path.name: path.read_bytes() for path in paths})
    handler = partial(_Handler, served=served)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            served.ended.set()
            server.shutdown()
            thread.join()
