"""What a stack's parts are called on their hosts, where they listen, and in which folders their files lie.

Each is written once, here. Pure, and light: steps import this, so it imports neither Pulumi nor pydantic; the
stack's types are for the type checker only. Ports and host names that the service knows too come from
`inference_service.addresses`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from inference_service import addresses

if TYPE_CHECKING:
    from infra.stack import Node, Stack

#: The names that Pulumi allows for a stack.
STACK_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

# Parts --------------------------------------------------------------------------------------------------

#: The parts of a node and the gateway: their containers' roles, their names on the node's network, and the
#: ends of their containers' and processes' names.
SERVICE, LLM_NODE, GATEWAY = "service", "llm-node", "gateway"
TRITON, UNIT_MANAGER = addresses.TRITON_HOST, addresses.UNIT_MANAGER_HOST

#: Labels of every container; the last is on an llm node's.
STACK_LABEL, ROLE_LABEL = "gpu-inference.stack", "gpu-inference.role"
UNIT_MANAGER_LABEL = "gpu-inference.unit-manager"


def network(stack: Stack, node: Node) -> str:
    """A node's network, which also begins the names of all that is the node's on its host."""
    return f"{stack.name}-{node.name}"


def container(stack: Stack, node: Node, part: str) -> str:
    """The container of one part of a node, such as `TRITON`."""
    return f"{network(stack, node)}-{part}"


def shared_memory_volume(stack: Stack, node: Node) -> str:
    """The volume that is /dev/shm of Triton and the service.

    The size is in the name: a volume in use cannot be replaced by one of the same name, and one that waits
    to be deleted, after an update that failed, stops every later update.
    """
    return f"{network(stack, node)}-shm-{stack.triton.shm_size}"


def tmp_volume(stack: Stack, node: Node) -> str:
    """The volume that is /tmp of both Edge-LLM containers."""
    return f"{network(stack, node)}-tmp"


def gateway_container(stack: Stack) -> str:
    """The gateway's container."""
    return f"{stack.name}-{GATEWAY}"


def gateway_network(stack: Stack) -> str:
    """The network of the gateway's container."""
    return f"{stack.name}-{GATEWAY}"


def process(node: str, part: str) -> str:
    """The process of one part of an embedded node."""
    return f"{node}-{part}"


#: The only address on which an embedded stack listens.
LOOPBACK = "127.0.0.1"

# Ports --------------------------------------------------------------------------------------------------

#: The ports that the parts listen on in their containers.
HTTP_PORT, GRPC_PORT = addresses.HTTP_PORT, addresses.GRPC_PORT
TRITON_HTTP_PORT, TRITON_GRPC_PORT = addresses.TRITON_HTTP_PORT, addresses.TRITON_GRPC_PORT
TRITON_METRICS_PORT = addresses.TRITON_METRICS_PORT
UNIT_MANAGER_PORT = addresses.UNIT_MANAGER_PORT
GATEWAY_HTTP_PORT, GATEWAY_GRPC_PORT = addresses.GATEWAY_HTTP_PORT, addresses.GATEWAY_GRPC_PORT

#: Addresses on a node's network.
TRITON_URL, TRITON_GRPC_ADDRESS = addresses.TRITON_URL, addresses.TRITON_GRPC
UNIT_MANAGER_ADDRESS = addresses.UNIT_MANAGER


@dataclass(frozen=True, slots=True)
class NodePort:
    """A port that a part of a node opens on its host.

    `key` is its key in the stack file's `ports`, `inner` the port in the part's container, `outer` the port
    of the host.
    """

    part: str
    key: str
    inner: int
    outer: int


def node_ports(node: Node, *, triton: bool, unit_manager: bool) -> tuple[NodePort, ...]:
    """The ports that a node opens on its host.

    `triton` and `unit_manager` tell whether those parts, where the node has them, publish theirs.
    """
    ports = node.ports
    opened = [
        NodePort(SERVICE, "http", HTTP_PORT, ports.http),
        NodePort(SERVICE, "grpc", GRPC_PORT, ports.grpc),
    ]
    if node.runtime == "triton" and triton:
        opened += [
            NodePort(TRITON, "tritonHttp", TRITON_HTTP_PORT, ports.triton_http),
            NodePort(TRITON, "tritonGrpc", TRITON_GRPC_PORT, ports.triton_grpc),
            NodePort(TRITON, "tritonMetrics", TRITON_METRICS_PORT, ports.triton_metrics),
        ]
    if node.runtime == "edge-llm" and unit_manager:
        opened.append(NodePort(UNIT_MANAGER, "unitManager", UNIT_MANAGER_PORT, ports.unit_manager))
    return tuple(opened)


def published_ports(stack: Stack, node: Node) -> tuple[NodePort, ...]:
    """The ports that a node's containers publish on its host."""
    return node_ports(node, triton=stack.triton.publish, unit_manager=stack.edge_llm.publish)


def published_by(stack: Stack, node: Node, part: str) -> dict[int, int]:
    """The ports that one of a node's containers publishes: the container's port -> the host's."""
    return {port.inner: port.outer for port in published_ports(stack, node) if port.part == part}


# A node's files -----------------------------------------------------------------------------------------

#: Where Triton's container sees its models.
MODELS_MOUNT = "/models"
#: The folders in a node's folder of models: links to the versions in use, and all versions.
REPOSITORY, STORE = "repository", "store"

SETTINGS_FILE_NAME = "ai-inference-service.yaml"
#: Where the service's container has its settings.
SETTINGS_FILE = f"/etc/{SETTINGS_FILE_NAME}"


def models_folder(stack: Stack, node: Node) -> str:
    """The folder on the node's host that models are copied to."""
    return str(PurePosixPath(stack.remote_dir) / stack.name / node.name / "models")


# The gateway's files ------------------------------------------------------------------------------------

#: Where the gateway's container sees the folder of its configurations.
CONFIGURATIONS_MOUNT = "/etc/gpu-inference"
#: In that folder, a link to the configuration in use.
CURRENT = "current"
#: In each configuration: the whole one, the API keys that it includes, and the same without what an nginx
#: that is still in use may not know.
NGINX_CONF, API_KEYS_CONF, OLDER_NGINX_CONF = "nginx.conf", "api_keys.conf", "older-nginx.conf"

#: The upstream files that an existing site includes.
UPSTREAM_FILES = "ai_inference_service.servers*.conf"
#: How an upstream file of any stack begins; the stack's name follows (nginx/servers.conf.j2).
UPSTREAM_FILE_MARK = "# The nodes of the stack "


def gateway_folder(stack: Stack) -> str:
    """The folder on the gateway's host that has its configurations, or what an existing site's step notes."""
    return str(PurePosixPath(stack.remote_dir) / stack.name / "gateway")


def mounted_nginx_conf(revision: str = CURRENT) -> str:
    """The path of a configuration's nginx.conf in the gateway's container."""
    return f"{CONFIGURATIONS_MOUNT}/{revision}/{NGINX_CONF}"


def upstream_file(stack: str) -> str:
    """The name of a stack's upstream file in an existing site; `UPSTREAM_FILES` matches it.

    Raises ValueError for a stack's name that would name a file elsewhere.
    """
    if not STACK_NAME.fullmatch(stack):
        raise ValueError(f"stack: expected letters, digits, hyphens, dots and underscores, got {stack!r}")
    return f"ai_inference_service.servers.{stack}.conf"
