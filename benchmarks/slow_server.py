"""A server of files on this machine that takes its time, over http and as an S3 bucket.

It answers GET and HEAD with ranges, and S3's listing of one folder, each after a pause, and counts
what it was asked for. It knows no credentials and writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import urlopen
from xml.sax.saxutils import escape

BUCKET = "bucket"
ARRAYS = "texts|numbers|offsets|tokens|moments|saliency|embedding"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class SlowServer:
    """Files below a folder; everything is answered `latency_seconds` after it was asked for."""

    folder: Path
    latency_seconds: float
    asked: Counter[str] = field(default_factory=Counter[str])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until the client closes it."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ")
                fields = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines[1:])
                }
                status, headers, body = self._answer(method, target, fields.get("range", ""))
                if target != "/counts":
                    await asyncio.sleep(self.latency_seconds)
                headers = {"Content-Length": str(len(body)), **headers}
                text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {status} -\r\n{text}\r\n".encode())
                writer.write(b"" if method == "HEAD" else body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, target: str, span: str) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(target)
        path = unquote(parts.path).strip("/").removeprefix(BUCKET).strip("/")
        asked = parse_qs(parts.query)
        if target == "/counts":
            counts, self.asked = self.asked, Counter()
            return 200, {}, json.dumps(counts).encode()
        if "list-type" in asked:
            self.asked["list"] += 1
            return 200, {"Content-Type": "application/xml"}, self._listed(asked)
        found = re.search(rf"/({ARRAYS})/", path)
        kind = found[1] if found else "zarr.json" if path.endswith("zarr.json") else "other"
        if "parts" in path and kind == "zarr.json":
            kind = "zarr.json of parts"
        self.asked[f"{method} {kind}"] += 1
        file = self.folder / path
        if not file.is_file():
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        size = file.stat().st_size
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{size}"'}
        headers["Last-Modified"] = "Thu, 01 Jan 2026 00:00:00 GMT"
        if method == "HEAD":
            return 200, {**headers, "Content-Length": str(size)}, b""
        if not (wanted := _RANGE.match(span)):
            return 200, headers, file.read_bytes()
        start, stop = int(wanted[1]), min(int(wanted[2] or size) + 1, size)
        if start >= size:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        with open(file, "rb") as opened:
            opened.seek(start)
            return 206, headers, opened.read(stop - start)

    def _listed(self, asked: dict[str, list[str]]) -> bytes:
        """List one folder, a thousand names at a time, as S3 does."""
        prefix = asked.get("prefix", [""])[0]
        after = asked.get("continuation-token", asked.get("start-after", [""]))[0]
        folder = self.folder / prefix
        names = sorted(os.listdir(folder)) if prefix.endswith("/") and folder.is_dir() else []
        left = [name for name in names if name > after]
        page = left[:1000]
        found = ""
        for name in page:
            if (folder / name).is_dir():
                place = escape(f"{prefix}{name}/")
                found += f"<CommonPrefixes><Prefix>{place}</Prefix></CommonPrefixes>"
            else:
                size = (folder / name).stat().st_size
                found += (
                    f"<Contents><Key>{escape(prefix + name)}</Key><Size>{size}</Size>"
                    f'<ETag>"{size}"</ETag>'
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        more = len(left) > len(page)
        token = f"<NextContinuationToken>{quote(page[-1])}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(page)}</KeyCount><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{found}</ListBucketResult>"
        ).encode()


@dataclass(frozen=True)
class Address:
    """Where a slow server listens."""

    port: int

    @property
    def url(self) -> str:
        """The server over http."""
        return f"http://127.0.0.1:{self.port}"

    def counts(self) -> dict[str, int]:
        """Return how often it was asked for what since the last call."""
        with urlopen(f"{self.url}/counts") as answer:
            return json.load(answer)


@contextmanager
def slow_server(folder: Path, latency_seconds: float) -> Generator[Address]:
    """Serve a folder from a process of its own."""
    command = [sys.executable, __file__, str(folder), "--latency", str(latency_seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Address(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()


async def _main(folder: Path, latency_seconds: float) -> None:
    server = await asyncio.start_server(SlowServer(folder, latency_seconds).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.02)
    given = parser.parse_args()
    asyncio.run(_main(given.folder, given.latency))
