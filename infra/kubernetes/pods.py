"""What every pod has in common: least privilege, bounded memory, variables in order."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from infra.kubernetes.labels import Manifest
from infra.stack import memory_bytes

#: The user and group of a pod's processes, and the group of its volumes.
USER = "1000:1000"
_MIB = 1 << 20


def quantity(size: str | int) -> str:
    """A size such as `16g`, or bytes, as Kubernetes writes it."""
    number = size if isinstance(size, int) else memory_bytes(size)
    return f"{number // _MIB}Mi" if number % _MIB == 0 else str(number)


def resources(
    limit: str | None,
    cpu: str,
    memory: str | None,
    default_memory: str,
    extended: Mapping[str, int] | None = None,
) -> Manifest:
    """What a container asks of the scheduler, and its limits.

    Without `memory` it asks for a quarter of its limit, and without a limit for `default_memory`. CPUs have
    no limit: it would stop a pod in the middle of an inference.
    """
    asked = memory or (str(max(memory_bytes(limit) // 4, _MIB)) if limit else default_memory)
    further = {name: str(count) for name, count in (extended or {}).items() if count}
    limits = {**({"memory": quantity(limit)} if limit else {}), **further}
    return {
        "requests": {"cpu": cpu, "memory": quantity(_whole(asked)), **further},
        **({"limits": limits} if limits else {}),
    }


def _whole(size: str) -> int:
    """Bytes, rounded up to whole mebibytes."""
    return math.ceil(memory_bytes(size) / _MIB) * _MIB


def variables(
    plain: Mapping[str, str], secret: str | None = None, keys: Sequence[str] = ()
) -> list[Manifest]:
    """A container's environment; `keys` are variables that the Secret of the name `secret` has."""
    made: dict[str, Manifest] = {name: {"name": name, "value": value} for name, value in plain.items()}
    for key in keys:
        made[key] = {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
    return [made[name] for name in sorted(made)]


def pod_security(user: str | None) -> Manifest:
    """A pod's security context; `user` is `uid` or `uid:gid`, None for the images' own, which may be root."""
    context: Manifest = {"seccompProfile": {"type": "RuntimeDefault"}}
    if user is not None:
        uid, _, gid = user.partition(":")
        context |= {"runAsNonRoot": uid != "0", "runAsUser": int(uid), "fsGroup": int(gid or uid)}
        context["runAsGroup"] = int(gid or uid)
        # Changing the owner of each file of a large volume would take minutes at every start.
        context["fsGroupChangePolicy"] = "OnRootMismatch"
    return context


def container_security(read_only: bool, user: str | None = None) -> Manifest:
    """A container's security context, with a `user` other than the pod's."""
    context: Manifest = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only,
    }
    if user is not None:
        uid, _, gid = user.partition(":")
        context |= {"runAsNonRoot": uid != "0", "runAsUser": int(uid)}
        context |= {"runAsGroup": int(gid)} if gid else {}
    return context


def command_probe(command: Sequence[str], **times: int) -> Manifest:
    """A probe by a command in the container."""
    return {"exec": {"command": list(command)}, **times}


def http_probe(path: str, port: str, scheme: str = "HTTP", **times: int) -> Manifest:
    """A probe by a request of the kubelet's."""
    return {"httpGet": {"path": path, "port": port, "scheme": scheme}, **times}


def empty(name: str, medium: str | None = None, size: str | None = None) -> Manifest:
    """A volume that is empty when the pod starts and goes with it."""
    source: dict[str, Any] = {**({"medium": medium} if medium else {})}
    if size:
        source["sizeLimit"] = quantity(size)
    return {"name": name, "emptyDir": source}


def mount(name: str, path: str, read_only: bool = False, sub_path: str = "") -> Manifest:
    """A volume's place in a container."""
    made: Manifest = {"name": name, "mountPath": path}
    if read_only:
        made["readOnly"] = True
    if sub_path:
        made["subPath"] = sub_path
    return made
