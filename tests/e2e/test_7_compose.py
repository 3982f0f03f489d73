"""The compose file of examples/, started by Docker Compose itself on a host that has nothing else.

The images that it builds stand on the laboratory's base images, which have the names of the public ones here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import RECORDING
from tests.e2e.lab.fleet import Fleet
from tests.e2e.lab.host import Host
from tests.e2e.lab.images import SERVICE_BASE, TRITON_BASE
from tests.e2e.lab.program import LEFT_OUT, PROJECT
from tests.e2e.test_9_documents import BASES, KEY, WORDS

#: Where Docker looks for its plugins.
PLUGINS = [
    Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "cli-plugins",
    *(
        Path(folder) / "docker/cli-plugins"
        for folder in ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")
    ),
]
COMPOSE = next((each for folder in PLUGINS if (each := folder / "docker-compose").is_file()), None)
FILE = "examples/compose/compose.yaml"
#: The laboratory's Triton has no CUDA, and its hosts no package index.
OVERRIDE = "services: {triton: {build: {args: {CUBLAS: ''}}}}\n"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(COMPOSE is None, reason="the plugin docker-compose is not installed"),
]


@pytest.fixture
def host(fleet: Fleet, docker_data: Path) -> Iterator[Host]:
    """A host with GPUs on which nothing is deployed."""
    host = fleet.add("compose", gpu=True, docker_data=docker_data)
    host.power_on()
    host.wait_ready()
    yield host
    fleet.hosts.pop("compose").remove()


def ask(host: Host, *headers: str) -> tuple[int, dict[str, Any]]:
    """The status and the body that the service answers to the recording, asked from its own host."""
    given = [word for header in headers for word in ("--header", header)]
    url = "http://127.0.0.1:8800/api/v1/ai/asr"
    arguments = ["--silent", "--max-time", "90", "--write-out", "\n%{http_code}", "--data-binary", "@-"]
    done = host.run("curl", *arguments, *given, url, stdin=RECORDING.read_bytes())
    body, _, status = done.stdout.rpartition("\n")
    return int(status), dict(json.loads(body))


def test_docker_compose_starts_the_example_and_takes_it_away(host: Host) -> None:
    assert COMPOSE is not None
    project = host.root / "srv" / "project"
    shutil.copytree(PROJECT, project, ignore=LEFT_OUT, symlinks=True)
    (project / "override.yaml").write_text(OVERRIDE)
    plugins = host.root / "srv" / "docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    shutil.copy2(COMPOSE, plugins / "docker-compose")
    for public, own in BASES.items():
        if own in (SERVICE_BASE, TRITON_BASE):
            host.docker("tag", own, public)

    def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
        files = f"--file {FILE} --file override.yaml"
        command = f"DOCKER_CONFIG=/srv/docker SERVER__API_KEYS={KEY} docker compose {files}"
        script = f"cd /srv/project && {command} {' '.join(arguments)}"
        done = host.run("sh", "-c", script, timeout=600, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done

    compose("up", "--build", "--wait")
    status, answer = ask(host, f"Authorization: Bearer {KEY}", "Content-Type: audio/flac")
    assert status == 200 and WORDS in answer["data"]["text"].lower(), answer
    status, answer = ask(host, "Content-Type: audio/flac")
    assert status == 401, answer
    for port in (8800, 9800):
        outside = ["curl", "--silent", "--noproxy", "*", "--max-time", "5", f"http://{host.address}:{port}/"]
        assert subprocess.run(outside, check=False).returncode == 7, f"port {port} is open to others"
    started = host.containers()
    assert started.keys() == {"speech-triton-1", "speech-service-1"}

    compose("up", "--wait")
    assert host.containers() == started, "the second up replaces containers"

    compose("down", "--volumes")
    assert host.containers(everything=True) == {}
    assert host.docker("volume", "ls", "--quiet").stdout == ""
