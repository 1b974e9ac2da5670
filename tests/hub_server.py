"""A stand-in for the Hugging Face hub on this machine: what huggingface_hub asks, and faults.

Large files take the way of git-lfs (preupload, batch, PUT, commit), and are answered by a
redirection to another host, as the hub's are. It knows no xet.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants, file_download

TOKEN = "hf_standin0123456789"
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits, oldest first, each with all its files, and the names of some of them."""

    commits: list[tuple[str, Files]] = field(default_factory=list[tuple[str, Files]])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    is_private: bool = False
    is_gated: bool = False

    def find(self, revision: str) -> tuple[str, Files] | None:
        name = self.tags.get(revision, revision)
        if name == "main":
            return self.commits[-1]
        return next((each for each in self.commits if each[0] == name), None)

    def add(self, files: Files) -> str:
        commit = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits.append((commit, dict(files)))
        return commit


@dataclass
class Hub:
    """What the server holds, has been asked, and does wrong next.

    `puts_left` is how many uploads it takes before it refuses them. `cuts` is how many downloads
    break off half-way, and `gets_left` how many it answers at all. Large files are had by the
    `signature` of the moment alone.
    """

    url: str = ""
    cdn: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict[str, Repository])
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    requests: list[str] = field(default_factory=list[str])
    authorizations: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    puts_left: int | None = None
    gets_left: int | None = None
    cuts: int = 0
    signature: int = 0

    def repository(self, name: str = "datasets/org/feats") -> Repository:
        return self.repositories[name]

    def files(self, name: str = "datasets/org/feats") -> Files:
        return self.repositories[name].commits[-1][1]

    def keep(self, content: bytes) -> None:
        """Take a large file as if it had been uploaded."""
        self.objects[hashlib.sha256(content).hexdigest()] = content

    def count(self, method: str, part: str = "") -> int:
        return sum(each.startswith(f"{method} ") and part in each for each in self.requests)


def is_large(path: str) -> bool:
    return path.endswith((".zip", ".safetensors"))


_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?P<rest>/.*)?")
_RESOLVE = re.compile(
    r"/(?P<prefix>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
)
_BATCH = re.compile(r"/(?P<prefix>datasets/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _begin(self) -> str:
        self.hub.requests.append(f"{self.command} {self.path}")
        host = self.headers.get("Host", "").split(":")[0]
        if authorization := self.headers.get("Authorization"):
            self.hub.authorizations.setdefault(host, set()).add(authorization)
        return unquote(urlsplit(self.path).path)

    def do_GET(self) -> None:
        path = self._begin()
        if path.startswith("/cdn/"):
            self._object(path.removeprefix("/cdn/"))
        elif found := _API.fullmatch(path):
            self._info(
                f"{'datasets/' * (found['kind'] == 'datasets')}{found['name']}", found["rest"]
            )
        elif found := _RESOLVE.fullmatch(path):
            name = f"{found['prefix'] or ''}{found['name']}"
            self._resolve(name, found["revision"], found["path"])
        else:
            self._answer(404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = self._begin()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/validate-yaml":
            errors = (
                [] if json.loads(body)["content"].startswith("---\n") else [{"message": "none"}]
            )
            self._answer(400 if errors else 200, {"errors": errors, "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            prefix = "datasets/" if asked.get("type") == "dataset" else ""
            name = f"{prefix}{asked['organization']}/{asked['name']}"
            if name in self.hub.repositories:
                self._answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
                return
            private = asked.get("private") or asked.get("visibility") == "private"
            made = self.hub.repositories[name] = Repository(is_private=bool(private))
            made.add({".gitattributes": b"*.zip filter=lfs\n"})
            self._answer(200, {"url": f"{self.hub.url}/{name}"})
        elif found := _BATCH.fullmatch(path):
            self._batch(json.loads(body))
        elif (found := _API.fullmatch(path)) and found["rest"]:
            repository = self.hub.repositories.get(_name(found))
            if repository is None:
                self._answer(404, {"error": "Repository not found"}, error="RepoNotFound")
            elif found["rest"].startswith("/preupload/"):
                files = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if is_large(each["path"]) else "regular",
                        "shouldIgnore": b"*.zip" in repository.commits[-1][1].get(".gitignore", b"")
                        and each["path"].endswith(".zip"),
                    }
                    for each in json.loads(body)["files"]
                ]
                self._answer(200, {"files": files})
            else:
                self._commit(_name(found), repository, body)
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        path = self._begin()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.puts_left == 0:
            self._answer(400, {"error": "the storage is away"})
            return
        if self.hub.puts_left is not None:
            self.hub.puts_left -= 1
        digest = path.removeprefix("/lfs/")
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.objects[digest] = body
        self._answer(200, {})

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _batch(self, asked: dict[str, Any]) -> None:
        objects: list[dict[str, Any]] = []
        for each in asked["objects"]:
            there = each["oid"] in self.hub.objects
            upload = {"upload": {"href": f"{self.hub.cdn}/lfs/{each['oid']}"}}
            objects.append({**each} if there else {**each, "actions": upload})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repository: Repository, body: bytes) -> None:
        head, files = repository.commits[-1]
        files = dict(files)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", head) != head:
                self._answer(412, {"error": "a commit has happened since"})
                return
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.add(files)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def _permitted(self, name: str, revision: str) -> tuple[str, Files] | None:
        """Return a commit; None once it was answered why not."""
        repository = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.is_private and not known):
            self._answer(401, {"error": "Repository not found"}, error="RepoNotFound")
        elif repository.is_gated:
            self._answer(403, {"error": "Access is restricted"}, error="GatedRepo")
        elif (found := repository.find(revision)) is None:
            self._answer(404, {"error": "no such revision"}, error="RevisionNotFound")
        else:
            return found
        return None

    def _info(self, name: str, rest: str | None) -> None:
        revision = (rest or "/revision/main").removeprefix("/revision/")
        found = self._permitted(name, revision)
        if found is None:
            return
        commit, files = found
        info: dict[str, Any] = {"id": name.removeprefix("datasets/"), "_id": "1", "sha": commit}
        if "blobs" in parse_qs(urlsplit(self.path).query):
            info["siblings"] = [_sibling(path, content) for path, content in files.items()]
        self._answer(200, info)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._permitted(name, revision)
        if found is None:
            return
        commit, files = found
        content = files.get(path)
        if content is None:
            self._answer(404, {"error": "no such file"}, error="EntryNotFound")
            return
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"'}
        if not is_large(path):
            self._content(content, headers)
            return
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
        location = f"{self.hub.cdn}/cdn/{digest}?Signature={self.hub.signature}"
        self._answer(302, headers={**headers, "Location": location})

    def _object(self, digest: str) -> None:
        signed = urlsplit(self.path).query == f"Signature={self.hub.signature}"
        if self.hub.gets_left == 0 or not signed:
            self._answer(403, {"error": "the storage is away"})
            return
        if self.hub.gets_left is not None and self.command == "GET":
            self.hub.gets_left -= 1
        self._content(self.hub.objects[digest], {"ETag": f'"{digest}"'})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status = 200
        if span:
            status, start = 206, int(span[1])
            stop = min(len(content), int(span[2]) + 1) if span[2] else len(content)
            if start >= len(content):
                self._answer(416)
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
            content = content[start:stop]
        sent = content
        if self.hub.cuts and self.command == "GET":
            self.hub.cuts -= 1
            sent, self.close_connection = content[: len(content) // 2], True
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    def _answer(
        self,
        status: int,
        value: Any = None,
        *,
        headers: dict[str, str] | None = None,
        error: str = "",
    ) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        more = {"X-Error-Code": error} if error else {}
        told = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, text in {**told, **more, **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _name(found: re.Match[str]) -> str:
    return f"{'datasets/' if found['kind'] == 'datasets' else ''}{found['name']}"


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    sibling: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
    return sibling


@contextlib.contextmanager
def served_hub() -> Generator[Hub]:
    """Serve an empty hub; what it stores is served by the same server under another name."""
    hub = Hub()
    handler = type("_Of", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        port = server.server_address[1]
        hub.url, hub.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def hub_environment(hub: Hub) -> dict[str, str]:
    """Return what lets another process use the stand-in and have no other."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def use_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let this process use the stand-in, whatever huggingface_hub read when it was imported."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for module in (constants, file_download):  # which has its own before 1.0
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # since 0.34
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name, value in hub_environment(hub).items():
        monkeypatch.setenv(name, value)
