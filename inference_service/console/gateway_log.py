"""The gateway's figures, from the line that nginx writes for each request to a Unix socket (syslog)."""

import asyncio
import contextlib
import socket
from bisect import bisect_left
from pathlib import Path

from inference_service.console.exposition import Sample
from inference_service.console.gateway_metrics import BOUNDS, GatewayMetrics, parse

_BOUNDS = (*BOUNDS, float("inf"))
#: The socket's buffer: what nginx writes while the process is busy.
_BUFFER_BYTES = 1 << 20


class GatewayLog(asyncio.DatagramProtocol):
    """Counts requests; `sample()` has the totals so far, `metrics` those for Prometheus."""

    def __init__(self) -> None:
        self.metrics = GatewayMetrics()
        self._requests = self._errors = self._refused = 0
        self._counts = [0] * len(_BOUNDS)

    def datagram_received(self, data: bytes, _: object) -> None:
        request = parse(data)
        if request is None:
            return
        self.metrics.count(request)
        self._requests += 1
        self._errors += request.failed
        self._refused += request.refused
        self._counts[bisect_left(_BOUNDS, request.seconds)] += 1

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
