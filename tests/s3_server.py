"""An S3 service on this machine that counts what it is asked, and fails as it is told.

    with s3_server() as server:
        server.fault = lambda request: "slow down" if request.number < 3 else None
        connect(f"{server.url}/feats.zarr").read("zarr.json")
        server.count()  # {"GET": 4}

moto answers, in this process; programs that are started find it through `server.environment`.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

Kind = Literal["GET", "HEAD", "LIST", "PUT", "DELETE"]
Fault = Literal[
    "stall",  # no answer, until the server stops
    "stall in body",  # half an answer, then nothing
    "drip",  # an answer, a byte at a time
    "truncate",  # half an answer, then the connection ends
    "lost answer",  # what was asked for is done, and the connection ends without an answer
    "dropped",  # nothing is done, and the connection ends
    "slow down",
    "internal error",
    "denied",
    "no such key of yours",
    "expired token",
    "wrong clock",
    "wrong region",
    "wrong region, unnamed",
    "over quota",
    "conflict",  # a condition that is not judged now
    "no conditions",  # refuses conditional PUTs
    "deaf to conditions",  # overwrites what should be kept
    "whole instead of range",
    "too much",  # more bytes than the range, though it says it is the range
]
_REFUSALS: dict[Fault, tuple[int, str]] = {
    "slow down": (503, "SlowDown"),
    "internal error": (500, "InternalError"),
    "denied": (403, "AccessDenied"),
    "no such key of yours": (403, "InvalidAccessKeyId"),
    "expired token": (400, "ExpiredToken"),
    "wrong clock": (403, "RequestTimeTooSkewed"),
    "wrong region": (400, "AuthorizationHeaderMalformed"),
    "wrong region, unnamed": (301, "PermanentRedirect"),
    "over quota": (507, "XMinioStorageFull"),
    "conflict": (409, "ConditionalRequestConflict"),
    "no conditions": (501, "NotImplemented"),
}
_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")
_DRIP_SECONDS = 0.05
_BUCKETS = itertools.count()


@dataclass(frozen=True)
class S3Request:
    """One request: what kind, for which key (the prefix of a list), the how-manieth from 0."""

    kind: Kind
    key: str
    number: int
    is_conditional: bool


@dataclass
class S3Server:
    """A running service with one bucket, at `url`."""

    url: str
    environment: dict[str, str]
    fault: Callable[[S3Request], Fault | None] = lambda request: None
    requests: list[S3Request] = field(default_factory=list[S3Request])

    def count(self) -> dict[str, int]:
        """Return the number of requests of each kind since the last call, and forget them."""
        found = Counter(request.kind for request in self.requests)
        self.requests.clear()
        return dict(found)


@contextlib.contextmanager
def s3_server() -> Generator[S3Server]:
    """Run the service with an empty bucket of its own."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    bucket = f"bucket-{next(_BUCKETS)}"
    front = _Front(DomainDispatcherApplication(create_backend_app), bucket)
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=Handler)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    front.server.environment["AWS_ENDPOINT_URL"] = endpoint
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        make = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
        urllib.request.urlopen(make, timeout=20).close()
        front.server.requests.clear()
        yield front.server
    finally:
        front.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Front:
    """The WSGI application before moto's."""

    def __init__(self, service: Callable[..., Iterable[bytes]], bucket: str) -> None:
        self._service = service
        self._bucket = bucket
        keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
        self.server = S3Server(f"s3://{bucket}", {**keys, "AWS_REGION": "us-east-1"})
        self._numbers = itertools.count()
        self.ended = threading.Event()

    def __call__(self, environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        request = self._request(environ)
        self.server.requests.append(request)
        fault = self.server.fault(request)
        if fault is None:
            return self._service(environ, respond)
        return self._fail(fault, environ, respond)

    def _request(self, environ: WSGIEnvironment) -> S3Request:
        kind = method = environ["REQUEST_METHOD"]
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        key = environ["PATH_INFO"].removeprefix(f"/{self._bucket}").lstrip("/")
        if method == "GET" and "list-type" in query:
            kind, key = "LIST", query.get("prefix", [""])[0]
        elif method == "POST" and "delete" in query:
            kind = "DELETE"
        conditional = any(name in environ for name in _CONDITIONS)
        return S3Request(kind, key, next(self._numbers), conditional)

    def _fail(
        self, fault: Fault, environ: WSGIEnvironment, respond: StartResponse
    ) -> Iterable[bytes]:
        if fault in _REFUSALS:
            return _refuse(*_REFUSALS[fault], environ, respond)
        if fault == "deaf to conditions":
            for name in _CONDITIONS:
                environ.pop(name, None)
            return self._service(environ, respond)
        if fault == "whole instead of range":
            environ.pop("HTTP_RANGE", None)
            return self._service(environ, respond)
        if fault == "stall":
            self.ended.wait(60)
        if fault in ("stall", "dropped"):
            _take(environ)
            return _hang_up(environ)
        status, headers, body = self._answer(environ)
        if fault == "lost answer":
            return _hang_up(environ)
        if fault == "too much":
            headers["Content-Length"] = str(len(body) + 3)
            body += b"..."
        respond(status, list(headers.items()))
        return [body] if fault == "too much" else self._slowly(fault, environ, body)

    def _answer(self, environ: WSGIEnvironment) -> tuple[str, dict[str, str], bytes]:
        told: list[Any] = []

        def respond(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            told.extend((status, dict(headers)))

        body = b"".join(self._service(environ, respond))
        return told[0], told[1], body

    def _slowly(self, fault: Fault, environ: WSGIEnvironment, body: bytes) -> Iterator[bytes]:
        if fault == "drip":
            for at in range(len(body)):
                yield body[at : at + 1]
                time.sleep(_DRIP_SECONDS)
            return
        yield body[: len(body) // 2]
        if fault == "stall in body":
            self.ended.wait(60)
        yield from _hang_up(environ)


def _refuse(
    status: int, code: str, environ: WSGIEnvironment, respond: StartResponse
) -> Iterable[bytes]:
    _take(environ)
    body = f"<Error><Code>{code}</Code><Message>no</Message>"
    if status == 400:
        body += "<Region>eu-west-1</Region>"
    body += "</Error>"
    is_head = environ["REQUEST_METHOD"] == "HEAD"
    respond(
        f"{status} {http.client.responses[status]}",
        [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))],
    )
    return [] if is_head else [body.encode()]


def _take(environ: WSGIEnvironment) -> None:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _hang_up(environ: WSGIEnvironment) -> Iterable[bytes]:
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError
