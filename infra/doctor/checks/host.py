"""A Docker host: SSH, Docker, GPUs, clock, disk, ports, and the containers that the stack has there."""

from __future__ import annotations

import re
import shlex
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from infra import names
from infra.connection import typed
from infra.doctor import containers
from infra.doctor.containers import Container
from infra.doctor.findings import Outcome, Status, ok, problem, warning, worst
from infra.doctor.reach import Reach
from infra.stack import Node, SshHost, Stack
from infra.update import ports, preflight

OLDEST_DOCKER = (20, 10)
CLOCK_WARNING_SECONDS, CLOCK_PROBLEM_SECONDS = 5.0, 30.0
DISK_WARNING_KB, DISK_PROBLEM_KB = 5 << 20, 1 << 20


@dataclass
class HostChecks:
    """The questions to one host; what the answers tell is kept for the checks that come later."""

    reach: Reach
    asked: preflight.Check
    stack: Stack
    nodes: Sequence[Node]
    ports: Sequence[ports.Port]
    #: Seconds by which the host's clock is ahead of this computer's.
    clock: float | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    docker_root: str = "/var/lib/docker"

    # SSH and Docker -------------------------------------------------------------------------------------

    async def ssh(self) -> Outcome:
        """Whether a command runs there, under a host key that is known."""
        begin = time.monotonic()
        refused = await self.reach.connect()
        if refused is not None:
            return self._no_ssh(refused.said)
        seconds = time.monotonic() - begin
        before = time.time()
        said = await self.reach.run("date -u +%s.%N")
        if said.status == 255:
            return self._no_ssh(said.said)
        number = re.match(r"\d+(\.\d+)?", said.out)
        if number is not None:
            self.clock = float(number[0]) - (before + time.time()) / 2
        return ok(f"connected in {seconds:.1f} s")

    def _no_ssh(self, said: str) -> Outcome:
        reason, remedy = preflight.explain(self.asked, 255, said)
        host = self.reach.host
        if isinstance(host, SshHost) and "host key is not" in reason:
            remedy = _host_key_remedy(host, self.stack.ssh.known_hosts, changed="the known one" in reason)
        words = preflight.last_line(said)
        return problem(f"{reason} ({words})" if words and words not in reason else reason, remedy)

    async def docker(self) -> Outcome:
        """Whether the daemon answers, and its version."""
        done = await self.reach.run(
            "docker version --format '{{.Server.Version}}' || exit; docker info --format '{{.DockerRootDir}}'"
        )
        if done.status != 0:
            status = 41 if done.status != 255 else 255
            return problem(*preflight.explain(self.asked, status, done.said))
        version, _, root = done.out.strip().partition("\n")
        numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
        if numbers < OLDEST_DOCKER:
            return problem(f"Docker {version}", "update Docker on the host to 20.10 or later")
        self.docker_root = root or self.docker_root
        return ok(f"Docker {version}")

    async def stack_containers(self) -> Outcome:
        """What the stack has there, read for the checks that follow."""
        label = shlex.quote(f"label={names.STACK_LABEL}={self.stack.name}")
        done = await self.reach.run(
            f'ids=$(docker ps --all --quiet --filter {label}) || exit; [ -z "$ids" ] || docker inspect $ids'
        )
        if done.status != 0:
            return problem(done.last_line, "look at Docker on the host: journalctl -u docker")
        self.containers = containers.parse(done.out)
        running = sum(container.running for container in self.containers.values())
        return ok(f"{running} running of {len(self.containers)} of the stack {self.stack.name}")

    # GPUs -----------------------------------------------------------------------------------------------

    async def nvidia_runtime(self) -> Outcome:
        """Whether Docker takes GPU requests there."""
        done = await self.reach.run(preflight.NVIDIA)
        if done.status != 0:
            return problem(*preflight.explain(self.asked, done.status, done.said))
        return ok("Docker there takes GPU requests")

    async def gpu(self) -> Outcome:
        """Whether the host's driver sees the GPUs that its nodes ask for."""
        done = await self.reach.run(
            "nvidia-smi --query-gpu=index,name,driver_version,memory.used,memory.total --format=csv,noheader"
        )
        if done.status != 0:
            return problem(
                done.last_line,
                "install or repair the NVIDIA driver on the host (after a kernel update: reboot), "
                "then try: nvidia-smi; or set gpus: none",
            )
        rows = [line.split(", ") for line in done.out.splitlines() if line.strip()]
        indices = [row[0] for row in rows]
        wanted = sorted({index for node in self.nodes if isinstance(node.gpus, list) for index in node.gpus})
        missing = [str(index) for index in wanted if str(index) not in indices]
        if missing or not rows:
            return problem(
                f"GPU {', '.join(missing) or 0} is not there; nvidia-smi has: {', '.join(indices) or 'none'}",
                "set gpus of the node to indices that are there",
            )
        return ok("; ".join(", ".join(row) for row in rows))

    async def gpu_in_container(self, node: Node, container: str, image: str) -> Outcome:
        """Whether the runtime sees its GPUs: asked in its own container, or in one that is thrown away."""
        there = self.containers.get(container)
        if there is not None and there.running:
            done = await self.reach.run(f"docker exec {shlex.quote(container)} nvidia-smi -L")
            where = f"in {container}"
            restart = typed(self.reach.host, self.stack.ssh, f"docker restart {container}")
            remedy = (
                f"{restart} (a reloaded systemd takes the GPU from running containers); "
                "if that does not help, reinstall nvidia-container-toolkit"
            )
        else:
            found = await self.reach.run(f"docker image inspect --format ok {shlex.quote(image)}")
            if found.status != 0:
                return warning(
                    f"the image {image} is not on the host, so no container can be tried",
                    f"run `pulumi up --stack {self.stack.name}`",
                )
            gpus = "all" if node.gpus == "all" else f'"device={",".join(map(str, node.gpus))}"'
            done = await self.reach.run(
                f"docker run --rm --network none --entrypoint nvidia-smi --gpus {shlex.quote(gpus)}"
                f" {shlex.quote(image)} -L"
            )
            where = f"in a container of {image}, thrown away"
            remedy = "install nvidia-container-toolkit on the host and restart Docker"
        if done.status != 0:
            return problem(f"{where}: {done.last_line}", remedy)
        seen = re.sub(r" \(UUID: [^)]*\)", "", done.out.strip()).splitlines()
        return ok(f"{where}: {'; '.join(seen)}")

    # Clock, disk, ports ---------------------------------------------------------------------------------

    async def clock_skew(self, fleet: Iterable[HostChecks]) -> Outcome:
        """The host's clock against the fleet's middle, so that this computer's own clock accuses nobody."""
        if self.clock is None:
            return warning("the host's `date` gives no seconds", "see what `date -u +%s` says there")
        clocks = [other.clock for other in fleet if other.clock is not None]
        middle = statistics.median(clocks) if len(clocks) >= 3 else 0.0
        skew = self.clock - middle
        against = "the fleet's middle" if len(clocks) >= 3 else "this computer"
        seen = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} {against}"
        remedy = "turn on time synchronisation there: timedatectl set-ntp true"
        if abs(skew) > CLOCK_PROBLEM_SECONDS:
            return problem(seen, remedy)
        return warning(seen, remedy) if abs(skew) > CLOCK_WARNING_SECONDS else ok(seen)

    async def disk(self) -> Outcome:
        """The space where Docker keeps images, and where models and configurations are."""
        folders = {self.docker_root: "images", self.stack.remote_dir: "models and configurations"}
        if self.stack.models.source == "host" and any(node.runtime != "remote" for node in self.nodes):
            folders[self.stack.models.path] = "models"
        script = "".join(
            f'at={shlex.quote(folder)}; while [ ! -e "$at" ]; do at=$(dirname "$at"); done; '
            'df -Pk "$at" | tail -n 1; df -Pi "$at" | tail -n 1; '
            for folder in folders
        )
        done = await self.reach.run(script)
        lines = [line.split() for line in done.out.splitlines()]
        if done.status != 0 or len(lines) != 2 * len(folders):
            return problem(done.last_line, "see what `df` says on the host")
        outcomes = []
        for (folder, use), blocks, inodes in zip(folders.items(), lines[::2], lines[1::2], strict=True):
            outcomes.append(_space(folder, use, blocks, inodes))
        seen = dict.fromkeys(f"{outcome.seen}" for outcome in outcomes)
        return worst(outcomes, "; ".join(seen))

    async def ports_held(self) -> Outcome:
        """Whether each of the stack's ports there is free, or held by the stack's own container."""
        done = await self.reach.run(ports.ASK)
        if done.status != 0:
            return problem(done.last_line, "look at Docker on the host")
        outcomes = [problem(found.reason, found.remedy) for found in ports.taken(self.ports, done.out)]
        return worst(
            outcomes, ", ".join(f"{port.number} ({port.key.rpartition('.')[2]})" for port in self.ports)
        )


def _host_key_remedy(host: SshHost, known_hosts: str | None, *, changed: bool) -> str:
    """The commands that put the right host key in place."""
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
            "if it was not, somebody may be in between: do not connect"
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
    return warning(seen, remedy) if free < DISK_WARNING_KB else Outcome(Status.OK, seen)


def _size(kilobytes: int) -> str:
    return f"{kilobytes / (1 << 20):.1f} GiB" if kilobytes >= 1 << 20 else f"{kilobytes / 1024:.0f} MiB"
