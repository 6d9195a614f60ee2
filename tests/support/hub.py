"""A hub on loopback that speaks what huggingface_hub's client asks for, and fails as tests want it to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000  # bytes: larger files have an SHA-256


@dataclass
class Repository:
    """What the hub serves, and how it fails.

    Attributes:
        files: by path.
        commits: by branch or tag.
        status: of every answer, if not 200.
        code: of errors, as the hub names them in a header.
        cut: files whose transfer ends after so many bytes, every time.
        others: files that arrive with this content, whose hash the hub does not state.
        on_bytes: is called with a path while it is sent, half-way.
    """

    files: dict[str, bytes]
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    status: int = 200
    code: str = ""
    cut: dict[str, int] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)
    on_bytes: Callable[[str], None] = lambda path: None


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: for HF_ENDPOINT.
        repositories: by OWNER/NAME; the oldest also by NAME alone.
        sent: paths that were asked for, and the first byte and number of bytes that were sent.
    """

    url: str
    repositories: dict[str, Repository]
    sent: list[tuple[str, int, int]] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Files of which something was sent."""
        return [path for path, _, count in self.sent if count]


@contextlib.contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """A hub that serves these repositories."""
    hub = Hub("", repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(url: str, **others: str) -> dict[str, str]:
    """Variables for a program that uses a hub there."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return kept | {"HF_ENDPOINT": url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "5"} | others


def llmzip(url: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run llmzip with a hub there."""
    command = [sys.executable, "-m", "llmzip", *args]
    return subprocess.run(command, env=environment(url, **variables), capture_output=True, text=True, check=False)


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        if found := re.fullmatch(r"/api/models/(.+?)/revision/(.+)", path):
            self._describe(found[1], found[2])
        elif found := re.fullmatch(r"/api/models/(.+?)/tree/([^/]+)(?:/(.*))?", path):
            self._list(found[1], found[2], found[3] or "")
        elif found := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[2], found[3])
        else:
            self._error(404, "EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = re.fullmatch(r"/api/models/(.+?)/paths-info/(.+)", unquote(urlparse(self.path).path))
        repository = self._repository(found[1], found[2]) if found else None
        if repository is None:
            return
        text = body.decode()
        asked = json.loads(text)["paths"] if text.startswith("{") else [unquote(p[6:]) for p in text.split("&") if p.startswith("paths=")]
        self._json([{"type": "file", "path": p, **self._facts(repository, p)} for p in asked if p in repository.files])

    def _repository(self, name: str, revision: str) -> Repository | None:
        """The repository at a revision; None after an error was sent."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._error(401, "RepoNotFound")
        elif repository.status != 200:
            self._error(repository.status, repository.code)
        elif revision not in repository.commits and revision not in repository.commits.values():
            self._error(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _facts(self, repository: Repository, path: str) -> dict[str, object]:
        content = repository.files[path]
        facts: dict[str, object] = {"size": len(content), "oid": _git_sha1(content), "blobId": _git_sha1(content)}
        if len(content) > LARGE:
            digest = hashlib.sha256(content).hexdigest()
            facts["lfs"] = {"sha256": digest, "oid": digest, "size": len(content), "pointerSize": 130}
        return facts

    def _describe(self, name: str, revision: str) -> None:
        if repository := self._repository(name, revision):
            siblings = [{"rfilename": path, **self._facts(repository, path)} for path in repository.files]
            commit = repository.commits.get(revision, revision)
            owned = next(other for other, same in self.hub.repositories.items() if same is repository and "/" in other)
            self._json(
                {"id": owned, "sha": commit, "siblings": siblings, "cardData": {"license": "apache-2.0"}, "tags": [], "private": False}
            )

    def _list(self, name: str, revision: str, folder: str) -> None:
        """The files in a folder, without those of its subfolders."""
        if repository := self._repository(name, revision):
            here = [path for path in repository.files if path.rpartition("/")[0] == folder]
            self._json([{"type": "file", "path": path, **self._facts(repository, path)} for path in here])

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if path not in repository.files:
            self._error(404, "EntryNotFound")
            return
        content = repository.others.get(path, repository.files[path])
        first, last = 0, len(content) - 1
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(int(found[2] or last), last)
        part = content[first : last + 1]
        self.send_response(206 if self.headers.get("Range") else 200)
        stated = self._facts(repository, path)
        lfs = stated.get("lfs")
        self.send_header("ETag", f'"{lfs["oid"] if isinstance(lfs, dict) else stated["oid"]}"')
        self.send_header("X-Repo-Commit", repository.commits.get(revision, revision))
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = max(repository.cut.get(path, len(content)) - first, 0)
        half = min(len(part), cut) // 2
        with contextlib.suppress(ConnectionError):
            self.wfile.write(part[:half])
            self.wfile.flush()
            repository.on_bytes(path)
            self.wfile.write(part[half:cut])
            self.wfile.flush()
        self.hub.sent.append((path, first, min(len(part), cut)))
        if cut < len(part):
            self.close_connection = True

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
