"""The gateway's figures, from the line that nginx writes for each request to a Unix socket (syslog)."""

import asyncio
import contextlib
import re
import socket
from bisect import bisect_left
from pathlib import Path

from inference_service.console.exposition import Sample

#: Of the template of nginx's configuration: status, seconds, route.
_LINE = re.compile(rb"fleet: (\d{3}) (\d+\.\d+) (\S*)$")
#: Requests that ask nothing of a model.
_NO_WORK = re.compile(rb"/(health|api/v1/ai/(health|info|docs|openapi)|docs|openapi|demo|console)|/$")
#: Seconds.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0, float("inf"))
#: The socket's buffer: what nginx writes while the process is busy.
_BUFFER_BYTES = 1 << 20


class GatewayLog(asyncio.DatagramProtocol):
    """Counts requests; `sample()` has the totals so far."""

    def __init__(self) -> None:
        self._requests = self._errors = self._refused = 0
        self._counts = [0] * len(_BOUNDS)

    def datagram_received(self, data: bytes, _: object) -> None:
        match = _LINE.search(data)
        if match is None or _NO_WORK.match(match[3]):
            return
        self._requests += 1
        self._errors += match[1][:1] == b"5"
        self._refused += match[1] == b"429"
        self._counts[bisect_left(_BOUNDS, float(match[2]))] += 1

    def sample(self) -> Sample:
        total = 0
        buckets = {}
        for bound, count in zip(_BOUNDS, self._counts, strict=True):
            total += count
            buckets[bound] = float(total)
        return Sample(requests=self._requests, errors=self._errors, refused=self._refused, buckets=buckets)


async def listen(path: str) -> GatewayLog:
    """Listens on a Unix socket that any user of the folder may write to."""
    _, log = await asyncio.get_running_loop().create_datagram_endpoint(GatewayLog, sock=_bound(path))
    return log


def _bound(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    receiver.setblocking(False)
    receiver.bind(path)
    Path(path).chmod(0o666)
    return receiver
