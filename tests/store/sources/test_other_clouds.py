"""What Google Cloud Storage and Azure are asked: the conditions of a PUT in their own words."""

from __future__ import annotations

import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from r2t.store.errors import ServerError
from r2t.store.sources import connect

CONTENT = b"0123456789"
Heard = list[tuple[str, str, dict[str, str]]]


@pytest.fixture(scope="module")
def heard() -> Generator[Heard]:
    """A service that holds one object under every key, takes every PUT and lists nothing."""
    requests: Heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.rfile.read(int(headers.get("content-length", 0)))
            requests.append((self.command, self.path, headers))
            body, status = CONTENT, 206 if "range" in headers else 200
            if self.command == "PUT":
                body, status = b"", 201
            elif "list" in self.path:
                body, status = b"<Error><Code>ContainerNotFound</Code></Error>", 404
            elif "moved" in self.path:
                body, status = b"", 301 if self.command == "HEAD" else 307
            self.send_response(status)
            self.send_header("ETag", '"tag"')
            self.send_header("x-goog-generation", "42")
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 10:22:04 GMT")
            self.send_header("Content-Range", "bytes 0-9/10")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_PUT = do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        for name, value in {
            "GOOGLE_BASE_URL": url,
            "GOOGLE_BEARER_TOKEN": "token",
            "AZURE_STORAGE_ENDPOINT": url,
            "AZURE_STORAGE_ACCOUNT_NAME": "mine",
            "AZURE_SKIP_SIGNATURE": "true",
        }.items():
            patch.setenv(name, value)
        yield requests
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "create", "replace"),
    [
        (
            "gs://bucket/feats.zarr",
            ("x-goog-if-generation-match", "0"),
            ("x-goog-if-generation-match", "42"),
        ),
        ("az://container/feats.zarr", ("if-none-match", "*"), ("if-match", '"tag"')),
        (
            "abfs://container@mine.dfs.core.windows.net/feats.zarr",
            ("if-none-match", "*"),
            ("if-match", '"tag"'),
        ),
    ],
)
def test_ranges_and_conditions(
    heard: Heard, url: str, create: tuple[str, str], replace: tuple[str, str]
) -> None:
    bucket = connect(url)
    assert bucket.read("k", 0, 10) == CONTENT
    assert heard[-1][2]["range"] == "bytes=0-9"
    assert bucket.create("k", b"1")
    assert create in heard[-1][2].items()
    seen = bucket.look("k")
    assert seen is not None
    assert seen.num_bytes == 10
    assert bucket.replace("k", b"2", seen)
    assert replace in heard[-1][2].items()
    with pytest.raises(ServerError, match="there is no such bucket"):
        bucket.names("")


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("gs://bucket/moved", r"GOOGLE_BASE_URL if it is set$"),
        ("az://container/moved", r"account's name, and AZURE_STORAGE_ENDPOINT if it is set$"),
    ],
)
def test_a_redirection_is_no_matter_of_regions(url: str, advice: str) -> None:
    """Amazon alone answers so where a bucket is in another region."""
    for ask in (lambda: connect(url).read("x"), lambda: connect(url).look("x")):
        with pytest.raises(ServerError, match=advice) as caught:
            ask()
        assert "AWS" not in str(caught.value)
        assert "region" not in str(caught.value)
