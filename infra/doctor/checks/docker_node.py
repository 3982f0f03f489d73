"""The containers of a node: their state, the GPUs in them, and their drift."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Mapping
from typing import Any

from infra import names, service_settings
from infra.connection import typed
from infra.doctor.answers import failing
from infra.doctor.checks import host as host_checks
from infra.doctor.checks.drift import keys, setting_differences
from infra.doctor.containers import Container
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.doctor.sites.host import ExaminedHost
from infra.image_references import sources
from infra.stack import Stack

_LOG_LINES = 5
_RECENT = datetime.timedelta(hours=24)


async def container(site: DockerNodeSite, part: str) -> Outcome:
    """Whether the container of one part of the node runs, and how it ended when it does not."""
    return await container_state(site.host, site.container_name(part), site.stack)


async def gpu_in_container(site: DockerNodeSite) -> Outcome:
    """Whether the runtime's container sees the node's GPUs."""
    runtime = names.TRITON if site.node.runtime == "triton" else names.LLM_NODE
    return await host_checks.gpu_in_container(
        site.host, site.node, site.container_name(runtime), site.image(runtime)
    )


async def drift(site: DockerNodeSite) -> Outcome:
    """Whether the containers' images, GPUs, ports and settings are those that the stack declares."""
    outcomes = []
    with failing(site.service_start):
        in_use = keys((await site.in_use()).file)
    for part in sources(site.stack, site.node):
        container = site.host.containers.get(site.container_name(part))
        if container is not None:
            outcomes += [_differs(site, part, text) for text in _differences(site, part, container)]
    declared = service_settings.service_settings(site.stack, site.node)
    outcomes += [_differs(site, names.SERVICE, text) for text in setting_differences(declared, in_use)]
    return worst(outcomes, "images, GPUs, ports and settings are as declared")


def _differs(site: DockerNodeSite, part: str, difference: str) -> Outcome:
    return warning(
        f"{site.container_name(part)}: {difference}",
        f"`pulumi up --stack {site.stack.name}` (with --refresh if somebody changed it by hand), "
        "or change the stack file",
    )


def _differences(site: DockerNodeSite, part: str, container: Container) -> list[str]:
    differences = []
    image = site.image(part)
    if container.image != image:
        differences.append(f"its image is {container.image}, declared is {image}")
    gpus: Any = "none"
    if part in (names.TRITON, names.LLM_NODE):
        gpus = site.node.gpus if isinstance(site.node.gpus, str) else tuple(map(str, site.node.gpus))
    if container.gpus != gpus:
        differences.append(f"its gpus are {_listed(container.gpus)}, declared is {_listed(gpus)}")
    published = names.published_by(site.stack, site.node, part)
    ports = {outer: inner for inner, outer in published.items()}
    if container.ports != ports:
        differences.append(f"it publishes {_ports(container.ports)}, declared is {_ports(ports)}")
    env = {names.TRITON: site.stack.triton.env, names.SERVICE: site.stack.service.env}.get(part, {})
    differences += [
        f"its environment has another {name} than declared"
        for name, value in env.items()
        if container.environment.get(name) != value
    ]
    return differences


async def container_state(host: ExaminedHost, name: str, stack: Stack) -> Outcome:
    """Whether a container runs and is healthy; else how it ended, with the end of its log."""
    container = host.containers.get(name)
    if container is None:
        return problem(
            f"there is no container {name}", f"`pulumi up --refresh --stack {stack.name}` creates it again"
        )
    if not container.running or container.health == "unhealthy":
        result = await host.access.run(f"docker logs --tail {_LOG_LINES} {shlex.quote(name)} 2>&1")
        log = result.stdout.strip()
        state = (
            f"unhealthy: {container.health_output}"
            if container.running
            else f"{container.status}, {container.ended}"
        )
        verb = "start" if container.status in ("exited", "created") else "restart"
        remedy = typed(host.access.host, stack.ssh, f"docker {verb} {name}")
        if container.out_of_memory:
            remedy = (
                "give the part more memory (triton.memory, service.memory, …), or the host; then " + remedy
            )
        return problem(f"{name}: {state}" + (f"; its log ends:\n{log}" if log else ""), remedy)
    if container.restarts and _recent(container.started_at):
        return warning(
            f"{name} restarted {container.restarts} times, last at {container.started_at[:19]}; "
            f"{container.ended}",
            "its log has the reasons: "
            + typed(host.access.host, stack.ssh, f"docker logs --since 24h {name}"),
        )
    return ok(f"{name} runs" + (f", {container.health}" if container.health else ""))


def _recent(started_at: str) -> bool:
    try:
        started = datetime.datetime.fromisoformat(started_at[:19] + "+00:00")
    except ValueError:
        return False
    return datetime.datetime.now(datetime.UTC) - started < _RECENT


def _listed(gpus: str | tuple[str, ...]) -> str:
    return gpus if isinstance(gpus, str) else ", ".join(gpus)


def _ports(ports: Mapping[int, int]) -> str:
    return ", ".join(f"{outer}->{inner}" for outer, inner in sorted(ports.items())) or "no port"
