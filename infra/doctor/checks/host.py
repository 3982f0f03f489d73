"""A Docker host: SSH, Docker, GPUs, clock, disk, ports, and the stack's containers on it."""

import re
import shlex
import statistics
import time
from pathlib import PurePosixPath

from infra.doctor import containers
from infra.doctor.answers import failing
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.sites.host import HostSite
from infra.stack import SshHost
from infra.update import ports, preflight

OLDEST_DOCKER = (20, 10)
CLOCK_WARNING_SECONDS, CLOCK_PROBLEM_SECONDS = 5.0, 30.0
DISK_WARNING_KB, DISK_PROBLEM_KB = 5 << 20, 1 << 20


async def ssh(host: HostSite) -> Outcome:
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


def _no_ssh(host: HostSite, output: str) -> Outcome:
    reason, remedy = preflight.explain(host.requirements, preflight.NO_SSH, output)
    target = host.access.host
    if isinstance(target, SshHost) and "host key is not" in reason:
        remedy = _host_key_remedy(target, host.stack.ssh.known_hosts, changed="the known one" in reason)
    line = preflight.last_line(output)
    return problem(f"{reason} ({line})" if line and line not in reason else reason, remedy)


async def docker(host: HostSite) -> Outcome:
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


async def stack_containers(host: HostSite) -> Outcome:
    """The stack's containers on the host, which later checks use."""
    label = shlex.quote(host.label)
    with failing("look at Docker on the host: journalctl -u docker"):
        output = await host.access.output(
            f'ids=$(docker ps --all --quiet --filter {label}) || exit; [ -z "$ids" ] || docker inspect $ids'
        )
    host.containers = containers.parse(output)
    running = sum(container.running for container in host.containers.values())
    return ok(f"{running} running of {len(host.containers)} of the stack {host.stack.name}")


async def nvidia_runtime(host: HostSite) -> Outcome:
    """Whether Docker on the host accepts GPU requests."""
    result = await host.access.run(preflight.NVIDIA)
    if result.status != 0:
        return problem(*preflight.explain(host.requirements, result.status, result.output))
    return ok("Docker on the host accepts GPU requests")


async def gpu(host: HostSite) -> Outcome:
    """Whether the host's driver sees the GPUs that its nodes request."""
    remedy = (
        "install or repair the NVIDIA driver on the host (after a kernel update: reboot), "
        "then try: nvidia-smi; or set gpus: none"
    )
    with failing(remedy):
        output = await host.access.output(
            "nvidia-smi --query-gpu=index,name,driver_version,memory.used,memory.total --format=csv,noheader"
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


async def clock_skew(host: HostSite) -> Outcome:
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


async def disk(host: HostSite) -> Outcome:
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


async def ports_held(host: HostSite) -> Outcome:
    """Whether each of the stack's ports is free, or held by the stack's own container."""
    with failing("look at Docker on the host"):
        output = await host.access.output(ports.SCRIPT)
    return worst(
        [
            problem(taken.reason, taken.remedy)
            for taken in ports.taken(
                host.ports, output, host.stack.name, take_over=host.stack.rollout.take_over
            )
        ],
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
