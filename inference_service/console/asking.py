"""Asks a node over one kept connection. The console asks often, and full clients take more processor time."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

#: A page of metrics has tens of kilobytes. Who sends more than this is no node.
_MOST_BYTES = 16 << 20


class Answer(NamedTuple):
    """The answer to a request: its HTTP status and its body."""

    status: int
    body: bytes


class NoAnswer(Exception):
    """The node did not answer; `str(error)` has the reason in words for the page."""


class Connection:
    """One connection to the server of a URL, made when it is needed. One request at a time.

    `tls` is for https, where the server's certificate is for `name`.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], tls: ssl.SSLContext | None = None, name: str | None = None
    ) -> None:
        parts = urlsplit(url)
        self._host, self._secure = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._tls, self._name = tls, name or self._host
        lines = {"Host": parts.netloc, "Connection": "keep-alive", **headers}
        self._head = "".join(f"{key}: {value}\r\n" for key, value in lines.items()) + "\r\n"
        self._open: _Answering | None = None

    async def get(self, path: str, seconds: float) -> Answer:
        """The answer to `GET path`. Raises NoAnswer where it is not there within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                kept = self._open is not None and not self._open.ended
                try:
                    return await self._ask(path)
                except ConnectionError:
                    # The server may end a kept connection at any moment.
                    if not kept:
                        raise
                    return await self._ask(path)
        except TimeoutError:
            self.close()
            raise NoAnswer(f"no answer within {seconds:g} s") from None
        except ConnectionRefusedError:
            raise NoAnswer("its port is closed") from None
        except ssl.SSLCertVerificationError as error:
            raise NoAnswer(f"its certificate is not trusted: {error.verify_message}") from None
        except socket.gaierror:
            raise NoAnswer("its name has no address") from None
        except (OSError, httptools.HttpParserError):
            self.close()
            raise NoAnswer("it closed the connection") from None
        except asyncio.CancelledError:
            self.close()
            raise

    @property
    def certificate_ends(self) -> float | None:
        """When the server's certificate ends, in Unix time; None where it was not verified."""
        told = self._open.transport.get_extra_info("peercert") if self._open is not None else None
        return float(ssl.cert_time_to_seconds(told["notAfter"])) if told else None

    def close(self) -> None:
        """Ends the connection; the next request makes another one."""
        if self._open is not None:
            self._open.transport.abort()
            self._open = None

    async def _ask(self, path: str) -> Answer:
        if self._open is None or self._open.ended:
            secure: dict[str, Any] = {"ssl": self._tls, "server_hostname": self._name} if self._secure else {}
            loop = asyncio.get_running_loop()
            _, self._open = await loop.create_connection(_Answering, self._host, self._port, **secure)
        return await self._open.ask(f"GET {path} HTTP/1.1\r\n{self._head}".encode())


class _Answering(asyncio.Protocol):
    """Reads one answer after the other."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.ended = False
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size = 0
        #: The answer has no length: it ends with its connection.
        self._to_the_end = False
        self._sized = False

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._to_the_end and error is None:
            self._answered()
        self._fail(error or ConnectionResetError())

    # What the parser calls ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._body, self._size, self._sized = [], 0, False

    def on_header(self, name: bytes, _: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._sized = True

    def on_headers_complete(self) -> None:
        self._to_the_end = not self._sized

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > _MOST_BYTES:
            self._fail(ConnectionResetError())
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._to_the_end = False
        self._answered()
        if not self._parser.should_keep_alive():
            self.ended = True
            self.transport.close()

    def _answered(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Answer(self._parser.get_status_code(), b"".join(self._body)))

    def _fail(self, error: Exception) -> None:
        self.ended = True
        self.transport.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
