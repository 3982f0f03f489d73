"""HTTP requests from a host or from this computer, each on a connection of its own."""

import asyncio
import io
import json
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from types import SimpleNamespace
from typing import Any

from infra.doctor.host_access import HostAccess, NoAnswer, Stream, dial_from_here
from infra.stack.hosts import bracketed

#: Seconds for an answer that needs no inference.
ANSWER_SECONDS = 5.0
_LONGEST = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace").strip()

    def json(self) -> Any:
        """The body as JSON. Raises NoAnswer for any other."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise NoAnswer(f"HTTP {self.status}, but not JSON: {self.text[:200]!r}") from None

    @property
    def reason(self) -> str:
        """The status and the reason: the service's message, Triton's error, or the text."""
        try:
            content = json.loads(self.body)
        except ValueError:
            content = None
        if isinstance(content, dict):
            for key in ("message", "error"):
                if isinstance(content.get(key), str) and content[key]:
                    return f"HTTP {self.status}: {content[key]}"
        return f"HTTP {self.status}" + (f": {self.text[:300]}" if self.text else "")


@dataclass(frozen=True, slots=True)
class HttpServer:
    """An HTTP server, dialled from the host of `access`, or from this computer without one."""

    address: str
    port: int
    access: HostAccess | None = None
    tls: bool = False

    @property
    def url(self) -> str:
        """The URL that a person would type."""
        return f"{'https' if self.tls else 'http'}://{bracketed(self.address)}:{self.port}"

    async def get(self, path: str) -> Answer:
        """GET. Raises Unreachable, NoAnswer."""
        return await self.request("GET", path)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """One request, with a limit in seconds for its answer. Raises Unreachable, NoAnswer."""
        lines = {
            "Host": f"{self.address}:{self.port}",
            "Connection": "close",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        limit = seconds or ANSWER_SECONDS
        try:
            async with asyncio.timeout(limit), self._dial() as stream:
                await stream.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
                return parse(await stream.rest(_LONGEST))
        except TimeoutError:
            raise NoAnswer(f"no answer within {limit:g} s") from None

    def _dial(self) -> AbstractAsyncContextManager[Stream]:
        if self.access is not None:
            return self.access.dial(self.address, self.port)
        # Another check verifies the certificate.
        return dial_from_here(self.address, self.port, ssl=unverified() if self.tls else None)


def parse(received: bytes) -> Answer:
    """Parse a response. Raises NoAnswer."""
    if not received:
        raise NoAnswer("the connection was closed without an answer")
    # http.client reads only the file of a socket.
    socket: Any = SimpleNamespace(makefile=lambda _mode: io.BytesIO(received))
    response = HTTPResponse(socket)
    try:
        response.begin()
        return Answer(response.status, response.read())
    except HTTPException:
        raise NoAnswer(f"not an HTTP response: {received[:80]!r}") from None


def unverified() -> ssl.SSLContext:
    """TLS that accepts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
