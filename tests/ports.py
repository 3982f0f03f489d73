"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

#: Below the ports that Linux gives to outgoing connections, one of which could take a port between its choice
#: and its use, and beside the default ports of a stack.
_RANGE = range(10000, 32768)
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
