"""Servers that are silent, slow, or send requests elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fsspec.config
import pytest

from r2t.store.errors import ServerError, ServerWarning
from r2t.store.sources import http, redirects, retries
from r2t.store.sources.remote import file_system_of, open_folder

BODY = b'{"zarr_format": 3}'
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(answer: Answer, host: str = "127.0.0.1") -> Generator[str]:
    """Answer each request with a function; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def head(request: BaseHTTPRequestHandler, status: int, **headers: object) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()


def whole(request: BaseHTTPRequestHandler) -> None:
    head(request, 200, Content_Length=len(BODY))
    request.wfile.write(BODY)


def redirect(target: str) -> Answer:
    return lambda request: head(request, 302, Location=target, Content_Length=0)


def test_a_silent_server_is_given_up_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    ended = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        ended.wait(20)

    with serving(wait) as url:
        with (
            pytest.warns(ServerWarning, match=r"127\.0\.0\.1 does not answer; asked again"),
            pytest.raises(ServerError, match=r"after 3 attempts: .*sent nothing for"),
        ):
            open_folder(url).read("zarr.json")
        ended.set()


def test_a_slow_server_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_SECONDS", 1.0)

    def slowly(request: BaseHTTPRequestHandler) -> None:
        head(request, 200, Content_Length=len(BODY))
        for byte in BODY:
            time.sleep(0.08)
            request.wfile.write(bytes([byte]))

    began = time.monotonic()
    with serving(slowly) as url:
        assert open_folder(url).read("zarr.json") == BODY
    assert time.monotonic() - began > http.IDLE_SECONDS  # longer than nothing may come


def test_credentials_stay_with_the_server_and_the_other_is_named_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = {"headers": {"X-Token": "secret"}, "client_kwargs": {"headers": {"X-Key": "secret"}}}
    monkeypatch.setitem(fsspec.config.conf, "http", secrets)
    heard: dict[str, list[bool]] = {"first": [], "other": []}

    def hear(who: str, answer: Answer) -> Answer:
        def told(request: BaseHTTPRequestHandler) -> None:
            heard[who].append("secret" in str(request.headers))
            answer(request)

        return told

    with serving(hear("other", whole)) as other:
        elsewhere = other.replace("127.0.0.1", "localhost")
        with serving(hear("first", redirect(f"{elsewhere}/x%20y"))) as first:
            folder = open_folder(first)
            with pytest.warns(ServerWarning, match="redirects requests to localhost") as told:
                found = [(folder.read("zarr.json"), folder.size("zarr.json")) for _ in range(2)]
    assert found == [(BODY, len(BODY))] * 2
    assert len(told) == 1
    assert all(heard["first"])
    assert heard["other"]
    assert not any(heard["other"])


def test_only_an_address_that_answers_is_kept() -> None:
    heard: list[str] = []

    def refuse(request: BaseHTTPRequestHandler) -> None:
        heard.append(request.path)
        head(request, 403 if len(heard) < 3 else 200, Content_Length=0)

    with serving(refuse) as other, serving(redirect(f"{other}/x")) as first:
        client = http.HttpClient(file_system_of(first)[0], first, keeps_redirects=True)
        for _ in range(2):
            with pytest.raises(PermissionError):
                client.get(f"{first}/y", None)
        assert client.get(f"{first}/y", None) == b""
    assert heard == ["/x"] * 3


def test_a_redirection_in_a_circle_ends() -> None:
    with serving(redirect("/again")) as url, pytest.raises(ServerError, match="more than 5 times"):
        open_folder(url).read("zarr.json")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_public_server_cannot_send_us_to_a_private_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redirects, "_is_public", lambda address: address == "127.0.0.2")
    asked: list[str] = []

    def note(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        whole(request)

    with serving(note) as private:
        target = private.replace("127.0.0.1", name)
        with (
            serving(redirect(target), "127.0.0.2") as public,
            pytest.warns(ServerWarning, match=name),
            pytest.raises(ServerError, match=rf"to {name} at .*, which is a private address"),
        ):
            open_folder(public).read("zarr.json")
    assert asked == []
