"""The containers of a node: their state, the GPUs in them, and their drift."""

import datetime
import re
import shlex
from collections.abc import Iterator, Mapping

from infra import names, service_settings
from infra.doctor.answers import failing
from infra.doctor.checks.drift import setting_differences
from infra.doctor.containers import Container
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.doctor.sites.host import HostSite

_LOG_LINES = 5
_CHECK_SECONDS = 5
_RECENT = datetime.timedelta(hours=24)


async def container(host: HostSite, name: str) -> Outcome:
    """Whether a container runs and is healthy; else how it ended, with the end of its log."""
    container = host.containers.get(name)
    if container is None:
        return problem(
            f"there is no container {name}",
            f"`pulumi up --refresh --stack {host.stack.name}` creates it again",
        )
    if await _healthy_again(host, container):
        return ok(f"{name} runs, healthy")
    if not container.running or container.health == "unhealthy":
        result = await host.access.run(f"docker logs --tail {_LOG_LINES} {shlex.quote(name)} 2>&1")
        log = result.stdout.strip()
        state = (
            f"unhealthy: {container.health_output}"
            if container.running
            else f"{container.status}, {container.ended}"
        )
        verb = "start" if container.status in ("exited", "created") else "restart"
        remedy = host.typed(f"docker {verb} {name}")
        if container.out_of_memory:
            remedy = (
                "give the part more memory (triton.memory, service.memory, …), or the host; then " + remedy
            )
        return problem(f"{name}: {state}" + (f"; its log ends:\n{log}" if log else ""), remedy)
    if container.restarts and _recent(container.started_at):
        return warning(
            f"{name} restarted {container.restarts} times, last at {container.started_at[:19]}; "
            f"{container.ended}",
            f"its log has the reasons: {host.typed(f'docker logs --since 24h {name}')}",
        )
    return ok(f"{name} runs" + (f", {container.health}" if container.health else ""))


async def _healthy_again(host: HostSite, container: Container) -> bool:
    """Whether a container that Docker calls unhealthy is healthy: after `docker unpause` Docker is late."""
    if not container.running or container.health != "unhealthy" or not container.health_check:
        return False
    check = shlex.join(["docker", "exec", container.name, *container.health_check])
    return (await host.access.run(f"timeout {_CHECK_SECONDS} {check}")).status == 0


def _recent(started_at: str) -> bool:
    try:
        started = datetime.datetime.fromisoformat(started_at[:19] + "+00:00")
    except ValueError:
        return False
    return datetime.datetime.now(datetime.UTC) - started < _RECENT


async def gpu(site: DockerNodeSite) -> Outcome:
    """Whether the node's runtime sees its GPUs: in its container, or in a temporary one of its image."""
    runtime = names.TRITON if site.node.runtime == "triton" else names.LLM_NODE
    host, name, image = site.host, site.container_name(runtime), site.images[runtime]
    container = host.containers.get(name)
    if container is not None and container.running:
        script = f"docker exec {shlex.quote(name)} nvidia-smi -L"
        where = f"in {name}"
        remedy = (
            f"{host.typed(f'docker restart {name}')} (a reloaded systemd takes the GPU from running "
            "containers); if that does not help, reinstall nvidia-container-toolkit"
        )
    else:
        present = await host.access.run(f"docker image inspect --format ok {shlex.quote(image)}")
        if present.status != 0:
            return warning(
                f"the image {image} is not on the host, so no container can be tried",
                f"run `pulumi up --stack {host.stack.name}`",
            )
        gpus = "all" if site.node.gpus == "all" else f'"device={",".join(map(str, site.node.gpus))}"'
        script = (
            f"docker run --rm --network none --entrypoint nvidia-smi --gpus {shlex.quote(gpus)}"
            f" {shlex.quote(image)} -L"
        )
        where = f"in a temporary container of {image}"
        remedy = "install nvidia-container-toolkit on the host and restart Docker"
    with failing(remedy, f"{where}: {{error}}"):
        output = await host.access.output(script)
    gpus_seen = re.sub(r" \(UUID: [^)]*\)", "", output.strip()).splitlines()
    return ok(f"{where}: {'; '.join(gpus_seen)}")


async def drift(site: DockerNodeSite) -> Outcome:
    """Whether the containers' images, GPUs, ports and settings are those that the stack declares."""
    with failing(site.start(names.SERVICE)):
        in_use = (await site.in_use()).keys
    differences = []
    for part in site.images:
        name = site.container_name(part)
        if (container := site.host.containers.get(name)) is not None:
            differences += [f"{name}: {text}" for text in _differences(site, part, container)]
    declared = service_settings.service_settings(site.stack, site.node)
    service = site.container_name(names.SERVICE)
    differences += [f"{service}: {text}" for text in setting_differences(declared, in_use)]
    # Without --refresh Pulumi does not see what somebody changed by hand.
    remedy = f"`pulumi up --refresh --stack {site.stack.name}`, or change the stack file"
    return worst(
        [warning(text, remedy) for text in differences], "images, GPUs, ports and settings are as declared"
    )


def _differences(site: DockerNodeSite, part: str, container: Container) -> Iterator[str]:
    image = site.images[part]
    if container.image != image:
        yield f"its image is {container.image}, declared is {image}"
    gpus: str | tuple[str, ...] = "none"
    if part in (names.TRITON, names.LLM_NODE):
        gpus = site.node.gpus if isinstance(site.node.gpus, str) else tuple(map(str, site.node.gpus))
    if container.gpus != gpus:
        yield f"its gpus are {_listed(container.gpus)}, declared is {_listed(gpus)}"
    ports = {outer: inner for inner, outer in names.published_by(site.stack, site.node, part).items()}
    if container.ports != ports:
        yield f"it publishes {_ports(container.ports)}, declared is {_ports(ports)}"
    env = {names.TRITON: site.stack.triton.env, names.SERVICE: site.stack.service.env}.get(part, {})
    for name, value in env.items():
        if container.environment.get(name) != value:
            yield f"its environment has another {name} than declared"


def _listed(gpus: str | tuple[str, ...]) -> str:
    return gpus if isinstance(gpus, str) else ", ".join(gpus)


def _ports(ports: Mapping[int, int]) -> str:
    return ", ".join(f"{outer}->{inner}" for outer, inner in sorted(ports.items())) or "no port"
