"""The cluster's API, by `kubectl`: its errors are the user's own words, and it logs in as the user does."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.doctor.host_access import NoAnswer, Unreachable
from infra.doctor.processes import end, start
from infra.doctor.web import Answer, parse

#: Seconds for one answer of the API server.
ANSWER_SECONDS = 6.0
#: So often the socket is looked for in that time until it is there.
_START_SECONDS, _STARTS = 5.0, 250
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended: its exit status and what it printed."""

    status: int
    stdout: str
    stderr: str


class Refused(Exception):
    """The API server answered with another status than 200; `str(error)` is its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ClusterApi:
    """GET requests to the API server, through one `kubectl proxy` on a socket that only this user can open.

    `command` makes a command line of kubectl for the cluster; `folder` is private and has a short path.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._command, self._environment = list(command), dict(environment)
        self._socket = folder / "kubectl"
        self._proxy: asyncio.subprocess.Process | None = None

    async def run(self, *arguments: str, seconds: float) -> Done:
        """A command of kubectl. Raises Unreachable without kubectl, NoAnswer where it takes longer."""
        process = await self._started(*arguments)
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate()
        except TimeoutError:
            raise NoAnswer(f"kubectl {arguments[0]} does not end within {seconds:g} s") from None
        finally:
            await end(process)
        assert process.returncode is not None
        return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace").strip())

    @contextlib.asynccontextmanager
    async def kept(self, *arguments: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        """A command that goes on in the block; what is yielded reads its next line. Raises Unreachable."""
        process = await self._started(*arguments)
        stdout, stderr = process.stdout, process.stderr
        assert stdout is not None and stderr is not None

        async def line() -> str:
            told = await stdout.readline() or await stderr.read()
            return told.decode(errors="replace")

        try:
            yield line
        finally:
            await end(process)

    async def open(self) -> None:
        """Start the proxy. Raises Unreachable."""
        self._proxy = await self._started("proxy", f"--unix-socket={self._socket}")
        for _ in range(_STARTS):
            if self._proxy.returncode is not None or self._socket.exists():
                break
            await asyncio.sleep(_START_SECONDS / _STARTS)
        if not self._socket.exists():
            await end(self._proxy)
            raise Unreachable("kubectl proxy does not start")

    async def close(self) -> None:
        """End the proxy."""
        if self._proxy is not None:
            await end(self._proxy)

    async def get(self, path: str, accept: str = "application/json") -> Answer:
        """The answer to a request, of any status. Raises Unreachable, NoAnswer."""
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(head.encode())
                    await writer.drain()
                    received = bytearray()
                    while part := await reader.read(_READ_BYTES):
                        received += part
                finally:
                    writer.close()
        except TimeoutError:
            raise NoAnswer(f"the API server does not answer within {ANSWER_SECONDS:g} s") from None
        except OSError as error:
            raise Unreachable(f"kubectl proxy: {error.strerror or error}") from None
        return parse(bytes(received))

    async def json(self, path: str, accept: str = "application/json") -> Any:
        """What the API server says. Raises Refused, Unreachable, NoAnswer."""
        answer = await self.get(path, accept)
        if answer.status != 200:
            raise Refused(answer.status, message(answer))
        return answer.json()

    async def _started(self, *arguments: str) -> asyncio.subprocess.Process:
        try:
            return await start([*self._command, *arguments], self._environment)
        except FileNotFoundError:
            raise Unreachable("kubectl is not on PATH") from None
        except OSError as error:
            raise Unreachable(f"kubectl does not start: {error.strerror or error}") from None


def message(answer: Answer) -> str:
    """The message in an answer of the API server (a Status object), or its text."""
    with contextlib.suppress(ValueError):
        told = json.loads(answer.body)
        if isinstance(told, dict) and isinstance(told.get("message"), str):
            return str(told["message"])
    return f"HTTP {answer.status}: {answer.text[:300]}"
