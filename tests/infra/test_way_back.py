"""An update that fails puts back what the changed nodes ran before."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.connection import Connection
from infra.node_health import NodeAddress, sickness
from infra.stack import parse
from infra.update import way_back
from infra.update.moves import Moves
from infra.update.turns import Turns
from infra.update.way_back import WayBack
from tests.infra.conftest import Double

HERE = Connection("unix:///nowhere.sock")

# Answers as the Docker Engine does: it stays until the client closes its end, and records the requests.
ENGINE = """
import json, sys
head = b""
while not head.endswith(b"\\r\\n\\r\\n"):
    head += sys.stdin.buffer.read(1)
length = int(head.lower().split(b"content-length:")[1].split()[0])
body = sys.stdin.buffer.read(length)
line = head.split(b"\\r\\n")[0].decode()
with open(sys.argv[1], "a") as file:
    file.write(json.dumps([line, body.decode()]) + "\\n")
answer = b'{"Id": "made"}' if "create" in line else b""
sys.stdout.buffer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer) + answer)
sys.stdout.flush()
sys.stdin.buffer.read()
"""


def described(part: str, created: str) -> dict[str, Any]:
    """What `docker inspect` says of a container, as far as it matters here."""
    return {
        "Id": "0123456789abcdef",
        "Image": f"sha256:{part}",
        "Name": f"/prod-gpu-1-{part}",
        "Created": created,
        "Config": {
            "Image": f"repo/{part}:1",
            "Env": ["A=b"],
            "Labels": {"gpu-inference.stack": "prod"},
            "Hostname": "x",
        },
        "HostConfig": {"Memory": 5},
        "NetworkSettings": {"Networks": {"prod-gpu-1": {"Aliases": [part, "0123456789ab"]}}},
    }


@pytest.fixture
def docker(tmp_path: Path, double: Double) -> tuple[Path, Path]:
    """A host with a node's containers: the calls of `docker`, and the requests to the Docker Engine."""
    (tmp_path / "engine.py").write_text(ENGINE)
    inspected = [described("service", "2026-01-01T00:00:02Z"), described("triton", "2026-01-01T00:00:01Z")]
    (tmp_path / "inspect.json").write_text(json.dumps(inspected))
    requests = tmp_path / "requests"
    calls = double(
        "docker",
        f'case "$1" in inspect) cat {tmp_path}/inspect.json;; cp) printf archive;;'
        f" system) exec {sys.executable} {tmp_path}/engine.py {requests};; esac",
    )
    return calls, requests


def nodes(*names: str) -> dict[str, NodeAddress]:
    return {
        name: NodeAddress(name, HERE, f"prod-{name}-service", (f"prod-{name}-service", f"prod-{name}-triton"))
        for name in names
    }


def fleet(*names: str) -> WayBack:
    known = nodes(*names)
    declared = [
        {"name": name, "host": "unix:///nowhere.sock", "ports": {"http": 8800 + n, "grpc": 9800 + n}}
        for n, name in enumerate(names)
    ]
    stack = parse({"nodes": declared}, "prod")
    moves = Moves(stack, stack.ssh, "prod")
    turns = Turns(known, frozenset(), stack.rollout, None, moves)
    return WayBack(known, {}, lambda name, versions: None, turns, moves, 1.0)


def test_containers_are_created_again_as_they_were_oldest_first(docker: tuple[Path, Path]) -> None:
    calls, requests = docker
    one = fleet("gpu-1", "gpu-2")
    one.remember("gpu-1")
    said = one.undo("gpu-1")
    assert said == "node gpu-1 runs again what was deployed before"
    lines = [json.loads(line) for line in requests.read_text().splitlines()]
    assert [line for line, _ in lines] == [
        "POST /containers/create?name=prod-gpu-1-triton HTTP/1.1",
        "POST /containers/create?name=prod-gpu-1-service HTTP/1.1",
        "PUT /containers/made/archive?path=/etc HTTP/1.1",
    ]
    body = json.loads(lines[1][1])
    assert body["Image"] == "repo/service:1"
    assert body["HostConfig"] == {"Memory": 5}
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"prod-gpu-1": {"Aliases": ["service"]}}
    assert body["Labels"]["gpu-inference.stack"] == "prod"
    assert "gpu-inference.rolled-back" in body["Labels"]
    assert lines[2][1] == "archive", "the settings"
    called = calls.read_text()
    assert called.index("rm --force --volumes prod-gpu-1-service") < called.index("start made")


def test_the_images_that_a_node_ran_are_kept_until_its_next_change(
    tmp_path: Path, docker: tuple[Path, Path], double: Double
) -> None:
    """A clean-up of old images may remove the only name of what a canary goes back to."""
    images = {"sha256:service": ["repo/service:1"], "sha256:triton": ["repo/triton:1"]}
    store = tmp_path / "images"
    store.write_text("".join(f"{name} {image}\n" for image, all in images.items() for name in all))
    calls = double(
        "docker",
        f"""
case "$1 $2" in
  "inspect "*) cat {tmp_path}/inspect.json;;
  "tag "*) image=$(awk -v n="$2" '$1 == n {{print $2}}' {store}); echo "$3 ${{image:-$2}}" >>{store};;
  "image inspect")
    shift 2; [ "$1" != --format ] || shift 2
    awk -v n="$1" '$1 == n {{print $2; found = 1}} END {{exit !found}}' {store};;
  "system dial-stdio") exec {sys.executable} {tmp_path}/engine.py {docker[1]};;
esac""",
    )
    one = fleet("gpu-1", "gpu-2")
    one.remember("gpu-1")
    kept = store.read_text().splitlines()
    store.write_text("".join(f"{line}\n" for line in kept if not line.startswith("repo/")))
    assert "runs again what was deployed before" in one.undo("gpu-1")
    assert {"repo/service:1 sha256:service", "repo/triton:1 sha256:triton"} <= set(
        store.read_text().splitlines()
    )
    called = calls.read_text()
    assert called.rindex("tag ") < called.index("rm --force"), (
        "nothing is removed that has no image to come back"
    )


def test_a_node_that_ran_nothing_before_has_no_way_back(tmp_path: Path, docker: tuple[Path, Path]) -> None:
    (tmp_path / "inspect.json").write_text("[]")
    one = fleet("gpu-1")
    one.remember("gpu-1")
    assert one.undo("gpu-1") == "no node served before its change"
    assert not docker[1].exists()


def test_a_node_that_did_not_serve_has_no_way_back(
    docker: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way_back, "problem", lambda node, seconds: "no model")
    one = fleet("gpu-1")
    one.remember("gpu-1")
    assert one.undo("gpu-1") == "no node served before its change"


def test_the_only_node_that_serves_keeps_the_change(
    docker: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fleet("gpu-1")
    one.remember("gpu-1")
    assert "keeps the change, because no other node serves" in one.undo("gpu-2")
    again = fleet("gpu-1")
    again.remember("gpu-1")
    monkeypatch.setattr(way_back, "problem", lambda node, seconds: "no model")
    assert "is not healthy: no model" in again.undo("gpu-1"), "one that does not serve has nothing to lose"


def test_what_was_put_back_counts_as_sick_so_that_the_next_update_replaces_it(double: Double) -> None:
    double("docker", 'case "$*" in *rolled-back*) echo "2026-01-01 10:00:00";; esac')
    [node] = nodes("gpu-1").values()
    assert sickness(node, 1) == "it runs what was deployed before an update that failed"
    double("docker", 'case "$*" in *rolled-back*) echo "<no value>";; esac')
    assert sickness(node, 1) is None
