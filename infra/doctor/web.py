"""HTTP requests from a host, or from here, one connection each."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, cast

from infra.doctor.reach import NoAnswer, Reach, Stream, Unreachable, dial_from_here
from infra.stack.hosts import bracketed

#: Seconds for an answer that takes no work.
ANSWER_SECONDS = 5.0
_LONGEST = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """Its body as text."""
        return self.body.decode(errors="replace").strip()

    def json(self) -> Any:
        """Its body as JSON. Raises NoAnswer when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise NoAnswer(f"HTTP {self.status} with what is no JSON: {self.text[:200]!r}") from None

    @property
    def reason(self) -> str:
        """What it says is wrong: the envelope's message, Triton's error, or the text."""
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
class Site:
    """An HTTP server, and from where it is asked: from a host, or from here (`reach` is None)."""

    address: str
    port: int
    reach: Reach | None = None
    tls: bool = False

    @property
    def url(self) -> str:
        """Its URL, as a person would type it."""
        return f"{'https' if self.tls else 'http'}://{bracketed(self.address)}:{self.port}"

    async def get(self, path: str) -> Answer:
        """GET. Raises Unreachable, NoAnswer."""
        return await self._limited("GET", path, b"", {}, ANSWER_SECONDS)

    async def post(
        self, path: str, body: bytes, headers: dict[str, str] | None = None, seconds: float | None = None
    ) -> Answer:
        """POST, with so many seconds for the answer. Raises Unreachable, NoAnswer."""
        return await self._limited("POST", path, body, headers or {}, seconds or ANSWER_SECONDS)

    async def _limited(
        self, method: str, path: str, body: bytes, headers: dict[str, str], seconds: float
    ) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(method, path, body, headers)
        except TimeoutError:
            raise NoAnswer(f"no answer within {seconds:g} s") from None

    def _dial(self) -> AbstractAsyncContextManager[Stream]:
        if self.reach is not None:
            return self.reach.dial(self.address, self.port)
        if self.tls:
            # Whether the certificate is good is a check of its own.
            return dial_from_here(self.address, self.port, ssl=unverified())
        return dial_from_here(self.address, self.port)

    async def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        lines = {
            "Host": f"{self.address}:{self.port}",
            "Connection": "close",
            "Content-Length": str(len(body)),
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        async with self._dial() as stream:
            await stream.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            try:
                received = await stream.reader.read(_LONGEST)
                while chunk := await stream.reader.read(_LONGEST):
                    received += chunk
                    if len(received) > _LONGEST:
                        raise NoAnswer(f"more than {_LONGEST} bytes")
            except ConnectionError as error:
                raise Unreachable(str(error)) from None
            if not received and (refusal := await stream.refusal()):
                raise Unreachable(refusal)
        return parse(received)


def parse(received: bytes) -> Answer:
    """The response that these bytes are. Raises NoAnswer."""
    if not received:
        raise NoAnswer("the connection was closed without an answer")
    # http.client reads from anything that has a file.
    response = HTTPResponse(cast(Any, _Received(received)))
    try:
        response.begin()
        return Answer(response.status, response.read())
    except HTTPException:
        raise NoAnswer(f"no HTTP: {received[:80]!r}") from None


def unverified() -> ssl.SSLContext:
    """TLS without a look at the certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Received:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)
