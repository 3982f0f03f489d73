"""What an update that was killed left on the hosts without the state knowing it.

Pulumi notes every operation in the state before it begins it, and takes the note away when it has the result.
A note that is still there names a container or network that may exist on its host although the state does not
have it; its name and ports would be in the way of the next update, so it is removed there before anything is
declared.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

#: Pulumi's type of a resource, and Docker's word for it.
_KINDS = {"docker:index/container:Container": "container", "docker:index/network:Network": "network"}
_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Unrecorded:
    """A container or network that was being made when an update was killed."""

    kind: str
    """container or network"""
    name: str
    docker_host: str
    """Where: ssh://user@host[:port] or unix:///path."""
    ssh_options: tuple[str, ...]
    """What the state's provider passes to `ssh`."""


def unrecorded(deployment: dict[str, Any]) -> Iterator[Unrecorded]:
    """What a state (`state.export`) says was being made when its update was killed."""
    resources = deployment.get("resources", [])
    providers = {f"{each['urn']}::{each['id']}": each for each in resources if "id" in each}
    for operation in deployment.get("pending_operations", []):
        resource = operation["resource"]
        provider = providers.get(resource.get("provider", ""))
        kind = _KINDS.get(resource["type"])
        if operation["type"] == "creating" and kind and provider:
            inputs = provider["inputs"]
            yield Unrecorded(
                kind=kind,
                name=resource["inputs"]["name"],
                docker_host=inputs["host"],
                ssh_options=tuple(json.loads(inputs.get("sshOpts", "[]"))),
            )


def clear(deployment: dict[str, Any]) -> list[str]:
    """Removes from the hosts what a killed update had made and the state (`state.export`) does not have.

    Returns a sentence for each thing that was removed or could not be reached. Raises RuntimeError when
    Docker refuses.
    """
    recorded = {each["id"] for each in deployment.get("resources", []) if "id" in each}
    return [said for each in unrecorded(deployment) if (said := _remove(each, recorded))]


def _remove(thing: Unrecorded, recorded: set[str]) -> str | None:
    where = f"{thing.kind} {thing.name} on {thing.docker_host}"
    try:
        seen = _docker(thing, thing.kind, "inspect", "--format", "{{.Id}}", thing.name)
        if seen.returncode == 255:
            return f"{where}, left by an interrupted update, cannot be reached: {seen.stderr.strip()}"
        if seen.returncode or seen.stdout.strip() in recorded:
            return None
        options = ["--force", "--volumes"] if thing.kind == "container" else []
        removed = _docker(thing, thing.kind, "rm", *options, seen.stdout.strip())
    except subprocess.TimeoutExpired:
        return f"{where}, left by an interrupted update, cannot be reached within {_PATIENCE_SECONDS} s"
    if removed.returncode:
        raise RuntimeError(f"{where}, left by an interrupted update, stays: {removed.stderr.strip()}")
    return f"removed {where}, left by an interrupted update"


def _docker(thing: Unrecorded, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = urlsplit(thing.docker_host)
    if url.scheme == "ssh":
        port = ["-p", str(url.port)] if url.port else []
        target = f"{url.username}@{url.hostname}" if url.username else str(url.hostname)
        remote = shlex.join(["docker", *arguments])
        command = ["ssh", *thing.ssh_options, *port, "-o", "BatchMode=yes", "--", target, remote]
    else:
        command = ["docker", "--host", thing.docker_host, *arguments]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
    )
