"""Before a gateway dials nodes by TLS, it finds out which of them it can reach.

Docker is a double that runs the command here instead of in a container.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from infra.connection import HERE
from infra.steps import node_ports
from tests.ports import free_port

pytestmark = pytest.mark.fast

DOCKER = """#!/bin/sh
while [ "$1" != --entrypoint ]; do shift; done
shift 3
exec sh "$@"
"""


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")


def test_a_gateway_that_reaches_no_node_stays_as_it_is(tmp_path: Path) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with pytest.raises(node_ports.NoNode, match=f"cannot reach any node with TLS at {dead}"):
        node_ports.check(HERE, "nginx", str(tmp_path), (dead,))


def test_nodes_that_do_not_answer_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        node_ports.check(HERE, "nginx", str(tmp_path), (there, dead))
    assert capsys.readouterr().out == f"the gateway cannot reach these nodes with TLS: {dead}\n"


def test_a_gateway_that_dials_by_tls_already_is_not_held_back(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / "nginx.conf").write_text("proxy_ssl_verify on;\n")
    node_ports.check(HERE, "nginx", str(tmp_path), (f"127.0.0.1:{free_port()}",))
