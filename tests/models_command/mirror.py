"""A mirror of the Hugging Face hub on this computer, and the faults that one can have.

It stands for huggingface.co, which tests cannot reach: model information with checksums, `resolve` with the
headers of the hub, large files behind a redirect as the hub has them, and ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Files of this size and more are in the large file storage.
LARGE = 100_000


@dataclass
class Mirror:
    """The repositories, as files by name, and what the next answers do wrong.

    `cut_after`: each answer with content ends after so many bytes. `cuts`: so often, then no more.
    `corrupt`: files whose content has other bytes than the checksum says. `asked`: the range of each request
    for content, "" without one. `delay`: seconds before each 64 kB.
    """

    repositories: dict[str, dict[str, bytes]]
    cut_after: int | None = None
    cuts: int = 1_000_000
    corrupt: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    delay: float = 0.0
    url: str = ""


@contextmanager
def mirror(repositories: dict[str, dict[str, bytes]]) -> Iterator[Mirror]:
    """Serves the repositories."""
    served = Mirror(repositories)

    class Handler(_Handler):
        mirror = served

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        path = urlsplit(self.path).path
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.+)?", path):
            self._information(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._resolve(match[1], match[2], with_content)
        elif match := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
            self._content(match[2], self.mirror.repositories[match[1]][match[2]], {}, with_content)
        else:
            self._status(404)

    def _information(self, repository: str) -> None:
        files = self.mirror.repositories.get(repository)
        if files is None:
            self._status(404, {"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for name, content in files.items():
            sibling = {"rfilename": name, "size": len(content), "blobId": git_id(content)}
            if len(content) >= LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        self._status(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def _resolve(self, repository: str, name: str, with_content: bool) -> None:
        content = self.mirror.repositories.get(repository, {}).get(name)
        if content is None:
            self._status(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif len(content) >= LARGE:
            headers = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Location": f"{self.mirror.url}/storage/{repository}/{name}",
            }
            self._status(302, headers)
        else:
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_id(content)}"'}
            self._content(name, content, headers, with_content)

    def _content(self, name: str, content: bytes, headers: dict[str, str], with_content: bool) -> None:
        if name in self.mirror.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        status, begin = 200, 0
        if asked := self.headers.get("Range"):
            status, begin = 206, int(asked.removeprefix("bytes=").removesuffix("-"))
            headers = {**headers, "Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        headers = {**headers, "Content-Length": str(len(content) - begin)}
        if not with_content:
            self._status(status, headers)
            return
        self.mirror.asked.append(asked or "")
        body = content[begin:]
        if self.mirror.cut_after is not None and self.mirror.cuts > 0 and len(body) > self.mirror.cut_after:
            self.mirror.cuts -= 1
            body = body[: self.mirror.cut_after]
        self._status(status, headers, body)

    def _status(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Length": "0"}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for begin in range(0, len(body), 1 << 16):
                time.sleep(self.mirror.delay)
                self.wfile.write(body[begin : begin + (1 << 16)])
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True
