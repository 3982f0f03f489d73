"""TLS between the gateway and the nodes: when a stack has it."""

import functools
import ipaddress
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from infra.stack.gateway import Gateway
from infra.stack.node import Node
from infra.stack.section import Section
from infra.stack.shown import shown

#: The ends of names that only a private network resolves (RFC 6761, 6762, 8375 and ICANN's .internal).
_PRIVATE_NAMES = (".internal", ".local", ".localhost", ".home.arpa", ".lan")


def _when(value: object) -> object:
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError(f"expected auto, true or false, got {shown(value)}")


class TlsToNodes(Section):
    """TLS between the gateway and the nodes, with certificates of the stack's own authority."""

    nodes: Annotated[Literal["auto"] | bool, BeforeValidator(_when)] = "auto"
    """auto: where the gateway dials a node at a public address, or by a name that may be one."""
    days: Annotated[int, Field(ge=3, le=3650)] = 730
    """How long a certificate is valid. `pulumi up` renews it when less than a third is left."""


@functools.lru_cache(4096)
def is_public(address: str) -> bool:
    """Whether a host's address may be reached from the Internet.

    IP addresses are public by IANA's registries. A name is public unless it has no dot, or an end that only
    private networks resolve: what a name resolves to can change after an update.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        name = address.rstrip(".").lower()
        return "." in name and not name.endswith(_PRIVATE_NAMES)
    return ip.is_global


def impossible(nodes: Sequence[Node], gateway: Gateway) -> str | None:
    """Why nodes cannot have TLS in this stack; None if they can."""
    if gateway.mode != "container":
        return f"only a gateway in a container speaks TLS to nodes; gateway.mode is {gateway.mode}"
    if gateway.grpc_balancing == "layer4":
        # gRPC requires ALPN, which nginx 1.28 cannot offer from its stream module.
        return "gateway.grpcBalancing is layer4, which cannot offer the protocol of gRPC by TLS"
    if any(node.embedded for node in nodes):
        return "embedded nodes serve without TLS, and all nodes of a gateway serve alike"
    return None


def wanted(tls: TlsToNodes, nodes: Sequence[Node], gateway: Gateway) -> bool:
    """Whether the gateway dials all nodes by TLS: an upstream has one scheme for all of its servers."""
    if impossible(nodes, gateway) is not None:
        return False
    if tls.nodes == "auto":
        return any(is_public(node.public_host) for node in nodes)
    return tls.nodes
