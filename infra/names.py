"""The names of a stack's parts on their hosts, the ports that they open, and the folders of their files.

Each is written once, here. Steps import this, so it imports neither Pulumi nor pydantic; the stack's types
are for the type checker only. The ports inside containers are in `inference_service.addresses`.
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
#: The names of models that are copied to hosts: names of folders and resources, and parts of Triton's URLs.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# Parts --------------------------------------------------------------------------------------------------

#: The parts of a node and the gateway: the roles of containers, their names on the node's network, and the
#: ends of the names of containers and processes.
SERVICE, LLM_NODE, GATEWAY, KEEPALIVED = "service", "llm-node", "gateway", "keepalived"
CONSOLE = "console"
#: What watches a fleet. The first three are on the host of monitoring, and on its network by these names.
PROMETHEUS, ALERTMANAGER, GRAFANA = "prometheus", "alertmanager", "grafana"
HOST_EXPORTER, GPU_EXPORTER = "host-exporter", "gpu-exporter"
MONITORING = "monitoring"
TRITON, UNIT_MANAGER = addresses.TRITON_HOST, addresses.UNIT_MANAGER_HOST
#: The parts that a node may have; every node has the first.
NODE_PARTS = (SERVICE, TRITON, UNIT_MANAGER, LLM_NODE)

#: Labels of every container.
STACK_LABEL, ROLE_LABEL = "gpu-inference.stack", "gpu-inference.role"
#: A container that an update put back has it, with the time.
ROLLED_BACK_LABEL = "gpu-inference.rolled-back"
#: Another name of the images that nodes ran before their last change; the tag has the container.
KEPT_IMAGES = "gpu-inference-before"


def network(stack: Stack, node: Node) -> str:
    """A node's network. The names of the node's containers and volumes on its host begin with this name."""
    return f"{stack.name}-{node.name}"


def container(stack: Stack, node: Node, part: str) -> str:
    """The container of one part of a node, such as `TRITON`."""
    return former_container(stack, node.name, part)


def former_container(stack: Stack, node: str, part: str) -> str:
    """The container of one part of a node by name, which the stack may no longer have."""
    return f"{stack.name}-{node}-{part}"


def node_of(stack: str, container: str, part: str) -> str | None:
    """The name of the node whose part runs in a container of that name; None for other containers.

    `stack` is the stack's name.
    """
    start, end = f"{stack}-", f"-{part}"
    if not (container.startswith(start) and container.endswith(end)):
        return None
    return container.removeprefix(start).removesuffix(end)


def shared_memory_volume(stack: Stack, node: Node) -> str:
    """The volume that is /dev/shm of Triton and the service.

    The size is in the name: a volume in use cannot be replaced by one of the same name, and a volume that
    waits to be deleted, after an update that failed, stops every later update.
    """
    return f"{network(stack, node)}-shm-{stack.triton.shm_size}"


def engines_volume(stack: Stack, node: Node) -> str:
    """The volume with the TensorRT engines that the node's Triton built: they fit its GPUs only."""
    return f"{network(stack, node)}-engines"


def tmp_volume(stack: Stack, node: Node) -> str:
    """The volume that is /tmp of both Edge-LLM containers."""
    return f"{network(stack, node)}-tmp"


def gateway_container(stack: Stack) -> str:
    """The gateway's container and its network."""
    return f"{stack.name}-{GATEWAY}"


def keepalived_container(stack: Stack) -> str:
    """The container of a gateway's keepalived, on the gateway's host."""
    return f"{stack.name}-{KEEPALIVED}"


def console_container(stack: Stack) -> str:
    """The container of the console beside a gateway, on the gateway's host."""
    return f"{stack.name}-{CONSOLE}"


def monitoring_container(stack: Stack, part: str) -> str:
    """The container of one part of the monitoring on a host; of `MONITORING` itself, the network of them."""
    return f"{stack.name}-{part}"


def gateway_number(stack: Stack, position: int) -> str:
    """The name of a gateway among several, which VRRP's log shows; `position` counts from 0."""
    return f"{stack.name}-{position + 1}"


def gateway_volume(stack: Stack) -> str:
    """The volume that holds request bodies while the gateway reads them: on disk, not in memory."""
    return f"{stack.name}-{GATEWAY}-bodies"


def service(stack: str, part: str) -> str:
    """The Service of a pool, or of `GATEWAY`, in a Kubernetes cluster: both by name."""
    return f"{stack}-{part}"


def process(node: str, part: str) -> str:
    """The process of one part of an embedded node."""
    return f"{node}-{part}"


#: The only address on which an embedded stack listens.
LOOPBACK = "127.0.0.1"

# Ports --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodePort:
    """A port that a part of a node opens: `inner` in the part's container, `outer` on the host.

    `key` is the port's key in the stack file's `ports`.
    """

    part: str
    key: str
    inner: int
    outer: int


def node_ports(
    node: Node, *, triton: bool, unit_manager: bool, plain: bool = True, tls: bool = False
) -> tuple[NodePort, ...]:
    """The ports that a node opens on its host; each kind if these arguments say so.

    `plain` and `tls` are the service's ports without and with TLS.
    """
    ports = node.ports
    opened = []
    if plain:
        opened += [
            NodePort(SERVICE, "http", addresses.HTTP_PORT, ports.http),
            NodePort(SERVICE, "grpc", addresses.GRPC_PORT, ports.grpc),
        ]
    if tls:
        opened += [
            NodePort(SERVICE, "httpTls", addresses.HTTP_TLS_PORT, ports.http_tls),
            NodePort(SERVICE, "grpcTls", addresses.GRPC_TLS_PORT, ports.grpc_tls),
        ]
    if node.runtime == "triton" and triton:
        opened += [
            NodePort(TRITON, "tritonHttp", addresses.TRITON_HTTP_PORT, ports.triton_http),
            NodePort(TRITON, "tritonGrpc", addresses.TRITON_GRPC_PORT, ports.triton_grpc),
            NodePort(TRITON, "tritonMetrics", addresses.TRITON_METRICS_PORT, ports.triton_metrics),
        ]
    if node.runtime == "edge-llm" and unit_manager:
        opened.append(NodePort(UNIT_MANAGER, "unitManager", addresses.UNIT_MANAGER_PORT, ports.unit_manager))
    return tuple(opened)


def published_ports(stack: Stack, node: Node) -> tuple[NodePort, ...]:
    """The ports that a node's containers publish on its host."""
    return node_ports(
        node,
        triton=stack.triton.publish,
        unit_manager=stack.edge_llm.publish,
        plain=stack.serves_plain,
        tls=stack.serves_tls,
    )


def published_by(stack: Stack, node: Node, part: str) -> dict[int, int]:
    """The ports that one of a node's containers publishes: the container's port -> the host's."""
    return {port.inner: port.outer for port in published_ports(stack, node) if port.part == part}


# A node's files -----------------------------------------------------------------------------------------

#: Where Triton's container sees its models.
MODELS_MOUNT = "/models"
#: Where Triton's container has the volume of engines. Docker gives an empty volume the owner and mode of the
#: image's folder at that place, and of those folders only a temporary one lets every user write.
ENGINES_MOUNT = "/var/tmp"
#: The folder that exported models name as `trt_engine_cache_path`.
ENGINE_CACHE = f"{ENGINES_MOUNT}/tensorrt"
#: Seconds that a model's first load may take where Triton builds its engines: minutes on a small GPU.
ENGINE_SECONDS = 1800
#: The folders in a node's folder of models: links to the versions in use, and all versions.
REPOSITORY, STORE = "repository", "store"

#: The service's variables with its certificate, its key, and the authority of the gateway's certificate.
NODE_CERTIFICATE, NODE_KEY, NODE_CLIENT_AUTHORITY = (
    "SERVER__TLS__CERTIFICATE",
    "SERVER__TLS__KEY",
    "SERVER__TLS__CLIENT_CA",
)
#: The name that every node's certificate is for, beside its own address: nginx checks one name for all
#: servers of an upstream.
NODE_TLS_NAME = "node.gpu-inference.internal"

SETTINGS_FILE_NAME = "ai-inference-service.yaml"
#: Where a service's container with a root that can be written has its settings.
SETTINGS_FILE = f"/etc/{SETTINGS_FILE_NAME}"
#: The environment variables of the service with the path of its settings, and with the settings themselves.
SETTINGS_PATH_VARIABLE, SETTINGS_VARIABLE = "AI_CONFIG", "AI_CONFIG_TEXT"


def models_folder(stack: Stack, node: Node) -> str:
    """The folder on the node's host that models are copied to."""
    return str(PurePosixPath(stack.remote_dir) / stack.name / node.name / "models")


# The gateway's files ------------------------------------------------------------------------------------

#: Where the gateway's container sees the folder of its configurations.
CONFIGURATIONS_MOUNT = "/etc/gpu-inference"
#: In that folder, a link to the configuration in use.
CURRENT = "current"
#: In each configuration: nginx's file, the API keys that it includes, and the same file without the
#: directives that an older nginx does not know.
NGINX_CONF, API_KEYS_CONF, OLDER_NGINX_CONF = "nginx.conf", "api_keys.conf", "older-nginx.conf"

#: In a gateway's folder, what nginx and the console share: the console's settings and the sockets of both.
#: nginx has that folder mounted, so a console that is added does not replace nginx's container.
CONSOLE_FOLDER = "console"
CONSOLE_SOCKET, CONSOLE_LOG_SOCKET, CONSOLE_SETTINGS = "console.sock", "log.sock", "settings.json"
#: Where the console's container sees that folder.
CONSOLE_MOUNT = "/run/fleet"
#: Where Prometheus, Alertmanager and Grafana see their configurations.
MONITORING_MOUNT = "/etc/fleet"

#: The upstream files that an existing site includes.
UPSTREAM_FILES = "ai_inference_service.servers*.conf"
#: The first words of every stack's upstream file; the stack's name follows (nginx/servers.conf.j2).
UPSTREAM_FILE_MARK = "# The nodes of the stack "


#: Where keepalived's container has its configuration, and the script that it tells its state.
KEEPALIVED_CONF, KEEPALIVED_NOTIFY = "/etc/gpu-inference/keepalived.conf", "/etc/gpu-inference/notify"


#: In each configuration whose nodes have TLS: the gateway's certificate, its key, the nodes' authority.
CLIENT_CERTIFICATE, CLIENT_KEY, NODE_AUTHORITY = "client.pem", "client.key", "node-authority.pem"


def gateway_folder(stack: Stack) -> str:
    """The folder on the gateway's host with its configurations, or with an existing site's notes."""
    return str(PurePosixPath(stack.remote_dir) / stack.name / "gateway")


def monitoring_folder(stack: Stack, part: str) -> str:
    """The folder on the host of monitoring with a part's configuration and data."""
    return str(PurePosixPath(stack.remote_dir) / stack.name / MONITORING / part)


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
