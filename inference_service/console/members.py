"""The pods of a pool, for the console: the addresses that the pool's name has, and for a while those it had.

The name of a pool is a headless Service, which has the addresses of all pods that are ready.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from inference_service.console.settings import WatchedNode

#: The state of a pod whose address its pool's name no longer has: it ends, or is not ready.
LEAVING = "leaving"
#: Seconds for which such a pod is shown when it does not answer, and when it does: another pod may get its
#: address.
_GONE_SECONDS, _LEFT_SECONDS = 120.0, 1800.0
_RESOLVE_SECONDS = 2.0


class Members:
    """The pods that a pool has and had."""

    def __init__(self, pool: WatchedNode) -> None:
        self.pool = pool
        #: When the name had an address last, in Unix seconds.
        self._had: dict[str, float] = {}
        self._has: frozenset[str] = frozenset()

    def resolved(self, addresses: Collection[str] | None, now: float) -> None:
        """Takes the addresses that the name has now; None where the DNS did not tell."""
        if addresses is not None:
            self._has = frozenset(addresses)
        self._had |= dict.fromkeys(self._has, now)

    def nodes(
        self, answers: Callable[[str], bool], others: Iterable[str], now: float
    ) -> tuple[WatchedNode, ...]:
        """The pods as nodes, or the pool itself where it has none: then its reason says so.

        `answers` tells of a node's name whether it answers. `others` are the addresses of other pools.
        """
        taken = set(others)
        for address, when in list(self._had.items()):
            limit = _LEFT_SECONDS if answers(self._name(address)) else _GONE_SECONDS
            if address not in self._has and (address in taken or now - when > limit):
                del self._had[address]
        if not self._had:
            return (self.pool,)
        return tuple(self._node(address) for address in sorted(self._had, key=_order))

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses that the name has now."""
        return self._has

    def _node(self, address: str) -> WatchedNode:
        parts = urlsplit(self.pool.url)
        host = f"[{address}]" if ":" in address else address
        return msgspec.structs.replace(
            self.pool,
            name=self._name(address),
            url=f"{parts.scheme}://{host}:{parts.port}",
            state=self.pool.state if address in self._has else LEAVING,
            pool=msgspec.UNSET,
        )

    def _name(self, address: str) -> str:
        return f"{self.pool.name}@{address}"


def _order(address: str) -> tuple[int, int]:
    known = ipaddress.ip_address(address)
    return known.version, int(known)


async def resolve(url: str) -> frozenset[str] | None:
    """The addresses of the name in a URL, none where the name has none; None where the DNS does not tell."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port, type=socket.SOCK_STREAM
            )
    except TimeoutError:
        return None
    except socket.gaierror as error:
        return None if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL) else frozenset()
    by_family: dict[int, set[str]] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(family, set()).add(str(address[0]))
    # A pod of two families has an address of each; one of them is enough to ask it.
    return frozenset(by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6, set()))


def health(pool: str, healths: Mapping[str, str]) -> str:
    """The health of a pool from that of its pods by name: it can serve when one can."""
    own = [each for name, each in healths.items() if name == pool or name.startswith(f"{pool}@")]
    for word in ("healthy", "unknown", "unhealthy"):
        if word in own:
            return word
    return "down"
