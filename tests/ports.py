"""Ports for servers that tests start."""

from __future__ import annotations

import os
import random
import socket

#: Which of the processes that share the tests this one is, and how many there are (pytest-xdist sets both).
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

#: Below the ports that Linux gives to outgoing connections, one of which could take a port between its choice
#: and its use, and beside the default ports of a stack. Each worker has ports of its own, because nothing
#: listens yet on a port that another worker has just chosen.
_RANGE = range(10000 + _WORKER, 32768, _WORKERS)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that nothing listens on now and that this process was not given before."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(_RANGE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            ports.append(port)
    return ports


def free_port() -> int:
    """A loopback port that nothing listens on now and that this process was not given before."""
    return free_ports(1)[0]
