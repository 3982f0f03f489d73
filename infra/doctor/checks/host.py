"""A Docker host: SSH, Docker, GPUs, clock, disk, ports, and the stack's containers on it."""

from __future__ import annotations

import re
import shlex
import statistics
import time
from pathlib import PurePosixPath

from infra.connection import typed
from infra.doctor import containers
from infra.doctor.findings import Failed, Outcome, ok, problem, warning, worst
from infra.doctor.sites.host import ExaminedHost
from infra.stack import Node, SshHost
from infra.update import ports, preflight

OLDEST_DOCKER = (20, 10)
CLOCK_WARNING_SECONDS, CLOCK_PROBLEM_SECONDS = 5.0, 30.0
DISK_WARNING_KB, DISK_PROBLEM_KB = 5 << 20, 1 << 20


async def _run(host: ExaminedHost, script: str, remedy: str) -> str:
    """What the script prints on the host. Raises Failed when it fails."""
    result = await host.access.run(script)
    if result.status != 0:
        raise Failed(problem(result.last_line, remedy))
    return result.stdout


# SSH and Docker -------------------------------------------------------------------------------------


async def ssh(host: ExaminedHost) -> Outcome:
    """Whether the host runs a command, under a known host key; measures its clock."""
    begin = time.monotonic()
    refusal = await host.access.connect()
    if refusal is not None:
        return _no_ssh(host, refusal.output)
    seconds = time.monotonic() - begin
    before = time.time()
    result = await host.access.run("date -u +%s.%N")
    if result.status == preflight.NO_SSH:
        return _no_ssh(host, result.output)
    number = re.match(r"\d+(\.\d+)?", result.stdout)
    if number is not None:
        host.clock = float(number[0]) - (before + time.time()) / 2
    return ok(f"connected in {seconds:.1f} s")


def _no_ssh(host: ExaminedHost, output: str) -> Outcome:
    reason, remedy = preflight.explain(host.requirements, preflight.NO_SSH, output)
    target = host.access.host
    if isinstance(target, SshHost) and "host key is not" in reason:
        remedy = _host_key_remedy(target, host.stack.ssh.known_hosts, changed="the known one" in reason)
    line = preflight.last_line(output)
    return problem(f"{reason} ({line})" if line and line not in reason else reason, remedy)


async def docker(host: ExaminedHost) -> Outcome:
    """Whether the daemon answers, and its version."""
    result = await host.access.run(
        "docker version --format '{{.Server.Version}}' || exit; docker info --format '{{.DockerRootDir}}'"
    )
    if result.status != 0:
        status = preflight.NO_SSH if result.status == preflight.NO_SSH else preflight.NO_DOCKER
        return problem(*preflight.explain(host.requirements, status, result.output))
    version, _, root = result.stdout.strip().partition("\n")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers < OLDEST_DOCKER:
        return problem(f"Docker {version}", "update Docker on the host to 20.10 or later")
    host.docker_root = root or host.docker_root
    return ok(f"Docker {version}")


async def stack_containers(host: ExaminedHost) -> Outcome:
    """The stack's containers on the host, which later checks use."""
    label = shlex.quote(host.label)
    output = await _run(
        host,
        f'ids=$(docker ps --all --quiet --filter {label}) || exit; [ -z "$ids" ] || docker inspect $ids',
        "look at Docker on the host: journalctl -u docker",
    )
    host.containers = containers.parse(output)
    running = sum(container.running for container in host.containers.values())
    return ok(f"{running} running of {len(host.containers)} of the stack {host.stack.name}")


# GPUs -----------------------------------------------------------------------------------------------


async def nvidia_runtime(host: ExaminedHost) -> Outcome:
    """Whether Docker on the host accepts GPU requests."""
    result = await host.access.run(preflight.NVIDIA)
    if result.status != 0:
        return problem(*preflight.explain(host.requirements, result.status, result.output))
    return ok("Docker on the host accepts GPU requests")


async def gpu(host: ExaminedHost) -> Outcome:
    """Whether the host's driver sees the GPUs that its nodes request."""
    output = await _run(
        host,
        "nvidia-smi --query-gpu=index,name,driver_version,memory.used,memory.total --format=csv,noheader",
        "install or repair the NVIDIA driver on the host (after a kernel update: reboot), "
        "then try: nvidia-smi; or set gpus: none",
    )
    rows = [line.split(", ") for line in output.splitlines() if line.strip()]
    indices = [row[0] for row in rows]
    requested = {index for node in host.nodes if isinstance(node.gpus, list) for index in node.gpus}
    missing = [str(index) for index in sorted(requested) if str(index) not in indices]
    if missing or not rows:
        return problem(
            f"GPU {', '.join(missing) or 0} is not there; nvidia-smi has: {', '.join(indices) or 'none'}",
            "set gpus of the node to indices that nvidia-smi has",
        )
    return ok("; ".join(", ".join(row) for row in rows))


async def gpu_in_container(host: ExaminedHost, node: Node, name: str, image: str) -> Outcome:
    """Whether a node's runtime sees its GPUs: in its container, or in a temporary one of its image."""
    container = host.containers.get(name)
    if container is not None and container.running:
        result = await host.access.run(f"docker exec {shlex.quote(name)} nvidia-smi -L")
        where = f"in {name}"
        restart = typed(host.access.host, host.stack.ssh, f"docker restart {name}")
        remedy = (
            f"{restart} (a reloaded systemd takes the GPU from running containers); "
            "if that does not help, reinstall nvidia-container-toolkit"
        )
    else:
        present = await host.access.run(f"docker image inspect --format ok {shlex.quote(image)}")
        if present.status != 0:
            return warning(
                f"the image {image} is not on the host, so no container can be tried",
                f"run `pulumi up --stack {host.stack.name}`",
            )
        gpus = "all" if node.gpus == "all" else f'"device={",".join(map(str, node.gpus))}"'
        result = await host.access.run(
            f"docker run --rm --network none --entrypoint nvidia-smi --gpus {shlex.quote(gpus)}"
            f" {shlex.quote(image)} -L"
        )
        where = f"in a temporary container of {image}"
        remedy = "install nvidia-container-toolkit on the host and restart Docker"
    if result.status != 0:
        return problem(f"{where}: {result.last_line}", remedy)
    gpus_seen = re.sub(r" \(UUID: [^)]*\)", "", result.stdout.strip()).splitlines()
    return ok(f"{where}: {'; '.join(gpus_seen)}")


# Clock, disk, ports ---------------------------------------------------------------------------------


async def clock_skew(host: ExaminedHost) -> Outcome:
    """The host's clock against the fleet's median: this computer's own clock may be wrong."""
    if host.clock is None:
        return warning("`date` on the host prints no seconds", "look at its output: date -u +%s")
    clocks = [other.clock for other in host.fleet if other.clock is not None]
    median = statistics.median(clocks) if len(clocks) >= 3 else 0.0
    skew = host.clock - median
    reference = "the fleet's median" if len(clocks) >= 3 else "this computer"
    seen = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} {reference}"
    remedy = "turn on time synchronisation on the host: timedatectl set-ntp true"
    if abs(skew) > CLOCK_PROBLEM_SECONDS:
        return problem(seen, remedy)
    return warning(seen, remedy) if abs(skew) > CLOCK_WARNING_SECONDS else ok(seen)


async def disk(host: ExaminedHost) -> Outcome:
    """The free space where Docker keeps images, and where models and configurations are."""
    folders = {host.docker_root: "images", host.stack.remote_dir: "models and configurations"}
    if host.stack.models.source == "host" and any(node.runtime != "remote" for node in host.nodes):
        folders[host.stack.models.path] = "models"
    script = "".join(
        f'at={shlex.quote(folder)}; while [ ! -e "$at" ]; do at=$(dirname "$at"); done; '
        'df -Pk "$at" | tail -n 1; df -Pi "$at" | tail -n 1; '
        for folder in folders
    )
    result = await host.access.run(script)
    lines = [line.split() for line in result.stdout.splitlines()]
    if result.status != 0 or len(lines) != 2 * len(folders):
        return problem(result.last_line, "look at the output of `df` on the host")
    outcomes = [
        _space(folder, use, blocks, inodes)
        for (folder, use), blocks, inodes in zip(folders.items(), lines[::2], lines[1::2], strict=True)
    ]
    return worst(outcomes, "; ".join(dict.fromkeys(outcome.seen for outcome in outcomes)))


async def ports_held(host: ExaminedHost) -> Outcome:
    """Whether each of the stack's ports is free, or held by the stack's own container."""
    output = await _run(host, ports.SCRIPT, "look at Docker on the host")
    return worst(
        [problem(taken.reason, taken.remedy) for taken in ports.taken(host.ports, output)],
        ", ".join(f"{port.number} ({port.key.rpartition('.')[2]})" for port in host.ports),
    )


def _host_key_remedy(host: SshHost, known_hosts: str | None, *, changed: bool) -> str:
    """The commands that store the right host key."""
    port = f"-p {host.port} " if host.port else ""
    name = f"'[{host.address}]:{host.port}'" if host.port not in (None, 22) else host.address
    file = f" -f {known_hosts}" if known_hosts else ""
    scan = f"ssh-keyscan {port}{host.address} >> {known_hosts or '~/.ssh/known_hosts'}"
    compare = (
        "compare its fingerprint with the host's own: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub there"
    )
    if changed:
        return (
            f"if the host was reinstalled: ssh-keygen -R {name}{file}, then {scan}, and {compare}; "
            "if it was not, somebody may intercept the connection: do not connect"
        )
    return f"{scan}, and {compare}"


def _space(folder: str, use: str, blocks: list[str], inodes: list[str]) -> Outcome:
    free = int(blocks[3])
    mount = blocks[5]
    seen = f"{_size(free)} free on {mount} ({folder}: {use})"
    remedy = (
        "free space there: docker image prune, docker builder prune, old models; du -xh --max-depth=2 "
        f"{PurePosixPath(mount)} shows what is large"
    )
    if free < DISK_PROBLEM_KB:
        return problem(seen, remedy)
    if inodes[1].isdigit() and int(inodes[1]) > 0 and int(inodes[3]) == 0:
        return problem(f"no inodes free on {mount} ({folder}: {use})", remedy)
    return warning(seen, remedy) if free < DISK_WARNING_KB else ok(seen)


def _size(kilobytes: int) -> str:
    return f"{kilobytes / (1 << 20):.1f} GiB" if kilobytes >= 1 << 20 else f"{kilobytes / 1024:.0f} MiB"
