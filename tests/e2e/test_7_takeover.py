"""A fleet of the original service, started by its compose file, is taken over node by node."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra.names import SETTINGS_FILE
from tests.e2e.deployment import Site
from tests.e2e.lab.host import Host, wait_until
from tests.e2e.lab.load import load

pytestmark = pytest.mark.long

# As the original service's site: the upstream includes the file that its script wrote.
SITE = """\
user nobody nogroup;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {}
http {
    access_log off;
    upstream ai_inference_service {
        include /etc/nginx/conf.d/ai_inference_service.servers*.conf;
    }
    server {
        listen 8080;
        location /api/v1/ai/ {
            proxy_pass http://ai_inference_service;
            proxy_next_upstream error timeout http_503 non_idempotent;
        }
    }
}
"""
UPSTREAMS = "/etc/nginx/conf.d/ai_inference_service.servers.local.conf"
TRITON, SERVICE = "gpu-ai-triton-1", "gpu-ai-ai-inference-service-1"
PARTS = {
    # The name of the original's container, its service in the compose file, and the ports that it publishes.
    "triton": (TRITON, "triton", (8000, 8001, 8002)),
    "service": (SERVICE, "ai-inference-service", (8800, 9800)),
}


def original_of(host: Host, node: str) -> list[list[str]]:
    """The calls of `docker` that start on a host what the compose file did: with the images and settings of
    the stack's node there, because the original's own images are not to be had."""
    tmpfs = ["--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=size=1g,mode=1777"]
    calls = [["network", "create", "gpu-ai_default"], ["volume", "create", *tmpfs, "gpu-ai_shm"]]
    for part, (container, service, ports) in PARTS.items():
        described: dict[str, Any] = json.loads(host.docker("inspect", f"e2e-{node}-{part}").stdout)[0]
        config = described["Config"]
        run = ["run", "--detach", "--init", "--name", container, "--restart", "always"]
        run += ["--network", "gpu-ai_default", "--network-alias", part, "--network-alias", service]
        labels = {"com.docker.compose.project": "gpu-ai", "com.docker.compose.service": service}
        run += [f"--label={key}={value}" for key, value in labels.items()]
        run += [f"--publish={port}:{port}" for port in ports]
        run += [f"--env={text}" for text in config["Env"]]
        run += ["--volume=gpu-ai_shm:/dev/shm", "--user", config["User"]]
        if part == "triton":
            run.append("--volume=/srv/models:/models:ro")
        else:
            run.append(f"--volume=/etc/original.yaml:{SETTINGS_FILE}:ro")
        # An entry point in an image comes before the command.
        calls.append([*run, config["Image"], *(config["Cmd"] or [])])
    return calls


def start_original(site: Site) -> None:
    """Replaces the stack by the original service on every host."""
    started = {}
    for number, host in enumerate(site.gpu_hosts(), start=1):
        node = f"gpu-{number}"
        started[host.name] = original_of(host, node)
        copied = f"/opt/gpu-inference/e2e/{node}/models/repository"
        settings = f"docker cp e2e-{node}-service:{SETTINGS_FILE} /etc/original.yaml"
        host.run("sh", "-c", f"{settings}; chmod 644 /etc/original.yaml; cp -rL {copied} /srv/models")
    site.program.destroy().check()
    for host in site.gpu_hosts():
        for call in started[host.name]:
            host.docker(*call)


@pytest.fixture(scope="module")
def original(deployed: Site) -> Iterator[Site]:
    """The original service on both hosts, behind a site's own nginx. At the end nothing is deployed."""
    deployed.settle()
    gateway = deployed.gateway
    try:
        start_original(deployed)
        servers = "".join(f"server {host.address}:8800;\n" for host in deployed.gpu_hosts())
        gateway.run("sh", "-c", "cat >/etc/nginx/nginx.conf", stdin=SITE.encode())
        gateway.run("sh", "-c", f"cat >{UPSTREAMS}", stdin=servers.encode())
        gateway.run("nginx")
        for host in deployed.gpu_hosts():
            wait_until(f"the original serves on {host.name}", functools.partial(deployed.healthy, host), 60)
        deployed.config["gateway"] = {"mode": "existing", "host": gateway.url}
        yield deployed
        deployed.program.destroy().check()
    finally:
        for host in deployed.gpu_hosts():
            host.docker("rm", "--force", TRITON, SERVICE, check=False)
            host.docker("network", "rm", "gpu-ai_default", check=False)
            host.docker("volume", "rm", "gpu-ai_shm", check=False)
            host.run("rm", "-rf", "/srv/models", "/etc/original.yaml")
        gateway.run("nginx", "-s", "stop", check=False)
        gateway.run("rm", "-f", UPSTREAMS)


def state_of(host: Host) -> dict[str, str]:
    """Whether each container of the original runs, and whether Docker starts it again."""
    form = "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}"
    names = (TRITON, SERVICE)
    return {name: host.docker("inspect", "--format", form, name).stdout.strip() for name in names}


def test_without_take_over_nothing_changes_and_the_holders_are_named(original: Site) -> None:
    update = original.up()
    assert update.returncode != 0
    said = update.diagnostics
    assert (
        f"nodes[0].ports.http: port 8800 is taken by the container {SERVICE} of the original service" in said
    )
    assert "gpu-inference:rollout.takeOver: true" in said
    assert "docker stop" not in said
    assert all(set(state_of(host).values()) == {"running always"} for host in original.gpu_hosts())


def test_a_takeover_that_fails_starts_the_original_again(original: Site) -> None:
    original.config["rollout"]["takeOver"] = True
    original.config["service"]["memory"] = "16m"
    with load(original.request, rate=20) as seen:
        update = original.up()
    original.config["service"].pop("memory")
    assert update.returncode != 0
    assert f"{TRITON}, {SERVICE}" in update.diagnostics, update.diagnostics
    assert not seen.failures, seen.summary()
    print(seen.summary())
    assert all(set(state_of(host).values()) == {"running always"} for host in original.gpu_hosts())


def test_the_original_is_replaced_node_by_node_without_a_failed_request(original: Site) -> None:
    original.config["rollout"]["takeOver"] = True
    with load(original.request, rate=20) as seen:
        change = original.change()
    print(f"{change.applied.seconds:.0f} s, {seen.summary()}")
    assert not seen.failures, seen.summary()
    for number, host in enumerate(original.gpu_hosts(), start=1):
        assert set(state_of(host).values()) == {"exited no"}
        assert {f"e2e-gpu-{number}-triton", f"e2e-gpu-{number}-service"} <= set(host.containers())
    listed = original.gateway.run("ls", "/etc/nginx/conf.d").stdout.split()
    assert sorted(listed) == [
        "ai_inference_service.servers.e2e.conf",
        "ai_inference_service.servers.local.conf.set-aside-by-e2e",
    ]
    assert "emotions" in original.ask()
    original.config["rollout"].pop("takeOver")
    assert original.up().check().steps == {}
