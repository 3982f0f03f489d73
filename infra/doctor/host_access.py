"""Commands and TCP connections on a host, over one SSH session for each host.

The host needs a shell, and `bash` for TCP connections. Its sshd may forbid forwarding.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from infra.connection import Connection
from infra.doctor.processes import close_pipes, end, kill, start
from infra.stack import Host, Ssh, SshHost

CONNECT_SECONDS = 5
#: sshd allows ten sessions of one connection at a time by default.
_SESSIONS = 8
_CANNOT_CONNECT = 97
# Ends when the other side closes. The shell takes standard input from background processes: hence 4.
_PIPE = 'exec 3<>"/dev/tcp/$1/$2" || exit 97; exec 4<&0; cat <&4 >&3 & cat <&3; kill $! 2>/dev/null; exit 0'


class Unreachable(Exception):
    """A connection could not be made; `str(error)` is the system's reason."""


class NoAnswer(Exception):
    """Something was reached and gave no usable answer; `str(error)` says what it gave."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit status of a command and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Standard error, then standard output, as one text."""
        return "\n".join(text for text in (self.stderr.strip(), self.stdout.strip()) if text)

    @property
    def last_line(self) -> str:
        """The last line that is not blank; of Docker's errors, the error and not the hint at its help."""
        lines = [line.strip() for line in (self.stdout + "\n" + self.stderr).splitlines() if line.strip()]
        lines = [line for line in lines if not re.match(r"(See|Run) 'docker .* --help'", line)]
        return lines[-1] if lines else f"exit status {self.status} and no output"


class HostAccess:
    """Access to one host. Call `connect` first: everything else uses its connection."""

    def __init__(self, host: Host, ssh: Ssh, folder: Path) -> None:
        """`folder` is private and has a short path: the control socket of the SSH session is in it."""
        self.host = host
        connection = Connection.to(host, ssh)
        if isinstance(host, SshHost):
            self._control = folder / f"{len(list(folder.iterdir()))}"
            self._control.mkdir()
            connection = connection.preferring(
                ControlPath=f"{self._control}/s", ConnectTimeout=str(CONNECT_SECONDS)
            )
        self._connection = connection
        self._master: asyncio.subprocess.Process | None = None
        self._sessions = asyncio.Semaphore(_SESSIONS)

    async def connect(self) -> CommandResult | None:
        """Open the SSH session. Returns None, or the result of the `ssh` that failed."""
        if not isinstance(self.host, SshHost):
            return None
        command = self._connection.command("")[:-2]
        self._master = await start([command[0], "-M", "-N", *command[1:]])
        ended = asyncio.create_task(self._master.communicate())
        while not (self._control / "s").exists() and not ended.done():
            await asyncio.wait([ended], timeout=0.02)
        if ended.done():
            _, err = ended.result()
            return CommandResult(255, "", err.decode(errors="replace"))
        return None

    async def close(self) -> None:
        """End the SSH session."""
        if self._master is not None:
            if self._master.returncode is None:
                kill(self._master, signal.SIGTERM)
                await self._master.wait()
            close_pipes(self._master)

    async def run(self, script: str) -> CommandResult:
        """Run a shell script on the host, without a time limit of its own."""
        async with self._sessions, self._process(script) as process:
            out, err = await process.communicate()
            status = process.returncode
        assert status is not None
        return CommandResult(status, out.decode(errors="replace"), err.decode(errors="replace"))

    async def output(self, script: str, failure: str = "") -> str:
        """What the script prints. When it fails, raises NoAnswer: `failure`, and the last line it printed."""
        result = await self.run(script)
        if result.status != 0:
            raise NoAnswer(f"{failure}{result.last_line}")
        return result.stdout

    @contextlib.asynccontextmanager
    async def dial(self, address: str, port: int) -> AsyncIterator[Stream]:
        """A TCP connection from there to `address`:`port`. Raises Unreachable."""
        if not isinstance(self.host, SshHost):
            async with dial_from_here(address, port) as stream:
                yield stream
            return
        script = f"exec bash -c {shlex.quote(_PIPE)} dial {shlex.quote(address)} {port}"
        async with self._sessions, self._process(script) as process:
            assert process.stdin is not None and process.stdout is not None and process.stderr is not None
            yield Stream(process.stdout, process.stdin, process)

    @contextlib.asynccontextmanager
    async def _process(self, script: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await start(self._connection.command(script))
        try:
            yield process
        finally:
            await end(process)


@dataclass
class Stream:
    """A TCP connection; `process` is the `ssh` that carries a connection from a host."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    process: asyncio.subprocess.Process | None = None

    async def send(self, data: bytes) -> None:
        """Write `data`. A lost connection raises nothing here: the next read reports it."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def line(self) -> bytes:
        """The next line; empty when the other side closed the connection. Raises Unreachable."""
        return await self.reader.readline() or await self._closed()

    async def rest(self, longest: int) -> bytes:
        """All bytes until the other side closes. Raises Unreachable; NoAnswer for more than `longest`."""
        received = b""
        try:
            while chunk := await self.reader.read(longest):
                received += chunk
                if len(received) > longest:
                    raise NoAnswer(f"more than {longest} bytes")
        except ConnectionError as error:
            raise Unreachable(str(error)) from None
        return received or await self._closed()

    async def _closed(self) -> bytes:
        """Called when nothing was read. Raises Unreachable if the host could not connect."""
        if self.process is None:
            return b""
        assert self.process.stderr is not None
        err = (await self.process.stderr.read()).decode(errors="replace")
        if await self.process.wait() not in (_CANNOT_CONNECT, 1, 127):
            return b""
        if "bash" in err and "not found" in err:
            raise Unreachable("the host has no bash, which makes the connection")
        lines = [line.rpartition(": ")[2].strip() for line in err.splitlines() if "connect" in line.lower()]
        if reason := lines[0] if lines else err.strip():
            raise Unreachable(reason)
        return b""


@contextlib.asynccontextmanager
async def dial_from_here(address: str, port: int, **tls: object) -> AsyncIterator[Stream]:
    """A TCP connection from this computer. Raises Unreachable."""
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(address, port, **tls),  # type: ignore[arg-type]
            CONNECT_SECONDS,
        )
    except TimeoutError:
        raise Unreachable(f"no connection within {CONNECT_SECONDS} s") from None
    except OSError as error:
        # The system's text, without the address that asyncio adds.
        words = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise Unreachable(words) from error
    try:
        yield Stream(reader, writer)
    finally:
        writer.close()
