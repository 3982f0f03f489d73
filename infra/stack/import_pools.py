"""Turns the stack file of a fleet on hosts into one for a Kubernetes cluster."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from infra.stack.kubernetes_rules import SENSELESS
from infra.stack.node import Node
from infra.stack.types import Stack

#: What stands for the names that only the user knows.
CLAIM, REGISTRY, CERTIFICATE = "claim://models", "registry.example.com/gpu", "ai-tls"
_POOL_KEYS = ("runtime", "tasks", "weight", "drained", "remote")


def import_pools(stack: Stack, written: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The keys of the stack in a cluster, and what the user has to look at, one line each.

    `stack` is the fleet on hosts, and `written` are the keys of its file, encrypted values as they are.
    """
    config = copy.deepcopy({key: value for key, value in written.items() if key != "nodes"})
    notes: list[str] = []
    kubernetes: dict[str, Any] = {"namespace": "default"}
    if stack.gateway.tls is not None:
        kubernetes["tls"] = {"secret": CERTIFICATE}
        notes.append(f"gateway.tls: make a Secret: kubectl create secret tls {CERTIFICATE} --cert … --key …")
    if stack.monitoring is not None and stack.monitoring.existing is None:
        kubernetes["monitoring"] = {"by": "operator"}
        notes.append(
            "kubernetes.monitoring.by: the Prometheus operator of the cluster gets the alerts, and Grafana's "
            "sidecar the dashboards; annotations where the cluster has no operator"
        )
    elif stack.monitoring is not None:
        notes.append(
            "monitoring.existing: the gateway's pods must reach it; see kubernetes.monitoring for alerts"
        )
    notes += [
        f"{path} is left out: {instead}"
        for path, instead in SENSELESS.items()
        if _take(config, path.split("."))
    ]
    gateway = config.get("gateway", {})
    if gateway.pop("grpcBalancing", None) == "layer4":
        notes.append("gateway.grpcBalancing is left out: the gateway in a cluster balances calls")
    pools = list(_pools(stack, _written_nodes(written)))
    notes += _models(stack, config)
    notes += _images(stack, config)
    notes += _rest(stack, config, pools)
    if any(node.gpus == "all" for node in stack.nodes):
        notes.append("nodes[].gpus: all the GPUs of a host are now one for each pod; say how many")
    for key in [key for key, value in config.items() if value == {}]:
        del config[key]
    return {"target": "kubernetes", "kubernetes": kubernetes, "nodes": pools, **config}, notes


def _take(config: Any, path: list[str]) -> bool:
    """Takes a key away; returns whether it was there."""
    *outer, last = path
    for key in outer:
        config = config.get(key) if isinstance(config, dict) else None
    return isinstance(config, dict) and config.pop(last, None) is not None


def _written_nodes(written: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [node if isinstance(node, dict) else {} for node in written["nodes"]]


def _pools(stack: Stack, written: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One pool for the nodes that are alike, with as many pods."""
    alike: dict[str, list[tuple[Node, dict[str, Any]]]] = {}
    for node, given in zip(stack.nodes, written, strict=True):
        own = {key: given[key] for key in _POOL_KEYS if key in given}
        alike.setdefault(f"{sorted(own.items())} {_gpus(node)}", []).append((node, own))
    taken: set[str] = set()
    for nodes in alike.values():
        node, own = nodes[0]
        name = base = "nodes" if len(alike) == 1 else _named(node)
        number = 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        yield {"name": name, "replicas": len(nodes), "gpus": _gpus(node), **copy.deepcopy(own)}


def _named(node: Node) -> str:
    if node.runtime != "triton":
        return node.runtime
    return "all-tasks" if node.serves_all else "-".join(node.tasks)


def _gpus(node: Node) -> int:
    if node.gpus in ("all", "none"):
        return int(node.gpus == "all")
    return len(node.gpus)


def _models(stack: Stack, config: dict[str, Any]) -> Iterator[str]:
    if stack.models.object_store or all(node.runtime == "remote" for node in stack.nodes):
        return
    models = config.setdefault("models", {})
    models["source"] = CLAIM
    if stack.models.source == "host":
        models.pop("path", None)
    else:
        models["path"] = stack.models.path
    yield f"models.source: {CLAIM} is a PersistentVolumeClaim with the hosts' models; make it first"


def _images(stack: Stack, config: dict[str, Any]) -> Iterator[str]:
    images = config.setdefault("images", {})
    if stack.images.registry is None and not isinstance(stack.service.source, str):
        images["registry"] = REGISTRY
        yield f"images.registry: {REGISTRY} stands for the registry that the cluster pulls your images from"


def _rest(stack: Stack, config: dict[str, Any], pools: list[dict[str, Any]]) -> Iterator[str]:
    """What fits hosts and does not fit pods."""
    rollout = config.get("rollout", {})
    least = stack.rollout.min_healthy
    if isinstance(least, int) and least and any(pool["replicas"] <= least for pool in pools):
        del rollout["minHealthy"]
        yield "rollout.minHealthy is left out: it is now for each pool, and none has more pods"
    user = stack.triton.user
    if user is not None and not user.replace(":", "").isdecimal():
        del config["triton"]["user"]
        yield "triton.user is left out: a pod's user is a number"
