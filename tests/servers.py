"""Servers on this machine that a store is read from."""

from __future__ import annotations

import contextlib
import http.server
import io
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Nginx:
    """A running nginx: where it serves from, and what it has sent."""

    url: str
    log: Path

    def sent(self) -> tuple[int, int]:
        """Return the number of requests and the bytes of all bodies since the last call."""
        time.sleep(0.1)
        lines = self.log.read_text().split("\n")[:-1]
        self.log.write_text("")
        return len(lines), sum(int(line.split()[0]) for line in lines)


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextlib.contextmanager
def nginx(folder: Path, work: Path, *, autoindex: bool = True) -> Generator[Nginx]:
    """Serve a folder with nginx."""
    assert NGINX is not None
    work.mkdir()
    port = free_port()
    log = work / "access.log"
    temporary = "".join(
        f"{kind}_temp_path {work}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = work / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {work}/pid; error_log {work}/error.log;"
        "events {} http { log_format bytes '$body_bytes_sent $request'; "
        f"access_log {log} bytes; {temporary} "
        f"server {{ listen 127.0.0.1:{port}; root {folder}; "
        f"autoindex {'on' if autoindex else 'off'}; }} }}"
    )
    process = subprocess.Popen(
        [NGINX, "-e", str(work / "error.log"), "-c", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield Nginx(f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait()


@dataclass
class Plan:
    """What a scripted server does to the next requests: statuses to answer, then files.

    `listing` is what it answers for a folder, if it lists none; 200 comes with a page of its own.
    """

    statuses: list[int] = field(default_factory=list[int])
    cut_short: int = 0
    listing: int | None = None
    requests: list[str] = field(default_factory=list[str])


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and knows no ranges, as Python's own server; may fail as planned."""

    def __init__(self, *arguments: Any, plan: Plan, **options: Any) -> None:
        self._plan = plan
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        plan = self._plan
        plan.requests.append(self.path)
        if plan.statuses:
            self.send_error(plan.statuses.pop(0))
        elif plan.cut_short and self.path.endswith("zarr.json"):
            plan.cut_short -= 1
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"{")
        else:
            super().do_GET()

    def list_directory(self, path: Any) -> Any:
        status = self._plan.listing
        if status is None:
            return super().list_directory(path)
        if status != 200:
            return self.send_error(status)
        page = b"<html><a href='/'>welcome</a></html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        return io.BytesIO(page)

    def do_HEAD(self) -> None:
        self._plan.requests.append(self.path)
        if self._plan.statuses:
            self.send_error(self._plan.statuses.pop(0))
        else:
            super().do_HEAD()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def scripted_server(folder: Path) -> Generator[tuple[str, Plan]]:
    """Serve a folder without ranges; yield the URL and the plan to change."""
    plan = Plan()
    handler = partial(_Handler, directory=str(folder), plan=plan)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", plan
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")
