"""A node's turn frees its place: from nodes that leave or change later, and from the original service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.connection import Connection
from infra.node_health import NodeAddress, address
from infra.stack import Stack, parse
from infra.update import listing, moves, ports, state, turns
from infra.update.moves import Moves
from infra.update.turns import Entrance, NotEnough, Turns
from tests.infra.conftest import Double

A, B, C = (f"ssh://root@192.0.2.{n}" for n in (1, 2, 3))


def row(
    name: str, published: str = "", *, stack: str = "", role: str = "", project: str = "", service: str = ""
) -> str:
    """A line of `docker ps`; the id of a container is made of its name."""
    status = "Up 2 hours"
    return "\t".join([name, published, f"id-{name}", status, stack, role, project, service])


def node_rows(node: str, http: int = 8800) -> list[str]:
    """The containers of a node of the stack prod, the newest first as `docker ps` prints them."""
    published = f"0.0.0.0:{http}->8800/tcp, :::{http}->8800/tcp, 0.0.0.0:{http + 1000}->9800/tcp"
    return [
        row(f"prod-{node}-service", published, stack="prod", role="service"),
        row(f"prod-{node}-triton", "8000-8002/tcp", stack="prod", role="triton"),
    ]


ORIGINAL = [
    row(
        "gpu-ai-ai-inference-service-1",
        "0.0.0.0:8800->8800/tcp",
        project="gpu-ai",
        service="ai-inference-service",
    ),
    row("gpu-ai-triton-1", "0.0.0.0:8000-8002->8000-8002/tcp", project="gpu-ai", service="triton"),
]


@pytest.fixture
def hosts(tmp_path: Path, double: Double) -> dict[str, list[str]]:
    """The containers on hosts, by address: what a double of `ssh` answers `docker ps` with."""
    rows: dict[str, list[str]] = {}

    class Rows(dict[str, list[str]]):
        def __setitem__(self, host: str, lines: list[str]) -> None:
            super().__setitem__(host, lines)
            (tmp_path / host.rpartition("@")[2]).write_text("\n".join(lines) + "\n")

    rows = Rows()
    double(
        "ssh",
        'case "$*" in *--quiet*) sed "s/.*\\(id-[^\\t]*\\)\\t.*/\\1/" ' + str(tmp_path) + "/192.0.2.*;; "
        '*"docker ps"*) for at in 1 2 3; do case "$*" in *root@192.0.2.$at*) '
        f"cat {tmp_path}/192.0.2.$at 2>/dev/null;; esac; done;; "
        "*RestartPolicy*) echo id-gpu-ai-triton-1 always;; esac",
    )
    return rows


def declared(*nodes: tuple[str, str], **rollout: Any) -> Stack:
    entries = [{"name": name, "host": host} for name, host in nodes]
    return parse({"nodes": entries, "gateway": {"host": C}, "rollout": rollout}, "prod")


def moves_of(stack: Stack) -> Moves:
    return Moves(stack, stack.ssh, "prod")


def places(moves: Moves, node: str) -> list[str]:
    return [name for standing in moves.standing(node) for name in standing.names]


def test_a_new_name_takes_the_place_of_the_old_one(hosts: dict[str, list[str]]) -> None:
    hosts[A] = [*node_rows("gpu-1"), row("web", "0.0.0.0:80->80/tcp")]
    assert places(moves_of(declared(("gpu-one", A))), "gpu-one") == [
        "prod-gpu-1-triton",
        "prod-gpu-1-service",
    ]


def test_nodes_that_swap_take_each_others_places(hosts: dict[str, list[str]]) -> None:
    hosts[A], hosts[B] = node_rows("gpu-1"), node_rows("gpu-2")
    swap = moves_of(declared(("gpu-1", B), ("gpu-2", A)))
    assert places(swap, "gpu-1") == ["prod-gpu-2-triton", "prod-gpu-2-service"]
    assert places(swap, "gpu-2") == ["prod-gpu-1-triton", "prod-gpu-1-service"]
    assert [place.connection.host for place in swap.leaving("gpu-1")] == [A]


def test_a_node_that_stays_gives_only_the_container_with_the_port(hosts: dict[str, list[str]]) -> None:
    hosts[A] = [*node_rows("gpu-1", 8800), *node_rows("gpu-2", 8900)]
    nodes = [
        {"name": "gpu-1", "host": A, "ports": {"http": 8900, "grpc": 9900}},
        {"name": "gpu-2", "host": A, "ports": {"http": 8800, "grpc": 9800}},
    ]
    stack = parse({"nodes": nodes, "gateway": {"host": C}}, "prod")
    assert places(moves_of(stack), "gpu-1") == ["prod-gpu-2-service"]


@pytest.mark.parametrize("others", [node_rows("gpu-1"), []])
def test_what_keeps_its_place_is_left_alone(hosts: dict[str, list[str]], others: list[str]) -> None:
    hosts[A], hosts[B] = (
        others,
        [row("other-gpu-2-service", "0.0.0.0:8800->8800/tcp", stack="other", role="service")],
    )
    stay = moves_of(declared(("gpu-1", A), ("gpu-2", B)))
    assert places(stay, "gpu-1") == places(stay, "gpu-2") == []


def test_the_original_service_is_stopped_only_where_the_stack_takes_it_over(
    hosts: dict[str, list[str]],
) -> None:
    hosts[A] = ORIGINAL
    assert places(moves_of(declared(("gpu-1", A))), "gpu-1") == []
    taken = moves_of(declared(("gpu-1", A), takeOver=True))
    assert places(taken, "gpu-1") == ["gpu-ai-triton-1", "gpu-ai-ai-inference-service-1"]
    assert taken.original("gpu-1") is not None


@pytest.mark.parametrize(
    ("container", "project"),
    [
        (row("gpu-ai_triton_1"), "gpu-ai"),
        (row("x", project="site", service="ai-inference-service"), "site"),
        (row("edge-llm-node"), ""),
        (row("web", project="site", service="web"), None),
        (row("prod-gpu-1-triton", stack="prod", role="triton"), None),
        (row("my-tritonserver"), None),
    ],
)
def test_containers_of_the_original_service_are_known_by_compose(container: str, project: str | None) -> None:
    assert listing.listed(container)[0].original == project


def test_what_was_stopped_is_started_again_runtime_first(hosts: dict[str, list[str]], tmp_path: Path) -> None:
    hosts[A] = ORIGINAL
    taken = moves_of(declared(("gpu-1", A), takeOver=True))
    taken.clear("gpu-1")
    assert taken.cleared == ["gpu-1"]
    taken.give_back("gpu-1")
    assert taken.cleared == []
    calls = (tmp_path / "doubles" / "ssh.calls").read_text()
    order = [
        "docker update --restart no",
        "docker stop --time 60 id-gpu-ai-ai-inference-service-1",
        "docker stop --time 60 id-gpu-ai-triton-1",
        "docker update --restart always id-gpu-ai-triton-1",
        "docker start id-gpu-ai-triton-1",
        "docker start id-gpu-ai-ai-inference-service-1",
    ]
    at = [calls.index(text) for text in order]
    assert at == sorted(at)


def test_the_place_on_a_host_that_the_stack_has_left_is_in_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = "urn:pulumi:prod::p::pulumi:providers:docker::docker@x"
    resources = [
        {"urn": provider, "type": "pulumi:providers:docker", "inputs": {"host": A}},
        {
            "urn": "urn:x",
            "type": "docker:index/container:Container",
            "provider": f"{provider}::id",
            "inputs": {"name": "prod-gpu-1-service"},
        },
    ]
    monkeypatch.setattr(state, "export", lambda stack: {"resources": resources})
    left = moves_of(declared(("gpu-1", B))).left("gpu-1")
    assert left is not None
    assert (left.connection.host, left.service) == (A, "prod-gpu-1-service")
    assert moves_of(declared(("gpu-1", A))).left("gpu-1") is None, "the stack still has this host"


def turns_of(stack: Stack, file: Path, moves_: Moves, monkeypatch: pytest.MonkeyPatch) -> Turns:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_POLL_SECONDS", 0.01)
    nodes = {node.name: address(stack, node, stack.ssh) for node in stack.nodes}
    dialled = {node.name: f"{node.public_host}:{node.public_http_port}" for node in stack.nodes}
    entrance = Entrance(Connection("unix:///nowhere.sock"), str(file))
    return Turns(nodes, frozenset(), stack.rollout, entrance, moves_, dialled)


def serving(monkeypatch: pytest.MonkeyPatch, *places: str) -> set[str]:
    """The nodes that answer, `name@host`: a double of the question that `node_health` asks over SSH."""
    given = set(places)

    def problems(nodes: list[NodeAddress], seconds: float) -> dict[str, str]:
        def place(node: NodeAddress) -> str:
            return f"{node.node.partition(' ')[0]}@{node.connection.host}"

        return {node.node: "it is not there" for node in nodes if place(node) not in given}

    monkeypatch.setattr(turns, "problems", problems)
    return given


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The gateway's file, which names gpu-1 on the first host and gpu-2 on the second."""
    file = tmp_path / "servers.conf"
    file.write_text(
        "server 192.0.2.1:8800 max_fails=3; # gpu-1\nserver 192.0.2.2:8800 max_fails=3; # gpu-2\n"
    )
    return file


def test_a_swap_takes_no_place_before_the_other_serves(
    hosts: dict[str, list[str]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts[A], hosts[B] = node_rows("gpu-1"), node_rows("gpu-2")
    stack = declared(("gpu-1", B), ("gpu-2", A))
    serves = serving(monkeypatch, f"gpu-1@{A}", f"gpu-2@{B}")
    swap = turns_of(stack, file, moves_of(stack), monkeypatch)
    assert swap.take("gpu-1") is False
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.0)
    serves.discard(f"gpu-2@{B}")
    swap.finish("gpu-1")
    with pytest.raises(NotEnough, match="node gpu-2 stays as it is: 0 other nodes serve"):
        swap.take("gpu-2")
    serves.add(f"gpu-1@{B}")
    assert swap.take("gpu-2") is False


def test_the_place_of_the_only_node_that_serves_is_not_taken(
    hosts: dict[str, list[str]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts[A], hosts[B] = node_rows("gpu-1"), node_rows("gpu-2")
    stack = declared(("gpu-one", A), ("gpu-2", B))
    serving(monkeypatch, f"gpu-1@{A}")
    with pytest.raises(NotEnough, match="gpu-2: it is not there"):
        turns_of(stack, file, moves_of(stack), monkeypatch).take("gpu-one")


def test_the_original_service_is_not_stopped_while_no_other_serves(
    hosts: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts[A], hosts[B] = ORIGINAL, ORIGINAL
    stack = declared(("gpu-1", A), ("gpu-2", B), takeOver=True)
    serving(monkeypatch)
    silent = {B}
    monkeypatch.setattr(
        moves, "silent", lambda each, seconds: "no" if each.connection.host in silent else None
    )
    taken = turns_of(stack, tmp_path / "none", moves_of(stack), monkeypatch)
    with pytest.raises(NotEnough):
        taken.take("gpu-1")
    silent.clear()
    assert taken.take("gpu-1") is False


@pytest.mark.parametrize(
    ("rows", "take_over", "reason", "remedy"),
    [
        (node_rows("gone"), False, None, ""),
        (ORIGINAL, True, None, ""),
        (ORIGINAL, False, "gpu-ai-ai-inference-service-1 of the original service", "rollout.takeOver: true"),
        (
            [row("other-a-service", "0.0.0.0:8800->8800/tcp", stack="other", role="service")],
            True,
            "the container other-a-service of the stack other",
            "set nodes[0].ports.http to another port",
        ),
        (
            [row("prod-gateway", "0.0.0.0:8800->8080/tcp", stack="prod", role="gateway")],
            True,
            "prod-gateway of this stack, which stays until the end of the update",
            "set nodes[0].ports.http to another port; the next update may set it back",
        ),
    ],
)
def test_nobody_is_told_to_stop_what_an_update_stops(
    rows: list[str], take_over: bool, reason: str | None, remedy: str
) -> None:
    stack = declared(("gpu-1", A))
    published = [port for port in ports.published(stack, stack.nodes[0].host) if port.node]
    found = ports.taken(published, "\n".join(rows) + "\n--\n--\n--\n", "prod", take_over=take_over)
    if reason is None:
        assert found == []
        return
    assert reason in found[0].reason
    assert remedy in found[0].remedy
    assert "docker stop" not in found[0].remedy
