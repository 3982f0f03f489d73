"""The rules of a stack with `target: kubernetes`: keys that mean nothing there, and what spans keys."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.stack.gateway import Gateway
from infra.stack.images import Images, ImageSource
from infra.stack.kubernetes import Kubernetes
from infra.stack.monitoring import Monitoring
from infra.stack.node import Node
from infra.stack.pools import Pool
from infra.stack.problems import Problem
from infra.stack.rollout import Rollout
from infra.stack.runtimes import EdgeLlm, Models, Service, Triton
from infra.stack.shown import shown
from infra.stack.values import memory_bytes

#: The longest of `<stack>-<pool>`: names of Services have 63 letters, and some objects add a suffix.
LONGEST = 50
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_LISTENS = "each pod has an address of its own; clients use gateway.http and gateway.grpc"
_ENTRANCE = "use kubernetes.service, kubernetes.ingress or kubernetes.route"
_WATCHING = "a Prometheus of the cluster reads the pods; use kubernetes.monitoring"
_PIDS = "the kubelet's podPidsLimit bounds the processes of a pod"

#: The keys of a node, and of the others by their paths, that mean something on hosts only: the key or the
#: fact in the place of each.
_NODE = {
    "host": "use {path}.selector",
    "publicHost": "the gateway finds the pods by a Service",
    "bind": _LISTENS,
    "ports": _LISTENS,
    "publicHttpPort": _LISTENS,
    "publicGrpcPort": _LISTENS,
    "publicHttpTlsPort": _LISTENS,
    "publicGrpcTlsPort": _LISTENS,
}
SENSELESS = {
    "ports": _LISTENS,
    "tls": "kubernetes.networkPolicies keeps others from the pods; a service mesh encrypts between them",
    "ssh": "use kubernetes.context",
    "monitoring.host": _WATCHING,
    "monitoring.prometheus": f"{_WATCHING}, and monitoring.existing for the console",
    "monitoring.alertmanager": "the cluster's Alertmanager gets the alerts; use kubernetes.monitoring.by",
    "monitoring.grafana": "use kubernetes.monitoring.dashboards",
    "monitoring.exporters": "the cluster's own exporters read its machines, the GPU operator's its GPUs",
    "remoteDir": "pods have no folder on their machine; models are at models.source",
    "gateway.host": _ENTRANCE,
    "gateway.hosts": "use kubernetes.gateway.replicas",
    "gateway.mode": _ENTRANCE,
    "gateway.virtualAddress": _ENTRANCE,
    "gateway.bind": _ENTRANCE,
    "gateway.confDir": _ENTRANCE,
    "gateway.nginx": _ENTRANCE,
    "gateway.tls": "use kubernetes.tls",
    "rollout.unreachable": "the cluster moves pods away from machines that fail",
    "rollout.takeOver": "a pod takes nothing from another; deploy beside the hosts, then move the clients",
    "triton.publish": "Triton listens in its pod only",
    "triton.pidsLimit": _PIDS,
    "service.pidsLimit": _PIDS,
    "edgeLlm.publish": "the unit manager is reached in its pod only",
    "edgeLlm.unitManager.pidsLimit": _PIDS,
    "edgeLlm.llmNode.pidsLimit": _PIDS,
    "images.build": "images come from a registry; use images.registry",
}
_NOT_HERE = "makes no sense with target: kubernetes; "
#: The keys of a pool that a node on a host lacks.
POOL_ONLY = tuple(
    str(info.alias or key) for key, info in Pool.model_fields.items() if key not in Node.model_fields
)


def node_keys(path: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    """The keys of a pool that mean nothing in a cluster; `valid_keys` leaves them out."""
    for key in given.keys() & _NODE.keys():
        yield Problem(f"{path}.{key}", _NOT_HERE + _NODE[key].format(path=path))


def valid_keys(given: Mapping[str, Any]) -> dict[str, Any]:
    """A pool's keys without those of `node_keys`, which have errors of their own."""
    return {key: value for key, value in given.items() if key not in _NODE}


def stack_keys(data: Mapping[str, Any]) -> Iterator[Problem]:
    """The other keys of the file that mean nothing in a cluster."""
    for path, instead in SENSELESS.items():
        at: Any = data
        for key in path.split("."):
            at = at.get(key) if isinstance(at, dict) else None
        if at is not None:
            yield Problem(path, _NOT_HERE + instead)


def pool_keys(path: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    """The keys of a pool in a stack of hosts."""
    for key in POOL_ONLY:
        if key in given:
            yield Problem(f"{path}.{key}", "is a key of a pool; it needs target: kubernetes")


def check(name: str, pools: Mapping[int, Pool], sections: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields the problems of every rule; `pools` are the valid pools by position, `name` is the stack's."""
    kubernetes: Kubernetes | None = sections.get("kubernetes")
    models: Models | None = sections.get("models")
    gateway: Gateway | None = sections.get("gateway")
    images: Images | None = sections.get("images")
    rollout: Rollout | None = sections.get("rollout")
    monitoring: Monitoring | None = sections.get("monitoring")
    yield from _names(name, pools)
    if monitoring is not None and not monitoring.model_fields_set:
        yield Problem(
            "monitoring.existing",
            "required with target: kubernetes: the address of a Prometheus of the cluster, which the console "
            "reads; what it and Grafana get is in kubernetes.monitoring",
        )
    if models is not None:
        yield from _models(pools, models)
    yield from _memory(pools, sections)
    yield from _images(pools, sections, images)
    if kubernetes is not None and gateway is not None:
        yield from _entrance(kubernetes, gateway)
    if rollout is not None and rollout.min_healthy is not None:
        yield from _min_healthy(pools, rollout)


def _names(name: str, pools: Mapping[int, Pool]) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        yield Problem(
            "target",
            f"the names of a cluster's objects begin with the stack's; expected one of lower-case letters, "
            f"digits and hyphens, got {shown(name)}",
        )
    for position, pool in pools.items():
        whole = f"{name}-{pool.name}"
        if len(whole) > LONGEST:
            yield Problem(
                f"nodes[{position}].name",
                f"expected {whole} to have at most {LONGEST} letters, got {len(whole)}",
            )
        if pool.name == "gateway":
            yield Problem(f"nodes[{position}].name", "the gateway's objects have this name; expected another")
        for other in pools.values():
            if pool.name == f"{other.name}-canary":
                yield Problem(
                    f"nodes[{position}].name",
                    f"the canary of pool {other.name} has this name; expected another",
                )


def _models(pools: Mapping[int, Pool], models: Models) -> Iterator[Problem]:
    needed = [position for position, pool in pools.items() if pool.runtime != "remote"]
    if not needed:
        return
    if models.source in ("host", "sync"):
        instead = (
            "expected claim://NAME[/FOLDER] (a PersistentVolumeClaim), image://REFERENCE[?FOLDER] or an "
            "object store (s3://, gs://, as://)"
        )
        yield Problem("models.source", f"{_NOT_HERE}{instead}, got {models.source}")
        return
    if models.object_store and any(pools[position].runtime == "edge-llm" for position in needed):
        position = next(each for each in needed if pools[each].runtime == "edge-llm")
        yield Problem(
            "models.source", f"an object store is read by Triton only: nodes[{position}].runtime is edge-llm"
        )
    if models.claim == "" or models.image == "":
        yield Problem("models.source", f"expected a name after ://, got {models.source}")
    elif models.image is not None:
        yield from _tagged("models.source", models.image)


def _memory(pools: Mapping[int, Pool], sections: Mapping[str, Any]) -> Iterator[Problem]:
    """/dev/shm is memory of the containers that write into it, so it fits into their limits."""
    triton: Triton | None = sections.get("triton")
    service: Service | None = sections.get("service")
    if triton is None or not any(pool.runtime == "triton" for pool in pools.values()):
        return
    for key, part in (("triton", triton), ("service", service)):
        limit = part.memory if part is not None else None
        if limit is not None and memory_bytes(limit) <= memory_bytes(triton.shm_size):
            yield Problem(
                "triton.shmSize", f"counts in {key}.memory ({limit}); expected less, got {triton.shm_size}"
            )
    for position, pool in pools.items():
        for key, part, asked in (
            ("triton", triton, pool.resources.runtime.memory),
            ("service", service, pool.resources.service.memory),
        ):
            of = "runtime" if key == "triton" else key
            limit = part.memory if part is not None else None
            if asked and limit and memory_bytes(asked) > memory_bytes(limit) and pool.runtime == "triton":
                yield Problem(
                    f"nodes[{position}].resources.{of}.memory",
                    f"expected at most the limit {key}.memory ({limit}), got {asked}",
                )


def _images(
    pools: Mapping[int, Pool], sections: Mapping[str, Any], images: Images | None
) -> Iterator[Problem]:
    edge: EdgeLlm | None = sections.get("edge_llm")
    runtimes = {pool.runtime for pool in pools.values()}
    sources: dict[str, ImageSource | None] = {"service": sections.get("service")}
    if "triton" in runtimes:
        sources["triton"] = sections.get("triton")
    if "edge-llm" in runtimes and edge is not None:
        sources |= {"edgeLlm.unitManager": edge.unit_manager, "edgeLlm.llmNode": edge.llm_node}
    for path, part in sources.items():
        source = part.source if part is not None else None
        if isinstance(source, str):
            yield from _tagged(f"{path}.image", source)
        elif source is not None and images is not None and images.registry is None:
            yield Problem(
                "images.registry",
                f"required: the cluster pulls the image of {path}, which is built; or set {path}.image",
            )
    gateway: Gateway | None = sections.get("gateway")
    if gateway is not None:
        yield from _tagged("gateway.image", gateway.image)
    for path, part in sources.items():
        user = getattr(part, "user", None)
        if user is not None and not re.fullmatch(r"[0-9]+(:[0-9]+)?", user):
            yield Problem(f"{path}.user", f"expected numbers such as 1000:1000, got {shown(user)}")


def _tagged(path: str, reference: str) -> Iterator[Problem]:
    """An image's reference says which one it is: pods that start later must not run another one."""
    last = reference.rpartition("/")[2]
    if "@sha256:" not in reference and (":" not in last or last.endswith(":latest")):
        yield Problem(path, f"expected a tag other than latest, or a digest, got {shown(reference)}")


def _entrance(kubernetes: Kubernetes, gateway: Gateway) -> Iterator[Problem]:
    if kubernetes.ingress is not None and kubernetes.route is not None:
        yield Problem("kubernetes.route", "expected kubernetes.ingress or kubernetes.route, got both")
    named = "public_host" in gateway.model_fields_set
    for key, needs in (
        ("ingress", kubernetes.ingress is not None),
        ("route", kubernetes.route is not None),
        ("tls.certManager", kubernetes.tls is not None and kubernetes.tls.cert_manager is not None),
    ):
        if needs and not named:
            yield Problem("gateway.publicHost", f"required with kubernetes.{key}: the name that clients use")
    ports = kubernetes.service.node_ports
    if kubernetes.service.type == "ClusterIP" and (ports.http or ports.grpc):
        yield Problem("kubernetes.service.nodePorts", "type ClusterIP opens no ports of machines")
    for key, port in (("http", ports.http), ("grpc", ports.grpc)):
        if port is not None and port == (ports.grpc if key == "http" else None):
            yield Problem("kubernetes.service.nodePorts.grpc", f"port {port} is also nodePorts.http")
    if gateway.http == gateway.grpc:
        yield Problem("gateway.grpc", f"port {gateway.grpc} is also gateway.http")
    if gateway.grpc_balancing == "layer4":
        yield Problem("gateway.grpcBalancing", "layer4 is for hosts; expected http2, which balances calls")


def _min_healthy(pools: Mapping[int, Pool], rollout: Rollout) -> Iterator[Problem]:
    for position, pool in pools.items():
        if isinstance(rollout.min_healthy, int) and 0 < pool.least <= rollout.min_healthy:
            yield Problem(
                "rollout.minHealthy",
                f"nodes[{position}] has {pool.least} pods, of which no machine could be emptied; expected "
                f"less, got {rollout.min_healthy}",
            )
